//! `data` of the events, as it is published.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::account::ChangedBy;
use crate::domain::ticket::Method;
use crate::domain::time::Timestamp;

use super::Event;

/// Nothing beside who did it.
#[derive(Serialize, JsonSchema)]
pub struct Nothing {}

/// Wrong passwords locked the account.
#[derive(Serialize, JsonSchema)]
pub struct Locked {
    /// Until when.
    pub locked_until: Timestamp,
}

/// A reset ticket was opened.
#[derive(Serialize, JsonSchema)]
pub struct ResetRequested {
    /// The ticket, as in `history.passwords`.
    pub ticket_id: Uuid,
    /// What the mail carries.
    #[schemars(with = "Method")]
    pub method: &'static str,
    /// When the link or code stops working.
    pub expires_at: Timestamp,
}

/// A password was changed.
#[derive(Serialize, JsonSchema)]
pub struct PasswordChanged {
    /// `reset`: with an emailed link or code. `self`: by the signed-in person. `admin`: by support. `invite`: the first
    /// one, on accepting an invitation.
    #[schemars(extend("enum" = ["reset", "self", "admin", "invite"]))]
    pub by: &'static str,
    /// Whether it must be changed at the next sign-in.
    pub temporary: bool,
}

/// Support made a temporary password.
#[derive(Serialize, JsonSchema)]
pub struct TemporaryIssued {
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// An invitation was sent.
#[derive(Serialize, JsonSchema)]
pub struct InviteSent {
    /// The invitation's ticket.
    pub ticket_id: Uuid,
    /// When its link stops working.
    pub expires_at: Timestamp,
}

/// An invitation was withdrawn.
#[derive(Serialize, JsonSchema)]
pub struct InviteRevoked {
    /// The invitation's ticket.
    pub ticket_id: Uuid,
}

/// What became of a mail.
#[derive(Serialize, JsonSchema)]
pub struct Mail {
    /// The mail, as in `history.emails`.
    pub email_id: Uuid,
    /// Its template.
    pub template: String,
    /// Its state, as in `history.emails`.
    pub state: &'static str,
    /// The mail server's words, addresses masked; null if it said nothing.
    pub smtp_reply: Option<String>,
}

/// Somebody signed in.
#[derive(Serialize, JsonSchema)]
pub struct SessionOpened {
    /// The session.
    pub session_id: Uuid,
    /// The id of the person of support who acts through it; null if the person signed in themselves.
    pub impersonated_by: Option<String>,
}

/// Somebody signed out.
#[derive(Serialize, JsonSchema)]
pub struct SessionClosed {
    /// The session.
    pub session_id: Uuid,
}

/// Sessions were ended.
#[derive(Serialize, JsonSchema)]
pub struct SessionRevoked {
    /// Those that ended; empty if none was open.
    pub session_ids: Vec<Uuid>,
    /// Whether no session of the person is left.
    pub all: bool,
    /// The person's epoch: sessions that an app keeps by itself and that are of an older one are to be refused.
    pub session_epoch: i64,
    /// Why; null if nobody said. `password_changed`, `deactivated`, `blocked`, `erased`, `too_many_sessions`, or what support wrote.
    pub reason: Option<String>,
    /// A session of the person that stays, and has the new epoch from now on (`session.check` tells it): an app that keeps it by
    /// itself takes that over. Null if none stays.
    pub except_session_id: Option<Uuid>,
}

/// A saved template has faults.
#[derive(Serialize, JsonSchema)]
pub struct TemplateInvalid {
    /// Its name; `unknown` for faults in the directory that no email has.
    pub template: String,
    /// What is wrong, each with file and line.
    pub errors: Vec<String>,
}

/// An event's own data, as it is written.
pub(super) fn of(event: &Event) -> Map<String, Value> {
    match event {
        Event::UserLocked { until } => written(Locked { locked_until: (*until).into() }),
        Event::PasswordResetRequested { ticket_id, method, expires_at } => {
            written(ResetRequested { ticket_id: *ticket_id, method, expires_at: (*expires_at).into() })
        }
        Event::PasswordTemporaryIssued { expires_at } => written(TemporaryIssued { expires_at: (*expires_at).into() }),
        Event::PasswordChanged { by, temporary } => {
            written(PasswordChanged { by: ChangedBy::as_str(*by), temporary: *temporary })
        }
        Event::InviteSent { ticket_id, expires_at } => {
            written(InviteSent { ticket_id: *ticket_id, expires_at: (*expires_at).into() })
        }
        Event::InviteRevoked { ticket_id } => written(InviteRevoked { ticket_id: *ticket_id }),
        Event::Email { email_id, template, news, smtp_reply } => written(Mail {
            email_id: *email_id,
            template: template.clone(),
            state: news.state().as_str(),
            smtp_reply: smtp_reply.clone(),
        }),
        Event::SessionOpened { session_id, impersonated_by } => {
            written(SessionOpened { session_id: *session_id, impersonated_by: impersonated_by.clone() })
        }
        Event::SessionClosed { session_id } => written(SessionClosed { session_id: *session_id }),
        Event::SessionRevoked { session_ids, all, session_epoch, reason, except_session_id } => {
            written(SessionRevoked {
                session_ids: session_ids.clone(),
                all: *all,
                session_epoch: *session_epoch,
                reason: reason.clone(),
                except_session_id: *except_session_id,
            })
        }
        Event::TemplateInvalid { template, errors } => {
            written(TemplateInvalid { template: template.clone(), errors: errors.clone() })
        }
        Event::UserCreated
        | Event::UserUpdated
        | Event::UserActivated
        | Event::UserDeactivated
        | Event::UserBlocked
        | Event::UserUnblocked
        | Event::UserErased
        | Event::InviteAccepted
        | Event::EmailVerified => written(Nothing {}),
    }
}

/// # Panics
/// Never: all of the types above are structs of text, numbers and lists of them, which JSON can hold.
fn written(data: impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(data) {
        Ok(Value::Object(fields)) => fields,
        other => panic!("the data of an event is an object: {other:?}"),
    }
}
