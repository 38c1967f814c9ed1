//! `regrant send`: publishes one command, and prints the reply.

mod body;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
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
    /// The body: one JSON object, or `key=value` pairs such as `user.id=ada`. A value is text, or JSON where the command takes
    /// something else, such as `limit=5`.
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
    if commands::find(&send.command).is_none() {
        let hint = commands::nearest(&send.command).map(|meant| format!("; did you mean `{meant}`?"));
        let hint = hint.unwrap_or_default();
        return Err(format!("no command is called `{}`{hint}", send.command));
    }
    let body = body::body(&send.command, &send.body)?;
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
