//! What the reference says of events: each with its schema and one that really was made by [`cloud_event`].

use chrono::{DateTime, TimeDelta, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use uuid::Uuid;

use crate::domain::account::ChangedBy;
use crate::domain::time::Timestamp;

use super::{EmailNews, Event, Origin, QueuedEvent, cloud_event, data};

/// An event's part of the reference.
#[derive(Clone, Copy)]
pub struct EventDoc {
    /// When it is published.
    pub description: &'static str,
    /// `data`, without what every event has.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// One of them.
    pub example: fn() -> Event,
}

/// Every event there is, in the order of the reference.
pub const EVENTS: &[EventDoc] = &[
    doc::<data::Nothing>("A profile was put for the first time.", || Event::UserCreated),
    doc::<data::Nothing>("A profile changed.", || Event::UserUpdated),
    doc::<data::Nothing>("A deactivated person may sign in again.", || Event::UserActivated),
    doc::<data::Nothing>("A person was deactivated. `session.revoked` follows.", || Event::UserDeactivated),
    doc::<data::Nothing>("A person was blocked. `session.revoked` follows.", || Event::UserBlocked),
    doc::<data::Nothing>("A block was lifted.", || Event::UserUnblocked),
    doc::<data::Nothing>("A person's data was erased. Erase what you hold of them.", || Event::UserErased),
    doc::<data::Locked>("Wrong passwords locked the account for a while.", || Event::UserLocked { until: later(15) }),
    doc::<data::ResetRequested>("A reset link or code was made and is on its way by mail.", || {
        Event::PasswordResetRequested { ticket_id: id(2), method: "link", expires_at: later(24 * 60) }
    }),
    doc::<data::PasswordChanged>("A password was changed, by whatever way.", || Event::PasswordChanged {
        by: ChangedBy::Reset,
        temporary: false,
    }),
    doc::<data::TemporaryIssued>("Support issued a temporary password.", || Event::PasswordTemporaryIssued {
        expires_at: later(72 * 60),
    }),
    doc::<data::InviteSent>("An invitation was sent, or sent again.", || Event::InviteSent {
        ticket_id: id(2),
        expires_at: later(72 * 60),
    }),
    doc::<data::Nothing>("An invitation was accepted: the person has a password now.", || Event::InviteAccepted),
    doc::<data::InviteRevoked>("An invitation was withdrawn.", || Event::InviteRevoked { ticket_id: id(2) }),
    doc::<data::Mail>("The mail server took a mail.", || mail(EmailNews::Sent, "250 2.0.0 queued as 4FX1")),
    doc::<data::Mail>(
        "A mail was given up: `state` says whether the mail server refused it for good (`failed`), it could not be sent in time \
         (`expired`), or nothing is sent to the address any more (`suppressed`).",
        || mail(EmailNews::Failed, "550 5.1.1 no such mailbox"),
    ),
    doc::<data::Mail>(
        "The mail provider reported that a mail came back, or that the person complained of it; also when what it says now of a \
                     mail that came back before suppresses the address.",
        || mail(EmailNews::Bounced, "550 5.1.1 mailbox is gone"),
    ),
    doc::<data::Nothing>("The person proved that mail reaches them.", || Event::EmailVerified),
    doc::<data::SessionOpened>("A person signed in, or support did in their name.", || Event::SessionOpened {
        session_id: id(4),
        impersonated_by: None,
    }),
    doc::<data::SessionClosed>("A person signed out.", || Event::SessionClosed { session_id: id(4) }),
    doc::<data::SessionRevoked>(
        "Sessions were ended by somebody else or by a changed password. End them in your app too: those of `session_ids`, \
         and those of an older `session_epoch` but `except_session_id`.",
        || Event::SessionRevoked {
            session_ids: vec![id(4)],
            all: true,
            session_epoch: 3,
            reason: Some("password_changed".to_owned()),
            except_session_id: None,
        },
    ),
    doc::<data::TemplateInvalid>(
        "A saved email template has faults; its last good version stays in use. It is about no person: `subject` is the template.",
        || Event::TemplateInvalid {
            template: "invite".to_owned(),
            errors: vec!["email_templates/invite/body.txt.hbs:3:9: there is no placeholder `invte_link`".to_owned()],
        },
    ),
];

const fn doc<D: JsonSchema>(description: &'static str, example: fn() -> Event) -> EventDoc {
    EventDoc { description, schema: D::json_schema, example }
}

impl EventDoc {
    /// The routing key.
    pub fn name(&self) -> &'static str {
        (self.example)().name()
    }

    /// An event as it is published.
    pub fn published(&self) -> QueuedEvent {
        let event = (self.example)();
        let subject = if matches!(event, Event::TemplateInvalid { .. }) { "invite" } else { "ada" };
        let origin = match event {
            Event::TemplateInvalid { .. } => Origin::default(),
            _ => Origin {
                actor: None,
                // What becomes of a mail is told long after its command, of which the mail keeps the id.
                publisher: (!matches!(event.name(), "email.sent" | "email.failed")).then_some("shop"),
                command_id: Some("01a31938-0a00-7f85-b17b-4c9d2e6f0a53"),
                traceparent: None,
            },
        };
        cloud_event(&event, subject, id(1), then(), "regrant", &origin)
    }
}

/// What every event's `data` may hold beside its own fields, where known.
#[derive(Serialize, JsonSchema)]
pub struct OriginData {
    /// The id of the person of support who acted, or `system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The publisher of the command behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// The `message_id` of the command behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_id: Option<String>,
}

/// The envelope: [CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md), structured mode.
#[derive(Serialize, JsonSchema)]
pub struct Envelope {
    /// The version of the envelope.
    #[schemars(extend("const" = "1.0"))]
    pub specversion: String,
    /// The same whenever the event is delivered again: what to know repeats by.
    pub id: Uuid,
    /// `events.source` of the configuration.
    pub source: String,
    /// `regrant.` and the event's name.
    pub r#type: String,
    /// The id of the person whom it is about.
    pub subject: String,
    /// When it happened.
    pub time: Timestamp,
    /// Of `data`.
    #[schemars(extend("const" = "application/json"))]
    pub datacontenttype: String,
    /// W3C trace context of the command behind it, where it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

fn mail(news: EmailNews, reply: &str) -> Event {
    let template = "password_reset_link".to_owned();
    Event::Email { email_id: id(3), template, news, smtp_reply: Some(reply.to_owned()) }
}

fn then() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_356_120, 0).unwrap_or_default()
}

fn later(minutes: i64) -> DateTime<Utc> {
    then() + TimeDelta::minutes(minutes)
}

/// A UUIDv7 of that moment.
fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x01a2_0390_53c0_7b52_8c4d_1e6f_9a3b_7c20 + number)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn each_event_as_it_is_published() {
        for doc in EVENTS {
            let published: Value = serde_json::from_str(&doc.published().body).unwrap();
            insta::assert_json_snapshot!(doc.name(), published);
        }
    }

    #[test]
    fn each_is_listed_once() {
        let mut names: Vec<_> = EVENTS.iter().map(EventDoc::name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
