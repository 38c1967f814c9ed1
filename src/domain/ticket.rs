//! Tickets: the right to do one thing once, handed out as a link or a code.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rejection::{Code, Rejection};

/// What a ticket allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To choose a new password.
    PasswordReset,
    /// To accept an invitation with a first password.
    Invite,
    /// To prove a mailbox.
    Verification,
    /// To replace a temporary password right after signing in with it.
    PasswordChange,
}

impl Purpose {
    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PasswordReset => "password_reset",
            Self::Invite => "invite",
            Self::Verification => "verification",
            Self::PasswordChange => "password_change",
        }
    }

    /// From what is stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::PasswordReset, Self::Invite, Self::Verification, Self::PasswordChange]
            .into_iter()
            .find(|p| p.as_str() == text)
    }
}

/// How the person receives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A link with a token.
    Link,
    /// Digits to type.
    Code,
}

impl Method {
    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Code => "code",
        }
    }
}

/// What became of a ticket. That its time is over is no state: it follows from the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Usable until it expires.
    Open,
    /// Used.
    Completed,
    /// Replaced by a newer one.
    Superseded,
    /// Withdrawn.
    Revoked,
    /// Killed by wrong tries.
    TooManyAttempts,
}

impl State {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Completed => "completed",
            Self::Superseded => "superseded",
            Self::Revoked => "revoked",
            Self::TooManyAttempts => "too_many_attempts",
        }
    }

    /// From what is stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Completed, Self::Superseded, Self::Revoked, Self::TooManyAttempts]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

/// What a history says became of a ticket: its state, or that its time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[expect(missing_docs, reason = "a list of words to the reference, which the field beside it explains")]
pub enum Outcome {
    Open,
    Completed,
    Expired,
    Superseded,
    Revoked,
    TooManyAttempts,
}

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requester {
    /// The person themselves.
    Itself,
    /// An upstream system.
    System,
    /// A person of support, by id.
    Actor(String),
}

impl Requester {
    /// As stored in `tickets.requester`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Itself => "self",
            Self::System => "system",
            Self::Actor(_) => "actor",
        }
    }

    /// As shown in histories: `self`, `system` or the actor's id.
    pub fn shown(&self) -> &str {
        match self {
            Self::Actor(id) => id,
            other => other.as_str(),
        }
    }
}

/// The right to do one thing once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its id, from which the token or code is derived.
    pub id: Uuid,
    /// Whose right it is.
    pub user_id: String,
    /// To do what.
    pub purpose: Purpose,
    /// By link or code.
    pub method: Method,
    /// The key that derives the secret.
    pub key_id: String,
    /// What became of it.
    pub state: State,
    /// Who asked.
    pub requester: Requester,
    /// When the person asked; lifetimes count from here.
    pub requested_at: DateTime<Utc>,
    /// When the daemon made it.
    pub created_at: DateTime<Utc>,
    /// The first moment at which it is no longer good.
    pub expires_at: DateTime<Utc>,
    /// Wrong codes so far.
    pub wrong_tries: i32,
    /// When it stopped being open.
    pub closed_at: Option<DateTime<Utc>>,
    /// When the newer request was made that superseded it.
    pub newer_requested_at: Option<DateTime<Utc>>,
    /// Whether it must be written.
    pub dirty: bool,
}

impl Ticket {
    /// By what the newest of several is told: an open one, whatever its id. Ids are made before a person's row is locked, and by
    /// the clocks of several daemons, so the last to be locked need not have the largest.
    pub fn recency(&self) -> (bool, Uuid) {
        (self.state == State::Open, self.id)
    }

    /// Open, also if expired.
    pub fn is_open_for(&self, purpose: Purpose) -> bool {
        self.purpose == purpose && self.state == State::Open
    }

    /// Open and not expired.
    pub fn is_usable(&self, now: DateTime<Utc>) -> bool {
        self.state == State::Open && now < self.expires_at
    }

    /// Ok if the ticket can be used now, else the precise reason why not. What [`Account::usable`] says is more precise
    /// still: it knows the newer request.
    ///
    /// [`Account::usable`]: super::account::Account::usable
    pub fn usable(&self, now: DateTime<Utc>) -> Result<(), Rejection> {
        match self.state {
            State::Open if now < self.expires_at => Ok(()),
            State::Open => Err(Rejection::new(Code::TokenExpired, "This has expired. Ask for a new one.")
                .with("expired_at", timestamp(self.expires_at))),
            State::Completed => Err(Rejection::new(Code::TokenUsed, "This has been used already.")),
            State::Superseded => Err(Rejection::new(
                Code::TokenSuperseded,
                match self.purpose {
                    // Nobody is mailed one: a sign-in with the temporary password hands it out.
                    Purpose::PasswordChange => {
                        "You have signed in again since. Choose the new password where you did so last."
                    }
                    _ => "A newer email replaced this one. Use the newest email.",
                },
            )),
            State::Revoked => Err(Rejection::new(Code::TokenRevoked, "This was withdrawn and can no longer be used.")),
            State::TooManyAttempts => Err(too_many_attempts()),
        }
    }

    /// Closes an open ticket; a closed one stays as it is.
    pub fn close(&mut self, state: State, now: DateTime<Utc>) {
        if self.state == State::Open {
            self.state = state;
            self.closed_at = Some(now);
            self.dirty = true;
        }
    }

    /// Counts a wrong code; the last allowed one closes the ticket. Returns how many tries are left.
    pub fn wrong_try(&mut self, max_attempts: u32, now: DateTime<Utc>) -> u32 {
        self.wrong_tries = self.wrong_tries.saturating_add(1);
        self.dirty = true;
        let left = max_attempts.saturating_sub(u32::try_from(self.wrong_tries).unwrap_or(u32::MAX));
        if left == 0 {
            self.close(State::TooManyAttempts, now);
        }
        left
    }

    /// What a history shows.
    pub fn outcome(&self, now: DateTime<Utc>) -> Outcome {
        match self.state {
            State::Open if now >= self.expires_at => Outcome::Expired,
            State::Open => Outcome::Open,
            State::Completed => Outcome::Completed,
            State::Superseded => Outcome::Superseded,
            State::Revoked => Outcome::Revoked,
            State::TooManyAttempts => Outcome::TooManyAttempts,
        }
    }
}

/// The refusal of a code that died of wrong tries.
pub fn too_many_attempts() -> Rejection {
    Rejection::new(Code::TooManyAttempts, "There were too many wrong tries. Ask for a new code.")
}

/// RFC 3339, UTC, milliseconds: the form of every time that callers see.
pub fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn ticket() -> Ticket {
        Ticket {
            id: Uuid::nil(),
            user_id: "ada".into(),
            purpose: Purpose::PasswordReset,
            method: Method::Code,
            key_id: "k".into(),
            state: State::Open,
            requester: Requester::Itself,
            requested_at: at(0),
            created_at: at(0),
            expires_at: at(60),
            wrong_tries: 0,
            closed_at: None,
            newer_requested_at: None,
            dirty: false,
        }
    }

    #[test]
    fn each_state_has_its_refusal_and_its_word_in_histories() {
        for (state, now, refusal, outcome) in [
            (State::Open, 59, None, "open"),
            (State::Open, 60, Some(Code::TokenExpired), "expired"),
            (State::Completed, 0, Some(Code::TokenUsed), "completed"),
            (State::Completed, 60, Some(Code::TokenUsed), "completed"),
            (State::Superseded, 0, Some(Code::TokenSuperseded), "superseded"),
            (State::Revoked, 0, Some(Code::TokenRevoked), "revoked"),
            (State::TooManyAttempts, 0, Some(Code::TooManyAttempts), "too_many_attempts"),
        ] {
            let ticket = Ticket { state, ..ticket() };
            assert_eq!(ticket.usable(at(now)).err().map(|r| r.code), refusal, "{state:?}");
            assert_eq!(ticket.is_usable(at(now)), refusal.is_none());
            assert_eq!(serde_json::to_value(ticket.outcome(at(now))).unwrap(), outcome);
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
    }

    #[test]
    fn what_closed_stays_as_it_closed() {
        let mut ticket = ticket();
        ticket.close(State::Completed, at(1));
        ticket.close(State::Revoked, at(2));
        assert_eq!((ticket.state, ticket.closed_at, ticket.dirty), (State::Completed, Some(at(1)), true));
    }

    #[test]
    fn the_last_wrong_try_closes_it() {
        let mut ticket = ticket();
        let left: Vec<u32> = (0..4).map(|i| ticket.wrong_try(3, at(i))).collect();
        assert_eq!(left, [2, 1, 0, 0]);
        assert_eq!((ticket.state, ticket.closed_at), (State::TooManyAttempts, Some(at(2))));
    }

    #[test]
    fn times_have_milliseconds_and_end_in_z() {
        assert_eq!(timestamp(at(0)), "2027-01-15T08:00:00.000Z");
        assert_eq!(timestamp(DateTime::from_timestamp_nanos(1_999_999)), "1970-01-01T00:00:00.001Z");
    }

    #[test]
    fn purposes_are_stored_by_name() {
        for purpose in [Purpose::PasswordReset, Purpose::Invite, Purpose::Verification, Purpose::PasswordChange] {
            assert_eq!(Purpose::parse(purpose.as_str()), Some(purpose));
        }
        assert_eq!(Purpose::parse("x"), None);
    }
}
