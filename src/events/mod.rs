//! What happened, for upstream apps: the event types and their data (contract, section 3).
//!
//! An event is written to the outbox by the transaction that made it true; [`relay`] publishes it.

pub mod document;
pub mod packed;
pub mod relay;

mod data;
mod refused;
mod steps;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::account::ChangedBy;
use crate::domain::ticket::timestamp;

/// Something that happened to a person. No variant can hold a password, token, code or link.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A profile was put for the first time.
    UserCreated,
    /// A profile changed.
    UserUpdated,
    /// A person may sign in again.
    UserActivated,
    /// A person left.
    UserDeactivated,
    /// Support blocked a person.
    UserBlocked,
    /// Support lifted a block.
    UserUnblocked,
    /// A person's data was erased.
    UserErased,
    /// Wrong passwords locked the account.
    UserLocked {
        /// Until when.
        until: DateTime<Utc>,
    },
    /// A reset ticket was opened.
    PasswordResetRequested {
        /// The ticket.
        ticket_id: Uuid,
        /// `link` or `code`.
        method: &'static str,
        /// When it ends.
        expires_at: DateTime<Utc>,
    },
    /// Support made a temporary password.
    PasswordTemporaryIssued {
        /// When it stops working.
        expires_at: DateTime<Utc>,
    },
    /// A password was changed.
    PasswordChanged {
        /// By whom.
        by: ChangedBy,
        /// Whether it must be changed at the next sign-in.
        temporary: bool,
    },
    /// An invitation was sent, or sent again.
    InviteSent {
        /// The ticket.
        ticket_id: Uuid,
        /// When it ends.
        expires_at: DateTime<Utc>,
    },
    /// An invitation was accepted.
    InviteAccepted,
    /// An invitation was withdrawn.
    InviteRevoked {
        /// The ticket.
        ticket_id: Uuid,
    },
    /// A mailbox was proven.
    EmailVerified,
    /// What became of a mail.
    Email {
        /// `email.sent`, `email.failed` or `email.bounced`.
        name: &'static str,
        /// The mail.
        email_id: Uuid,
        /// Which template.
        template: String,
        /// Its state.
        state: &'static str,
        /// The server's words.
        smtp_reply: Option<String>,
    },
    /// Somebody signed in, or support did in their name.
    SessionOpened {
        /// The session.
        session_id: Uuid,
        /// The person of support who acts through it.
        impersonated_by: Option<String>,
    },
    /// Somebody signed out.
    SessionClosed {
        /// The session.
        session_id: Uuid,
    },
    /// Sessions were ended by somebody else or by a changed password.
    SessionRevoked {
        /// Which.
        session_ids: Vec<Uuid>,
        /// Whether no session of the person is left.
        all: bool,
        /// Stateless sessions of an older epoch are to be refused.
        session_epoch: i64,
        /// Why.
        reason: Option<String>,
        /// The person's session that stays.
        except_session_id: Option<Uuid>,
    },
    /// A saved template has faults: its last good version stays in use.
    TemplateInvalid {
        /// Which.
        template: String,
        /// What is wrong, each with file and line.
        errors: Vec<String>,
    },
}

impl Event {
    /// The name of [`Self::UserLocked`], which is counted too.
    pub const USER_LOCKED: &str = "user.locked";

    /// The event's name: the routing key, and the `CloudEvents` type after `regrant.`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::UserCreated => "user.created",
            Self::UserUpdated => "user.updated",
            Self::UserActivated => "user.activated",
            Self::UserDeactivated => "user.deactivated",
            Self::UserBlocked => "user.blocked",
            Self::UserUnblocked => "user.unblocked",
            Self::UserErased => "user.erased",
            Self::UserLocked { .. } => Self::USER_LOCKED,
            Self::PasswordResetRequested { .. } => "password.reset.requested",
            Self::PasswordTemporaryIssued { .. } => "password.temporary.issued",
            Self::PasswordChanged { .. } => "password.changed",
            Self::InviteSent { .. } => "invite.sent",
            Self::InviteAccepted => "invite.accepted",
            Self::InviteRevoked { .. } => "invite.revoked",
            Self::EmailVerified => "email.verified",
            Self::Email { name, .. } => name,
            Self::SessionOpened { .. } => "session.opened",
            Self::SessionClosed { .. } => "session.closed",
            Self::SessionRevoked { .. } => "session.revoked",
            Self::TemplateInvalid { .. } => "template.invalid",
        }
    }

    /// The event's own data.
    pub fn data(&self) -> Map<String, Value> {
        match data::of(self) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        }
    }
}

/// Who and what brought an event about.
#[derive(Debug, Clone, Default)]
pub struct Origin<'a> {
    /// The person of support, or `system`.
    pub actor: Option<&'a str>,
    /// The publisher.
    pub publisher: Option<&'a str>,
    /// The command's message id.
    pub command_id: Option<&'a str>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
}

/// An event as it waits in the outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Queued {
    /// Whom it is about.
    pub subject: String,
    /// The routing key.
    pub name: &'static str,
    /// The `CloudEvent`, as it will be published.
    pub body: String,
}

/// Makes the `CloudEvents` 1.0 envelope (structured mode).
///
/// # Panics
/// Never: text and numbers can be written as JSON.
pub fn cloud_event(
    event: &Event,
    subject: &str,
    id: Uuid,
    at: DateTime<Utc>,
    source: &str,
    origin: &Origin<'_>,
) -> Queued {
    let mut data = event.data();
    for (name, value) in [("actor", origin.actor), ("publisher", origin.publisher), ("command_id", origin.command_id)] {
        if let Some(value) = value {
            data.insert(name.to_owned(), value.into());
        }
    }
    let envelope = Envelope {
        specversion: "1.0",
        id,
        source,
        kind: format!("regrant.{}", event.name()),
        subject,
        time: timestamp(at),
        datacontenttype: "application/json",
        data,
        traceparent: origin.traceparent,
    };
    let body = serde_json::to_string(&envelope).expect("text and numbers can be written as JSON");
    Queued { subject: subject.to_owned(), name: event.name(), body }
}

/// `CloudEvents` 1.0, section 3, and its extension for distributed tracing.
#[derive(Serialize)]
struct Envelope<'a> {
    specversion: &'static str,
    id: Uuid,
    source: &'a str,
    #[serde(rename = "type")]
    kind: String,
    subject: &'a str,
    time: String,
    datacontenttype: &'static str,
    data: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_cloud_event() {
        let at = DateTime::from_timestamp_millis(1_800_000_000_123).unwrap();
        let event = Event::SessionRevoked {
            session_ids: vec![Uuid::nil()],
            all: true,
            session_epoch: 3,
            reason: Some("lost phone".into()),
            except_session_id: None,
        };
        let origin = Origin { actor: Some("root"), publisher: Some("shop"), ..Origin::default() };
        let queued = cloud_event(&event, "ada", Uuid::nil(), at, "regrant", &origin);
        insta::assert_json_snapshot!(serde_json::from_str::<Value>(&queued.body).unwrap(), @r#"
        {
          "specversion": "1.0",
          "id": "00000000-0000-0000-0000-000000000000",
          "source": "regrant",
          "type": "regrant.session.revoked",
          "subject": "ada",
          "time": "2027-01-15T08:00:00.123Z",
          "datacontenttype": "application/json",
          "data": {
            "session_ids": [
              "00000000-0000-0000-0000-000000000000"
            ],
            "all": true,
            "session_epoch": 3,
            "reason": "lost phone",
            "except_session_id": null,
            "actor": "root",
            "publisher": "shop"
          }
        }
        "#);
    }
}
