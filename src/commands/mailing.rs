//! Mail that a decision wants sent: a row to be written with it, sent after commit.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::mail::catalogue::Template;

/// How a queued mail begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// To be sent.
    Queued,
    /// Its template is switched off.
    Cancelled,
    /// Its address is on the suppression list.
    Suppressed,
}

impl Begins {
    /// As stored in `emails.state`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Cancelled => "cancelled",
            Self::Suppressed => "suppressed",
        }
    }
}

/// A mail to be queued.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEmail {
    /// Its id; also its Message-ID's left side.
    pub id: Uuid,
    /// Whom it tells.
    pub user_id: String,
    /// The ticket whose link or code it carries.
    pub ticket_id: Option<Uuid>,
    /// Which template.
    pub template: Template,
    /// The person's site.
    pub site: String,
    /// The person's language.
    pub locale: Option<String>,
    /// Where to.
    pub to: String,
    /// Plain data for the template; no secret.
    pub facts: serde_json::Value,
    /// Its first state.
    pub begins: Begins,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// No attempt is begun after this.
    pub give_up_at: DateTime<Utc>,
    /// The command that asked for it.
    pub command_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}
