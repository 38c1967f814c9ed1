//! `user` in replies: an account as callers see it.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::time::Timestamp;

use super::{Account, Status};

/// A person, as callers see them.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct User {
    /// Upstream's id.
    pub id: String,
    /// The name to sign in with; unique.
    pub username: String,
    /// Where mail goes; several profiles may share an address.
    pub email: String,
    /// The name to greet with.
    pub display_name: Option<String>,
    /// The site whose templates, links and sender are used.
    pub site: String,
    /// Roles of `[roles.<name>]`, which say what the person may do to others.
    pub roles: Vec<String>,
    /// The language of mail (BCP 47); without one, the site's.
    pub locale: Option<String>,
    /// Whether the person has proven that mail to the address reaches them.
    pub email_verified: bool,
    /// False: deactivated.
    pub active: bool,
    /// Whether support keeps the person out.
    pub blocked: bool,
    /// The last that applies, in the order of the list.
    pub status: Status,
    /// Whether there is any password to sign in with.
    pub has_password: bool,
    /// Until when wrong passwords keep the person out; null if they don't.
    pub locked_until: Option<Timestamp>,
    /// Whether a temporary password must be replaced first.
    pub must_change_password: bool,
    /// When the profile was put for the first time.
    pub created_at: Timestamp,
    /// When the person last signed in.
    pub last_login_at: Option<Timestamp>,
    /// Grows with every forced sign-out: a stateless session of an older epoch is to be refused.
    pub session_epoch: i64,
}

impl Account {
    /// `user` in replies.
    pub fn shown(&self, now: DateTime<Utc>) -> User {
        let profile = self.profile.clone();
        User {
            id: profile.id,
            username: profile.username,
            email: profile.email,
            display_name: profile.display_name,
            site: profile.site,
            roles: profile.roles,
            locale: profile.locale,
            email_verified: self.email_verified,
            active: self.active,
            blocked: self.blocked,
            status: self.status(now),
            has_password: self.password_hash.is_some(),
            locked_until: self.locked_until.filter(|_| self.is_locked(now)).map(Timestamp),
            must_change_password: self.must_change_password(),
            created_at: self.created_at.into(),
            last_login_at: self.last_login_at.map(Timestamp),
            session_epoch: self.session_epoch,
        }
    }
}
