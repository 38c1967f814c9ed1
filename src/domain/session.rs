//! Sessions: handles that upstream servers keep and ask about.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Why a session ended that was one too many.
pub const TOO_MANY: &str = "too_many_sessions";

/// One sign-in on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The handle. Not a cookie: only servers may see it.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: String,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
    /// When it was ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it was ended.
    pub end_reason: Option<String>,
    /// The person of support who acts through it.
    pub impersonated_by: Option<String>,
    /// Whether it must be written.
    pub dirty: bool,
}

impl Session {
    /// A new session of a person.
    pub fn open(id: Uuid, user_id: &str, now: DateTime<Utc>, lifetime: std::time::Duration) -> Self {
        Self {
            id,
            user_id: user_id.to_owned(),
            created_at: now,
            expires_at: now + lifetime,
            ended_at: None,
            end_reason: None,
            impersonated_by: None,
            dirty: true,
        }
    }

    /// The same, for a person of support (or `system`) who acts through it.
    #[must_use]
    pub fn impersonated_by(mut self, actor: &str) -> Self {
        self.impersonated_by = Some(actor.to_owned());
        self
    }

    /// Whether somebody else acts through it.
    pub fn is_impersonated(&self) -> bool {
        self.impersonated_by.is_some()
    }

    /// Neither ended nor expired.
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        self.ended_at.is_none() && now < self.expires_at
    }

    /// Ends it; a session that ended before keeps its first reason.
    pub fn end(&mut self, now: DateTime<Utc>, reason: &str) {
        if self.ended_at.is_none() {
            self.ended_at = Some(now);
            self.end_reason = Some(reason.to_owned());
            self.dirty = true;
        }
    }
}
