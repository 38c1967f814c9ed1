//! Answers: as callers get them, and as they are remembered.

use serde_json::{Map, Value, json};

use crate::broker::{Delivery, Outgoing, Properties};
use crate::commands::Reply;
use crate::domain::rejection::{Outcome, Rejection};

/// An answer in two forms: a secret is told once and never recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// For the caller.
    pub told: Value,
    /// For the inbox.
    pub recorded: Value,
    /// How it ended.
    pub outcome: Outcome,
}

/// The answer of a command that was done.
pub fn done(message_id: Option<&str>, reply: Reply) -> Answer {
    let recorded = withheld(reply.result.clone(), reply.secrets);
    let wrap = |result| json!({ "ok": true, "result": Value::Object(result) });
    Answer { told: to(message_id, wrap(reply.result)), recorded: wrap(recorded), outcome: Outcome::Done }
}

/// The answer of a command that was refused.
pub fn refused(message_id: Option<&str>, rejection: &Rejection, secrets: &[&str]) -> Answer {
    let recorded = withheld(rejection.details.clone(), secrets);
    let wrap = |details| {
        json!({
            "ok": false,
            "error": { "code": rejection.code.as_str(), "message": rejection.message, "details": Value::Object(details) },
        })
    };
    Answer {
        told: to(message_id, wrap(rejection.details.clone())),
        recorded: wrap(recorded),
        outcome: Outcome::Refused(rejection.code),
    }
}

fn withheld(mut fields: Map<String, Value>, secrets: &[&str]) -> Map<String, Value> {
    for secret in secrets {
        if let Some(value) = fields.get_mut(*secret) {
            *value = Value::Null;
            fields.insert("secret_withheld".to_owned(), true.into());
        }
    }
    fields
}

/// An answer to this message. The id is not recorded: it is upstream's, and may name a person.
fn to(message_id: Option<&str>, mut answer: Value) -> Value {
    answer["message_id"] = message_id.into();
    answer
}

/// The first answer once more.
pub fn repeated(message_id: Option<&str>, mut recorded: Value) -> Value {
    recorded["duplicate"] = true.into();
    to(message_id, recorded)
}

/// The message that carries an answer, if the caller wants one.
pub fn message(delivery: &Delivery, body: &Value) -> Option<Outgoing> {
    let reply_to = delivery.properties.reply_to.clone().filter(|queue| !queue.is_empty())?;
    Some(Outgoing {
        exchange: String::new(),
        routing_key: reply_to,
        properties: Properties {
            content_type: Some("application/json".to_owned()),
            correlation_id: delivery.properties.correlation_id.clone(),
            kind: Some(delivery.routing_key.clone()),
            app_id: Some("regrant".to_owned()),
            ..Properties::default()
        },
        body: body.to_string().into_bytes(),
        persistent: false,
        mandatory: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_told_but_not_recorded() {
        let reply = Reply {
            secrets: &["temporary_password"],
            ..Reply::of(json!({ "temporary_password": "x", "created": true }))
        };
        let answer = done(Some("m"), reply);
        assert_eq!(answer.told["result"], json!({ "temporary_password": "x", "created": true }));
        assert_eq!((&answer.told["message_id"], answer.recorded.get("message_id")), (&json!("m"), None));
        let again = repeated(Some("m"), answer.recorded);
        assert_eq!(again["result"], json!({ "temporary_password": null, "secret_withheld": true, "created": true }));
        assert_eq!((&again["duplicate"], &again["message_id"]), (&json!(true), &json!("m")));
    }
}
