//! A person's account: profile, credential state, open tickets, live sessions; and what may happen to it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::session::Session;
use super::ticket::Ticket;

mod passwords;
mod profile;
mod sessions;
pub mod shown;
mod status;
mod tickets;

pub use passwords::{ChangeRules, ChangedBy, PasswordChange, Temporary, Warning};
pub use profile::{Keys, Profile};
pub use status::Status;

/// Where an invitation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Invitation {
    /// Never invited, or made superfluous by a password set otherwise.
    #[default]
    None,
    /// Open or expired; nothing was accepted.
    Pending,
    /// Accepted.
    Accepted,
}

impl Invitation {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Accepted => "accepted",
        }
    }

    /// From what is stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Pending, Self::Accepted].into_iter().find(|i| i.as_str() == text)
    }
}

/// An account as one batch sees it: loaded once, changed in memory, written once.
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own: any combination can occur")]
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// What upstream wrote.
    pub profile: Profile,
    /// The forms in which its names are compared.
    pub keys: Keys,
    /// Whether the mailbox is proven.
    pub email_verified: bool,
    /// Not deactivated.
    pub active: bool,
    /// Blocked by support.
    pub blocked: bool,
    /// The current password's hash.
    pub password_hash: Option<String>,
    /// Hashes of the passwords before, newest first.
    pub previous_hashes: Vec<String>,
    /// When the password was last changed.
    pub password_changed_at: Option<DateTime<Utc>>,
    /// Set while the password only serves to choose a new one.
    pub temporary: Option<Temporary>,
    /// Keyed hash of the password hash that was imported last.
    pub imported_hash: Option<Uuid>,
    /// Wrong passwords in a row.
    pub failed_logins: i32,
    /// Until when sign-ins are refused.
    pub locked_until: Option<DateTime<Utc>>,
    /// Where the invitation stands.
    pub invitation: Invitation,
    /// Grows with every forced sign-out.
    pub session_epoch: i64,
    /// When the profile was first put.
    pub created_at: DateTime<Utc>,
    /// When anything was last written.
    pub updated_at: DateTime<Utc>,
    /// The last successful sign-in.
    pub last_login_at: Option<DateTime<Utc>>,
    /// Whether the address is on the suppression list.
    pub suppressed: bool,
    /// Open tickets and those that the batch's commands name.
    pub tickets: Vec<Ticket>,
    /// Sessions that were live when loaded, and those opened or named since.
    pub sessions: Vec<Session>,
    /// Whether the profile has a row.
    pub stored: bool,
    /// Whether the profile's row must be written.
    pub dirty: bool,
    /// Whether its username must be, too.
    pub renamed: bool,
}

impl Account {
    /// A new account without a password.
    pub fn new(profile: Profile, now: DateTime<Utc>) -> Self {
        Self {
            keys: Keys::of(&profile),
            profile,
            email_verified: false,
            active: true,
            blocked: false,
            password_hash: None,
            previous_hashes: Vec::new(),
            password_changed_at: None,
            temporary: None,
            imported_hash: None,
            failed_logins: 0,
            locked_until: None,
            invitation: Invitation::None,
            session_epoch: 0,
            created_at: now,
            updated_at: now,
            last_login_at: None,
            suppressed: false,
            tickets: Vec::new(),
            sessions: Vec::new(),
            stored: false,
            dirty: true,
            renamed: false,
        }
    }

    /// Upstream's id.
    pub fn id(&self) -> &str {
        &self.profile.id
    }

    /// The form in which the username is compared.
    pub fn username_key(&self) -> &str {
        &self.keys.username
    }

    /// The form in which the address is compared.
    pub fn email_key(&self) -> &str {
        &self.keys.email
    }

    /// Whether the password only serves to choose a new one.
    pub fn must_change_password(&self) -> bool {
        self.temporary.is_some()
    }

    /// Marks the row as changed at `now`.
    pub fn touch(&mut self, now: DateTime<Utc>) {
        self.updated_at = now;
        self.dirty = true;
    }

    /// Whether sign-ins are refused because of wrong passwords.
    pub fn is_locked(&self, now: DateTime<Utc>) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    /// Takes over a profile. A changed address voids open tickets and is unproven unless said otherwise.
    /// Returns whether anything changed.
    pub fn put(&mut self, profile: Profile, email_verified: Option<bool>, now: DateTime<Utc>) -> bool {
        let keys = Keys::of(&profile);
        let moved = keys.email != self.keys.email;
        let verified = email_verified.unwrap_or(self.email_verified && !moved);
        if self.profile == profile && verified == self.email_verified {
            return false;
        }
        if moved {
            self.void_tickets(now);
        }
        self.renamed |= profile.username != self.profile.username;
        self.keys = keys;
        self.profile = profile;
        self.email_verified = verified;
        self.touch(now);
        true
    }
}

#[cfg(test)]
mod tests;
