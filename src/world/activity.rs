//! What is noted of a command in the activity log.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::keys::KeyRing;

/// A row of the activity log that is to be written.
#[derive(Debug, Clone)]
pub struct NewActivity {
    /// Its id, in order of time.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// The command, or [`EMAILS_RETRY`](crate::store::activity::EMAILS_RETRY).
    pub kind: String,
    /// The id of the person it touched.
    pub user_id: Option<String>,
    /// Who acted.
    pub actor: Option<String>,
    /// Which publisher sent it.
    pub publisher: String,
    /// The message id.
    pub command_id: Option<String>,
    /// `ok` or an error code.
    pub outcome: String,
    /// Where the person was.
    pub ip: Option<String>,
    /// Keyed hash of an address that nobody has.
    pub subject_key: Option<Uuid>,
    /// More; no secret.
    pub details: serde_json::Value,
}

/// The keyed hash under which an address without a profile is remembered.
pub fn subject_key(keys: &KeyRing, email_key: &str) -> Uuid {
    Uuid::from_bytes(keys.fingerprint("subject", &[email_key.as_bytes()]))
}
