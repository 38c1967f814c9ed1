//! A person's password: what changes it, and what a change brings with it.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{Account, Invitation};

/// Who changed a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangedBy {
    /// With an emailed link or code.
    Reset,
    /// The signed-in person.
    Itself,
    /// Support.
    Admin,
    /// By accepting an invitation.
    Invite,
}

impl ChangedBy {
    /// As events say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Itself => "self",
            Self::Admin => "admin",
            Self::Invite => "invite",
        }
    }
}

/// What a change of password brought with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PasswordChange {
    /// Sessions that ended.
    pub ended: Vec<Uuid>,
    /// Whether sessions were to end at all: then the epoch grew.
    pub sessions_ended: bool,
    /// Whether the mailbox became verified by it.
    pub verified: bool,
    /// Whether it accepted a pending invitation.
    pub accepted_invitation: bool,
}

/// How a change of password treats what hangs on the old one.
#[derive(Debug, Clone, Default)]
pub struct ChangeRules {
    /// How many passwords are remembered, the current one included.
    pub history: u32,
    /// Whether other sessions end.
    pub end_sessions: bool,
    /// The session that stays.
    pub except_session: Option<Uuid>,
    /// For a password that must be changed: until when it works.
    pub temporary_until: Option<DateTime<Utc>>,
    /// When the change was asked for.
    pub requested_at: Option<DateTime<Utc>>,
}

/// What is known of a temporary password: one that only serves to choose a new one. Rows of older versions say less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Temporary {
    /// When it stops working; none: not by itself.
    pub until: Option<DateTime<Utc>>,
    /// When it was asked for.
    pub requested_at: Option<DateTime<Utc>>,
}

impl Temporary {
    /// Whether it has stopped working.
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

/// What a new password does not mend: the person cannot sign in all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Warning {
    /// Support blocked the person.
    UserBlocked,
    /// The person is deactivated.
    UserInactive,
}

impl Account {
    /// What keeps the person out, whatever their password is.
    pub fn warnings(&self) -> Vec<Warning> {
        let blocked = self.blocked.then_some(Warning::UserBlocked);
        let inactive = (!self.active).then_some(Warning::UserInactive);
        blocked.into_iter().chain(inactive).collect()
    }

    /// Hashes that a new password must differ from: the current one and as many before as `history` says (the current
    /// one counts as the first).
    pub fn remembered_hashes(&self, history: u32) -> Vec<String> {
        self.password_hash.iter().chain(&self.previous_hashes).take(history as usize).cloned().collect()
    }

    /// Writes a new password: ends sessions, voids tickets, ends a lockout, lifts a temporary password.
    pub fn change_password(
        &mut self,
        hash: String,
        by: ChangedBy,
        rules: &ChangeRules,
        now: DateTime<Utc>,
    ) -> PasswordChange {
        let had_one = self.password_hash.is_some();
        if let Some(old) = self.password_hash.replace(hash) {
            self.previous_hashes.insert(0, old);
            self.previous_hashes.truncate(rules.history.saturating_sub(1) as usize);
        }
        self.password_changed_at = Some(now);
        let temporary = |until| Temporary { until: Some(until), requested_at: rules.requested_at };
        self.temporary = rules.temporary_until.map(temporary);
        self.failed_logins = 0;
        self.locked_until = None;
        self.void_tickets(now);
        let mut change = PasswordChange::default();
        match by {
            ChangedBy::Reset | ChangedBy::Invite => {
                change.verified = !self.email_verified;
                self.email_verified = true;
                change.accepted_invitation = self.invitation == Invitation::Pending;
                if change.accepted_invitation {
                    self.invitation = Invitation::Accepted;
                }
            }
            // The invitation's link was voided above: nothing is left to accept.
            ChangedBy::Admin | ChangedBy::Itself if self.invitation == Invitation::Pending => {
                self.invitation = Invitation::None;
            }
            ChangedBy::Admin | ChangedBy::Itself => {}
        }
        self.touch(now);
        if rules.end_sessions && had_one {
            change.sessions_ended = true;
            change.ended = self.force_logout(rules.except_session, "password_changed", now);
        }
        change
    }

    /// Counts a wrong password; returns the end of the lockout if this one brought it.
    pub fn wrong_password(
        &mut self,
        max_failures: u32,
        lockout: std::time::Duration,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        self.failed_logins = self.failed_logins.saturating_add(1);
        self.dirty = true;
        if u32::try_from(self.failed_logins).unwrap_or(0) < max_failures {
            return None;
        }
        self.failed_logins = 0;
        self.locked_until = Some(now + lockout);
        self.locked_until
    }
}
