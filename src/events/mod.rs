//! What happened, for upstream apps: the event types and their data.
//!
//! An event is written to the outbox by the transaction that made it true; [`relay`] publishes it.

pub mod document;
pub mod relay;

mod data;
mod refused;
mod steps;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::account::ChangedBy;
use crate::domain::email_state::EmailState;
use crate::domain::ticket::timestamp;

pub use crate::world::QueuedEvent;

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
        /// The mail.
        email_id: Uuid,
        /// Which template.
        template: String,
        /// What became of it: the event's name and the mail's state.
        news: EmailNews,
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
            Self::Email { news, .. } => news.name(),
            Self::SessionOpened { .. } => "session.opened",
            Self::SessionClosed { .. } => "session.closed",
            Self::SessionRevoked { .. } => "session.revoked",
            Self::TemplateInvalid { .. } => "template.invalid",
        }
    }

    /// The event's own data.
    pub fn data(&self) -> Map<String, Value> {
        data::of(self)
    }
}

/// A state of a mail that upstream apps are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailNews {
    /// The mail server accepted it.
    Sent,
    /// It was refused for good, or tried for as long as it may be.
    Failed,
    /// Its link or code ran out first.
    Expired,
    /// Its address bounced or complained before.
    Suppressed,
    /// The mail provider said later that it came back.
    Bounced,
    /// Its reader called it spam.
    Complained,
}

impl EmailNews {
    /// What is told of a mail in this state. One that waits will be told of later; one that was cancelled has nothing to say any
    /// more; one that was delivered was told of when it was sent.
    pub const fn of(state: EmailState) -> Option<Self> {
        match state {
            EmailState::Sent => Some(Self::Sent),
            EmailState::Failed => Some(Self::Failed),
            EmailState::Expired => Some(Self::Expired),
            EmailState::Suppressed => Some(Self::Suppressed),
            EmailState::Bounced => Some(Self::Bounced),
            EmailState::Complained => Some(Self::Complained),
            EmailState::Queued | EmailState::Cancelled | EmailState::Delivered => None,
        }
    }

    /// The event's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "email.sent",
            // Given up, for whatever reason the state says.
            Self::Failed | Self::Expired | Self::Suppressed => "email.failed",
            Self::Bounced | Self::Complained => "email.bounced",
        }
    }

    /// The mail's state.
    pub const fn state(self) -> EmailState {
        match self {
            Self::Sent => EmailState::Sent,
            Self::Failed => EmailState::Failed,
            Self::Expired => EmailState::Expired,
            Self::Suppressed => EmailState::Suppressed,
            Self::Bounced => EmailState::Bounced,
            Self::Complained => EmailState::Complained,
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
) -> QueuedEvent {
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
    QueuedEvent { subject: subject.to_owned(), name: event.name(), body }
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
    fn what_is_told_of_a_mail_has_its_state() {
        for state in EmailState::ALL {
            assert!(EmailNews::of(state).is_none_or(|news| news.state() == state), "{state:?}");
        }
    }

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
