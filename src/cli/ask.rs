//! Asks the daemon a query and prints what it answers: as a table for people, or as JSON.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::app;
use crate::broker::{Client, Options, Outgoing, Properties};
use crate::commands;
use crate::config::Config;

use super::send::{new_id, user_of};

/// In whose name the daemon is asked, and how the answer is shown.
#[derive(Debug, Args)]
pub struct Asking {
    /// Ask in the name of this person, whose roles decide what is shown. Default: as the system, which needs `system = true`.
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// Send in the name of this broker user; needs the RabbitMQ tag `impersonator`. Default: the user of broker.url.
    #[arg(long = "as", value_name = "PUBLISHER")]
    publisher: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// Seconds to wait for the reply.
    #[arg(long, default_value_t = 30)]
    timeout: u64,
}

/// Asks the daemon, over a connection of its own.
pub struct Asker<'a> {
    asking: &'a Asking,
    config: &'a Config,
    client: Client,
}

/// Why a query has no result.
#[derive(Debug)]
pub enum Failure {
    /// The daemon says no.
    Refused {
        /// The error's code.
        code: String,
        /// The explanation, for people.
        message: String,
        /// The error's `details`.
        details: Value,
    },
    /// The daemon could not be asked.
    Lost(String),
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost(reason) => reason,
            Failure::Refused { code, message, details } => {
                let candidates = details["candidates"].as_array().into_iter().flatten();
                let candidates: Vec<String> = candidates
                    .map(|one| format!("\n  id={}  ({})", word(&one["id"]), word(&one["username"])))
                    .collect();
                format!("{code}: {}{}", plain(&message), candidates.concat())
            }
        }
    }
}

impl<'a> Asker<'a> {
    /// Connects.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn connect(asking: &'a Asking, config: &'a Config) -> Result<Self, String> {
        let options = Options { url: config.broker.url.clone(), connection_name: "regrant query".to_owned() };
        let client = Client::connect(&options).await.map_err(|e| format!("broker.url: {e}"))?;
        Ok(Self { asking, config, client })
    }

    /// Sends a query and returns its result.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask(&self, query: &str, mut body: Value) -> Result<Value, Failure> {
        if let Some(actor) = &self.asking.actor {
            body["actor"] = json!({ "id": actor });
        }
        // What the daemon could not understand would become a dead letter.
        if let (Some(spec), Some(fields)) = (commands::find(query), body.as_object()) {
            spec.check(fields.clone()).map_err(|invalid| Failure::Lost(invalid.detail))?;
        }
        let id = new_id().to_string();
        let properties = Properties {
            message_id: Some(id.clone()),
            correlation_id: Some(id),
            content_type: Some("application/json".to_owned()),
            timestamp: u64::try_from(crate::clock::now().timestamp()).ok(),
            user_id: self.asking.publisher.clone().or_else(|| user_of(self.config)),
            ..Properties::default()
        };
        let message = Outgoing {
            exchange: app::topology(self.config).commands_exchange(),
            routing_key: query.to_owned(),
            properties,
            body: body.to_string().into_bytes(),
            persistent: false,
            mandatory: true,
        };
        let reply = self.client.call(message, Duration::from_secs(self.asking.timeout)).await;
        let reply = reply.map_err(|e| Failure::Lost(e.to_string()))?;
        let mut reply: Value =
            serde_json::from_slice(&reply.body).map_err(|e| Failure::Lost(format!("the reply is not JSON: {e}")))?;
        if reply["ok"] == true {
            return Ok(reply["result"].take());
        }
        let error = &mut reply["error"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Err(Failure::Refused {
            code: text(&error["code"]),
            message: text(&error["message"]),
            details: error["details"].take(),
        })
    }

    /// The result of a query about a person whom somebody typed: `id=…`, `username=…`, `email=…`; or just a word, which is an
    /// email address if it holds an @, else an id or, if nobody has that id, a username.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn about(&self, query: &str, who: &str, body: Value) -> Result<Value, Failure> {
        let mut last = None;
        for user in names(who) {
            let mut body = body.clone();
            body["user"] = user;
            match self.ask(query, body).await {
                Err(Failure::Refused { code, message, details }) if code == "user_not_found" => {
                    last = Some(Failure::Refused { code, message, details });
                }
                found => return found,
            }
        }
        Err(last.unwrap_or_else(|| Failure::Lost("nobody was named".to_owned())))
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.client.close().await;
    }
}

/// What a word may mean, in the order in which it is tried.
fn names(who: &str) -> Vec<Value> {
    let named = |form: &str, name: &str| json!({ form: name });
    match who.split_once('=') {
        Some((form @ ("id" | "username" | "email"), name)) => vec![named(form, name)],
        _ if who.contains('@') => vec![named("email", who), named("id", who), named("username", who)],
        _ => vec![named("id", who), named("username", who)],
    }
}

/// Prints a result.
///
/// # Errors
/// When it cannot be written.
pub fn show(asking: &Asking, result: &Value, table: impl FnOnce(&Value) -> String) -> Result<(), String> {
    super::print(&if asking.json { format!("{result:#}\n") } else { table(result) })
}

/// Columns: a title, and where its value is in a row.
pub type Columns = [(&'static str, &'static str)];

/// A table of rows; empty columns are left out.
pub fn table(rows: &Value, columns: &Columns) -> String {
    let rows: Vec<&Value> = rows.as_array().into_iter().flatten().collect();
    if rows.is_empty() {
        return "nothing found\n".to_owned();
    }
    // Each begins with its title.
    let mut cells: Vec<Vec<String>> = Vec::new();
    for (title, field) in columns {
        let values: Vec<String> = rows.iter().map(|row| word(&row[*field])).collect();
        if values.iter().any(|value| !value.is_empty()) {
            cells.push(std::iter::once((*title).to_owned()).chain(values).collect());
        }
    }
    let width = |column: &Vec<String>| column.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = cells.iter().map(width).collect();
    let mut text = String::new();
    for number in 0..=rows.len() {
        let line: Vec<String> =
            cells.iter().zip(&widths).map(|(column, width)| format!("{:<width$}", column[number])).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The table of one page, and how to see the next.
pub fn page(result: &Value, rows: &str, columns: &Columns) -> String {
    let mut text = table(&result[rows], columns);
    if let Some(cursor) = result["next_cursor"].as_str() {
        text.extend(["there is more: --cursor ", cursor, "\n"]);
    }
    text
}

/// A value in a few words.
pub fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => plain(text),
        Value::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            fields.map(|(name, value)| format!("{}={}", plain(name), word(value))).collect::<Vec<_>>().join(" ")
        }
    }
}

/// What a mail server or a person wrote must not move the cursor of a terminal, or turn its text round.
pub fn plain(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_tried_as_what_it_looks_like() {
        for (who, expected) in [
            ("ada", json!([{ "id": "ada" }, { "username": "ada" }])),
            (
                "ada@example.com",
                json!([{ "email": "ada@example.com" }, { "id": "ada@example.com" }, { "username": "ada@example.com" }]),
            ),
            ("id=ada@example.com", json!([{ "id": "ada@example.com" }])),
            ("username=ada", json!([{ "username": "ada" }])),
            ("email=ada@example.com", json!([{ "email": "ada@example.com" }])),
            ("a=b", json!([{ "id": "a=b" }, { "username": "a=b" }])),
        ] {
            assert_eq!(Value::from(names(who)), expected);
        }
    }

    #[test]
    fn a_table_is_readable_and_harmless() {
        let result = json!({
            "rows": [
                { "at": "2026-11-22", "what": "user.block", "details": { "reason": "fraud", "ip": null }, "n": null },
                { "at": "2026-11-23", "what": "ü\u{1b}[2Jx", "details": {}, "n": null },
            ],
            "next_cursor": "abc",
        });
        let columns = [("WHEN", "at"), ("WHAT", "what"), ("NUMBER", "n"), ("DETAILS", "details")];
        assert_eq!(
            page(&result, "rows", &columns),
            "WHEN        WHAT        DETAILS\n2026-11-22  user.block  reason=fraud\n2026-11-23  ü\u{fffd}[2Jx\nthere is more: --cursor abc\n"
        );
        assert_eq!(page(&json!({ "rows": [], "next_cursor": null }), "rows", &columns), "nothing found\n");
    }
}
