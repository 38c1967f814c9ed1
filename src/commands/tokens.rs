//! From a token or code back to its ticket.

use std::cmp::Reverse;
use std::time::Duration;

use chrono::DateTime;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use uuid::Uuid;

use crate::config::Config;
use crate::domain::account::{Account, ChangeRules, ChangedBy, PasswordChange};
use crate::domain::limits::Rule;
use crate::domain::policy;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::{self, Method, Purpose, State, Ticket};
use crate::domain::time::Timestamp;
use crate::keys::{KeyRing, TokenUse, codes_equal};

use super::Stop;
use super::body::UserName;
use super::context::Context;

mod link_or_code;

pub use link_or_code::{LinkOrCode, Presented};

/// The ticket of a token, whatever its state.
///
/// # Errors
/// `token_invalid`.
pub fn opened(token: &SecretString, purpose: Purpose, keys: &KeyRing) -> Result<Uuid, Rejection> {
    keys.open_token(token.expose_secret())
        .filter(|opened| opened.use_ == token_use(purpose))
        .map(|opened| opened.ticket)
        .ok_or_else(invalid)
}

/// The refusal of something that is no token of ours.
pub fn invalid() -> Rejection {
    Rejection::new(Code::TokenInvalid, "This link is not valid. Check that it was copied whole.")
}

/// Which derivation a purpose's tokens have.
pub const fn token_use(purpose: Purpose) -> TokenUse {
    match purpose {
        Purpose::PasswordReset => TokenUse::PasswordReset,
        Purpose::Invite => TokenUse::Invite,
        Purpose::Verification => TokenUse::Verification,
        Purpose::PasswordChange => TokenUse::ChangePassword,
    }
}

/// The usable ticket behind what was presented, and its owner. A wrong code is counted.
///
/// # Errors
/// Why the ticket cannot be used: `token_*`, `code_invalid`, `too_many_attempts`, `ambiguous_user`.
pub fn usable(cx: &mut Context<'_>, presented: &Presented<'_>, purpose: Purpose) -> Result<(String, Uuid), Stop> {
    match presented {
        Presented::Token(token) => {
            let id = opened(token, purpose, cx.env.keys)?;
            let now = cx.now;
            let Some(owner) = cx.world.owner_of_ticket(id).map(|a| a.id().to_owned()) else {
                return Err(invalid().into());
            };
            cx.touch(&owner);
            let account = cx.account(&owner)?;
            let ticket = account.ticket(id).ok_or(Stop::Bug("a ticket vanished from its account"))?;
            if ticket.purpose != purpose {
                return Err(invalid().into());
            }
            account.usable(ticket, now)?;
            Ok((owner, id))
        }
        Presented::Code(user, code) => by_code(cx, user, code, purpose),
    }
}

fn by_code(
    cx: &mut Context<'_>,
    user: &UserName,
    code: &SecretString,
    purpose: Purpose,
) -> Result<(String, Uuid), Stop> {
    let found = cx.world.find(user);
    let owner = match found.as_slice() {
        [] => {
            cx.unknown(user);
            return Err(guess_at_nothing(cx, user, purpose).into());
        }
        [one] => one.clone(),
        several => return Err(cx.ambiguous(several).into()),
    };
    cx.touch(&owner);
    let (now, keys) = (cx.now, cx.env.keys);
    let rules = &cx.env.config.password_reset;
    let account = cx.account(&owner)?;
    let mut codes: Vec<&Ticket> =
        account.tickets.iter().filter(|t| t.purpose == purpose && t.method == Method::Code).collect();
    codes.sort_by_key(|t| Reverse(t.recency()));
    let Some(newest) = codes.first() else {
        return Err(guess_at_nothing(cx, user, purpose).into());
    };
    // As long as it would have been good, and no newer mail has come in its place.
    let is_last = !account.tickets.iter().any(|t| t.purpose == purpose && t.recency() > newest.recency());
    if newest.state == State::TooManyAttempts && now < newest.expires_at && is_last {
        return Err(ticket::too_many_attempts().into());
    }
    // The length is that of today's configuration: changing it voids open codes.
    let is_right = |ticket: &&&Ticket| {
        let right = keys.code(&ticket.key_id, ticket.id, rules.code_length);
        right.is_some_and(|right| codes_equal(&right, code.expose_secret()))
    };
    // A code of an older mail is no guess: it is told apart from a wrong one, and does not count.
    if let Some(ticket) = codes.iter().find(is_right) {
        account.usable(ticket, now)?;
        return Ok((owner, ticket.id));
    }
    let id = newest.id;
    match account.ticket_mut(id).filter(|ticket| ticket.is_usable(now)) {
        Some(ticket) => Err(wrong().with("attempts_left", ticket.wrong_try(rules.max_attempts, now)).into()),
        None => Err(guess_at_nothing(cx, user, purpose).into()),
    }
}

fn wrong() -> Rejection {
    Rejection::new(Code::CodeInvalid, "This code is not right.")
}

/// The answer to a code where none is open: the same as where one is, or it would tell who has an account. So tries count here too,
/// by the name as it was given: those at a code that was asked for and sent to nobody as at one that was sent, for as long as that would
/// have been good; all others together.
fn guess_at_nothing(cx: &mut Context<'_>, user: &UserName, purpose: Purpose) -> Rejection {
    let (now, rule) = (cx.now, guesses_rule(cx.env.config, purpose));
    let [guesses, unsent] = guess_limits(cx.env.keys, purpose, user);
    let is_open = now < cx.world.limit(unsent).window_started_at + rule.window;
    let guesses = cx.world.limit(if is_open { unsent } else { guesses });
    if !guesses.admits(rule, now) {
        return ticket::too_many_attempts();
    }
    guesses.count(rule, now);
    wrong().with("attempts_left", rule.max.saturating_sub(u32::try_from(guesses.count).unwrap_or(u32::MAX)))
}

/// Whether the last request for this name was for a code that was sent to nobody, and all tries at it are used up.
pub fn is_guessed_out(cx: &mut Context<'_>, user: &UserName, purpose: Purpose) -> bool {
    let (now, rule) = (cx.now, guesses_rule(cx.env.config, purpose));
    let [_, unsent] = guess_limits(cx.env.keys, purpose, user);
    !cx.world.limit(unsent).admits(rule, now)
}

/// What became of a request for a mail, as far as tries at a code go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeRequest {
    /// There is a ticket, which counts its own tries, or a link was asked for, which has none.
    CountsElsewhere,
    /// Nobody gets the code that was asked for: its time begins as if it had been sent.
    SentToNobody,
}

/// Begins the tries of a name anew for which a mail was asked, as a new ticket has tries of its own.
pub fn restart_guesses(cx: &mut Context<'_>, user: &UserName, purpose: Purpose, request: CodeRequest) {
    let (asked, [guesses, unsent]) = (cx.requested_at, guess_limits(cx.env.keys, purpose, user));
    let guesses = cx.world.limit(guesses);
    if guesses.count > 0 {
        guesses.begin_anew(DateTime::UNIX_EPOCH);
    }
    let unsent = cx.world.limit(unsent);
    match request {
        CodeRequest::SentToNobody => unsent.begin_anew(asked),
        CodeRequest::CountsElsewhere if unsent.window_started_at > DateTime::UNIX_EPOCH => {
            unsent.begin_anew(DateTime::UNIX_EPOCH);
        }
        CodeRequest::CountsElsewhere => {}
    }
}

fn guesses_rule(config: &Config, purpose: Purpose) -> Rule {
    let window = match purpose {
        Purpose::Verification => config.verification.code_lifetime,
        _ => config.password_reset.code_lifetime,
    };
    Rule { interval: Duration::ZERO, max: config.password_reset.max_attempts, window }
}

/// Where tries at a code are counted that nobody was sent: those without a request for one, and those after one.
pub fn guess_limits(keys: &KeyRing, purpose: Purpose, user: &UserName) -> [Uuid; 2] {
    let (kind, name) = match user {
        UserName::Id(id) => ("id", id),
        UserName::Username(username) => ("username", username),
        UserName::Email(email) => ("email", email),
    };
    let parts = [purpose.as_str().as_bytes(), kind.as_bytes(), name.as_bytes()];
    ["limit.guesses", "limit.unsent_code"].map(|label| Uuid::from_bytes(keys.fingerprint(label, &parts)))
}

/// Uses a ticket up to write a new password.
///
/// # Errors
/// As [`Context::accept_password`]: then the ticket is still good.
pub fn redeem(
    cx: &mut Context<'_>,
    owner: &str,
    ticket: Uuid,
    new_password: &SecretString,
    by: ChangedBy,
) -> Result<PasswordChange, Stop> {
    let hash = cx.accept_password(owner, new_password)?;
    let now = cx.now;
    let ticket = cx.account(owner)?.ticket_mut(ticket).ok_or(Stop::Bug("a usable ticket vanished"))?;
    ticket.close(State::Completed, now);
    let rules = ChangeRules { end_sessions: cx.env.config.sessions.end_on_password_change, ..ChangeRules::default() };
    cx.change_password(owner, hash, by, rules)
}

/// A link or code that can be used.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Inspected {
    /// Always true: what cannot be used is an error.
    valid: bool,
    /// What it allows.
    purpose: Purpose,
    /// Whose it is, to be shown beside the form.
    username: String,
    /// When it stops working.
    expires_at: Timestamp,
    /// The rules for the new password.
    policy: policy::Described,
}

/// What `…inspect` answers for a usable ticket.
pub fn inspected(account: &Account, ticket: &Ticket, policy: policy::Described) -> Inspected {
    Inspected {
        valid: true,
        purpose: ticket.purpose,
        username: account.profile.username.clone(),
        expires_at: ticket.expires_at.into(),
        policy,
    }
}

#[cfg(test)]
mod tests;
