//! `regrant send`: publishes one command, and prints the reply.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::app;
use crate::broker::{Client, Options, Outgoing, Properties};
use crate::commands;
use crate::config::Config;
use crate::ids::Ids;

use super::{Outcome, print};

/// Publish one command to the broker.
#[derive(Debug, Args)]
pub struct Send {
    /// The command's name, for example `password.reset.request`.
    command: String,
    /// The body: one JSON object, or `key=value` pairs such as `user.id=ada`. A value that is valid JSON is taken as JSON.
    body: Vec<String>,
    /// Send in the name of this broker user; needs the RabbitMQ tag `impersonator`. Default: the user of broker.url.
    #[arg(long = "as", value_name = "PUBLISHER")]
    publisher: Option<String>,
    /// Wait for the reply and print it; exit 1 if it is an error.
    #[arg(long)]
    wait: bool,
    /// Seconds to wait for the reply.
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    /// The message id: the same one again repeats nothing. Default: a new one.
    #[arg(long)]
    message_id: Option<String>,
}

/// Publishes, and waits if asked.
///
/// # Errors
/// When the body cannot be read, or the broker does not take the message.
pub async fn run(send: &Send, config: &Config) -> Outcome {
    let body = body(&send.body)?;
    if commands::find(&send.command).is_none() {
        let hint = commands::nearest(&send.command).map(|meant| format!("; did you mean `{meant}`?"));
        let hint = hint.unwrap_or_default();
        return Err(format!("no command is called `{}`{hint}", send.command));
    }
    let options = Options { url: config.broker.url.clone(), connection_name: "regrant send".to_owned() };
    let client = Client::connect(&options).await.map_err(|e| format!("broker.url: {e}"))?;
    let message_id = send.message_id.clone().unwrap_or_else(|| new_id().to_string());
    let publisher = send.publisher.clone().or_else(|| user_of(config));
    let properties = Properties {
        message_id: Some(message_id.clone()),
        correlation_id: Some(message_id.clone()),
        content_type: Some("application/json".to_owned()),
        timestamp: u64::try_from(crate::clock::now().timestamp()).ok(),
        user_id: publisher,
        ..Properties::default()
    };
    let message = Outgoing {
        exchange: app::topology(config).commands_exchange(),
        routing_key: send.command.clone(),
        properties,
        body: Value::Object(body).to_string().into_bytes(),
        persistent: true,
        mandatory: true,
    };
    let patience = Duration::from_secs(send.timeout);
    let outcome = if send.wait {
        call(&client, message, patience).await
    } else {
        let taken = client.publish(message).await.map_err(|e| e.to_string());
        taken.and_then(|()| print(&format!("published as {message_id}\n"))).map(|()| ExitCode::SUCCESS)
    };
    client.close().await;
    outcome
}

async fn call(client: &Client, message: Outgoing, patience: Duration) -> Outcome {
    let reply = client.call(message, patience).await.map_err(|e| e.to_string())?;
    let reply: Value = serde_json::from_slice(&reply.body).map_err(|e| format!("the reply is not JSON: {e}"))?;
    print(&format!("{reply:#}\n"))?;
    Ok(if reply["ok"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn user_of(config: &Config) -> Option<String> {
    use secrecy::ExposeSecret;
    let url = url::Url::parse(config.broker.url.expose_secret()).ok()?;
    Some(if url.username().is_empty() { "guest".to_owned() } else { url.username().to_owned() })
}

#[expect(clippy::disallowed_methods, reason = "a message id of the shell")]
pub(super) fn new_id() -> Uuid {
    Ids::default().next(crate::clock::now(), &mut rand::rng())
}

/// A JSON object, or `a.b=value` pairs.
fn body(words: &[String]) -> Result<Map<String, Value>, String> {
    if let [one] = words
        && one.trim_start().starts_with('{')
    {
        return serde_json::from_str(one).map_err(|e| format!("the body is not a JSON object: {e}"));
    }
    let mut body = Map::new();
    for word in words {
        let (path, value) =
            word.split_once('=').ok_or_else(|| format!("`{word}`: write key=value, or one JSON object"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        put(&mut body, path, value)?;
    }
    Ok(body)
}

fn put(map: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), String> {
    match path.split_once('.') {
        None => {
            map.insert(path.to_owned(), value);
            Ok(())
        }
        Some((head, rest)) => {
            let inner = map.entry(head).or_insert_with(|| Value::Object(Map::new()));
            let inner =
                inner.as_object_mut().ok_or_else(|| format!("`{head}` is given twice, as a value and as an object"))?;
            put(inner, rest, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(words: &[&str]) -> Result<Value, String> {
        body(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).map(Value::Object)
    }

    #[test]
    fn bodies_are_json_or_pairs() {
        assert_eq!(read(&[]).unwrap(), json!({}));
        assert_eq!(read(&[r#"{"user": {"id": "ada"}}"#]).unwrap(), json!({ "user": { "id": "ada" } }));
        assert_eq!(
            read(&["user.id=ada", "user.email_verified=true", "reason=lost phone", r#"roles=["a"]"#]).unwrap(),
            json!({ "user": { "id": "ada", "email_verified": true }, "reason": "lost phone", "roles": ["a"] })
        );
        assert!(read(&["user"]).unwrap_err().contains("key=value"));
        assert!(read(&["user=1", "user.id=a"]).unwrap_err().contains("twice"));
    }
}
