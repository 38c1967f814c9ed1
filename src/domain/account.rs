//! A person's account: profile, credential state, open tickets, live sessions; and what may happen to it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::rejection::{Code, Rejection};
use super::session::{Session, TOO_MANY};
use super::ticket::{Purpose, State, Ticket, timestamp};

pub mod shown;
mod status;

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

/// The parts of a profile that upstream apps write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// Upstream's id.
    pub id: String,
    /// Unique name, as given.
    pub username: String,
    /// Address, as given.
    pub email: String,
    /// Full name.
    pub display_name: Option<String>,
    /// The site it belongs to.
    pub site: String,
    /// Names of roles; those without a `[roles.<name>]` section permit nothing.
    pub roles: Vec<String>,
    /// Language, BCP 47.
    pub locale: Option<String>,
}

/// An account as one batch sees it: loaded once, changed in memory, written once.
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own: any combination can occur")]
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// What upstream wrote.
    pub profile: Profile,
    /// Comparison form of the username.
    pub username_key: String,
    /// Comparison form of the email.
    pub email_key: String,
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
    /// Whether the password only serves to choose a new one.
    pub must_change_password: bool,
    /// When a temporary password stops working.
    pub temporary_expires_at: Option<DateTime<Utc>>,
    /// When it was asked for.
    pub temporary_requested_at: Option<DateTime<Utc>>,
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
            username_key: super::email_address::username_key(&profile.username),
            email_key: super::email_address::email_key(&profile.email),
            profile,
            email_verified: false,
            active: true,
            blocked: false,
            password_hash: None,
            previous_hashes: Vec::new(),
            password_changed_at: None,
            must_change_password: false,
            temporary_expires_at: None,
            temporary_requested_at: None,
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
        let email_key = super::email_address::email_key(&profile.email);
        let moved = email_key != self.email_key;
        let verified = email_verified.unwrap_or(self.email_verified && !moved);
        if self.profile == profile && verified == self.email_verified {
            return false;
        }
        if moved {
            self.void_tickets(now);
        }
        self.renamed |= profile.username != self.profile.username;
        self.username_key = super::email_address::username_key(&profile.username);
        self.email_key = email_key;
        self.profile = profile;
        self.email_verified = verified;
        self.touch(now);
        true
    }

    /// Withdraws every open ticket.
    pub fn void_tickets(&mut self, now: DateTime<Utc>) {
        for ticket in &mut self.tickets {
            ticket.close(State::Revoked, now);
        }
    }

    /// Adds a ticket; older open ones of the same purpose are superseded: the newest wins.
    pub fn open_ticket(&mut self, ticket: Ticket, now: DateTime<Utc>) {
        for older in self.tickets.iter_mut().filter(|t| t.is_open_for(ticket.purpose)) {
            older.close(State::Superseded, now);
            older.newer_requested_at = Some(ticket.requested_at);
        }
        self.tickets.push(ticket);
    }

    /// The open ticket of a purpose, also an expired one.
    pub fn open_ticket_of(&mut self, purpose: Purpose) -> Option<&mut Ticket> {
        self.tickets.iter_mut().find(|t| t.is_open_for(purpose))
    }

    /// The newest loaded ticket of a purpose, whatever became of it.
    pub fn newest_ticket_of(&self, purpose: Purpose) -> Option<&Ticket> {
        self.tickets.iter().filter(|t| t.purpose == purpose).max_by_key(|t| t.recency())
    }

    /// As [`Self::newest_ticket_of`], to change.
    pub fn newest_ticket_of_mut(&mut self, purpose: Purpose) -> Option<&mut Ticket> {
        self.tickets.iter_mut().filter(|t| t.purpose == purpose).max_by_key(|t| t.recency())
    }

    /// A loaded ticket.
    pub fn ticket(&self, id: Uuid) -> Option<&Ticket> {
        self.tickets.iter().find(|t| t.id == id)
    }

    /// A loaded ticket, to change.
    pub fn ticket_mut(&mut self, id: Uuid) -> Option<&mut Ticket> {
        self.tickets.iter_mut().find(|t| t.id == id)
    }

    /// Ok if a ticket of this person can be used now, else the precise reason why not.
    ///
    /// # Errors
    /// As [`Ticket::usable`]; `token_superseded` says when the newest request was made, not just the one after.
    pub fn usable(&self, ticket: &Ticket, now: DateTime<Utc>) -> Result<(), Rejection> {
        ticket.usable(now).map_err(|refusal| {
            let newest = self.newest_ticket_of(ticket.purpose).filter(|newest| newest.recency() > ticket.recency());
            let newest = newest.map(|t| t.requested_at).or(ticket.newer_requested_at);
            match newest {
                Some(at) if refusal.code == Code::TokenSuperseded => refusal.with("newer_requested_at", timestamp(at)),
                _ => refusal,
            }
        })
    }

    /// Whether a session is live.
    pub fn has_live_session(&self, now: DateTime<Utc>) -> bool {
        self.sessions.iter().any(|s| s.is_live(now))
    }

    /// The session, if it is one of this person's and live.
    pub fn live_session(&self, id: Option<Uuid>, now: DateTime<Utc>) -> Option<Uuid> {
        id.filter(|id| self.sessions.iter().any(|s| s.id == *id && s.is_live(now)))
    }

    /// Ends live sessions but `except`; returns which.
    pub fn end_sessions(&mut self, except: Option<Uuid>, reason: &str, now: DateTime<Utc>) -> Vec<Uuid> {
        let mut ended = Vec::new();
        for session in self.sessions.iter_mut().filter(|s| s.is_live(now) && Some(s.id) != except) {
            session.end(now, reason);
            ended.push(session.id);
        }
        ended
    }

    /// A forced sign-out everywhere (but `except`): the epoch grows also when no session is known here, because
    /// stateless sessions upstream are refused by it.
    pub fn force_logout(&mut self, except: Option<Uuid>, reason: &str, now: DateTime<Utc>) -> Vec<Uuid> {
        self.session_epoch += 1;
        self.touch(now);
        self.end_sessions(except, reason, now)
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
        self.must_change_password = rules.temporary_until.is_some();
        self.temporary_expires_at = rules.temporary_until;
        self.temporary_requested_at = rules.temporary_until.and(rules.requested_at);
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

    /// Opens a session; the oldest beyond `max` end, so that nobody collects sessions without bound. Returns the ended.
    pub fn open_session(&mut self, session: Session, max: u32, now: DateTime<Utc>) -> Vec<Uuid> {
        self.failed_logins = 0;
        self.locked_until = None;
        self.last_login_at = Some(now);
        self.dirty = true;
        self.add_session(session, max, now)
    }

    /// Opens a session for support. It is no sign-in of the person's, and neither counts among their own sessions nor ends
    /// any of them; of those of support the oldest beyond `max` end. Returns the ended.
    pub fn impersonate(&mut self, session: Session, max: u32, now: DateTime<Utc>) -> Vec<Uuid> {
        self.add_session(session, max, now)
    }

    fn add_session(&mut self, session: Session, max: u32, now: DateTime<Utc>) -> Vec<Uuid> {
        let of_support = session.is_impersonated();
        self.sessions.push(session);
        let counts = |s: &Session| s.is_live(now) && s.is_impersonated() == of_support;
        let mut live: Vec<usize> = (0..self.sessions.len()).filter(|i| counts(&self.sessions[*i])).collect();
        // Never the new one, whose id need not be the largest: another daemon's clock may be ahead.
        let new = self.sessions.len() - 1;
        live.sort_by_key(|i| (*i == new, self.sessions[*i].id));
        let surplus = live.len().saturating_sub(max.max(1) as usize);
        live.into_iter()
            .take(surplus)
            .map(|i| {
                self.sessions[i].end(now, TOO_MANY);
                self.sessions[i].id
            })
            .collect()
    }
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

#[cfg(test)]
mod tests;
