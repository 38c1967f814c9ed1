//! Whose password it is: shared by every command to which people prove themselves with one.
//!
//! An unknown person costs as much time as a wrong password, and wrong ones lock an account for a while, wherever they
//! are tried.

use chrono::{DateTime, Utc};
use secrecy::SecretString;

use crate::domain::account::Account;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::timestamp;
use crate::events::Event;
use crate::mail::catalogue::Template;
use crate::mail::context::Facts;

use super::body::UserName;
use super::context::Context;
use super::proofs::{Verified, Which};
use super::{Reply, Stop};

/// Profiles of one address whose passwords are tried: each costs a hash.
const MAX_PROFILES: usize = 8;

/// Somebody whose password was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who.
    pub id: String,
    /// Whether the stored hash was made with other parameters than today's.
    pub outdated: bool,
    /// Profiles of the same address at which this counts as a wrong password: see [`prove`].
    pub guessed_at: Vec<String>,
}

/// The one profile behind a name whose password this is. A wrong one is counted.
///
/// Of profiles that share an address, those for which it is not verified may be somebody else's. Whoever has such a profile may
/// give it one guess after the other for its password, and learns by `ambiguous_user` whether that is the password of the address's
/// owner, too. So a new password of such a profile counts as a wrong one at those that are verified, whether it fits them or not: it is
/// guessed no faster than the lockout allows. A password that was there for longer than a lockout tells nothing new.
///
/// What keeps the person out all the same (a block, a temporary password) is not looked at: see [`may_enter`] and
/// [`temporary_still_works`].
///
/// # Errors
/// `invalid_credentials`, `account_locked`, `ambiguous_user`; [`Stop::Unproven`] until the pool has tried.
pub fn prove(cx: &mut Context<'_>, user: &UserName, password: &SecretString) -> Result<Known, Stop> {
    let now = cx.now;
    let mut found = cx.world.find(user);
    // However many claim somebody's address, they do not keep the one out to whom it belongs.
    found.sort_by_key(|id| !cx.world.account(id).is_some_and(|account| account.email_verified));
    found.truncate(MAX_PROFILES);
    for id in &found {
        cx.touch(id);
    }
    let mut locked_until = None;
    let mut candidates = Vec::new();
    for id in &found {
        let account = cx.account(id)?;
        match (&account.password_hash, account.is_locked(now)) {
            (_, true) => locked_until = locked_until.max(account.locked_until),
            (Some(hash), false) => candidates.push((id.clone(), hash.clone())),
            (None, false) => {}
        }
    }
    if candidates.is_empty() {
        if let Some(until) = locked_until {
            return Err(locked(until).into());
        }
        if found.is_empty() {
            cx.unknown(user);
        }
        cx.pretend(password)?;
        return Err(wrong().into());
    }
    // All at once: the pool verifies them side by side.
    let proofs: Vec<Result<Verified, Stop>> =
        candidates.iter().map(|(_, hash)| cx.verify(Which::Given, password, hash)).collect();
    let (mut right, mut missed, mut verified) = (Vec::new(), Vec::new(), Vec::new());
    let mut outdated = false;
    for ((id, _), proof) in candidates.into_iter().zip(proofs) {
        let proof = proof?;
        if cx.account(&id)?.email_verified {
            verified.push(id.clone());
        }
        if proof.matches {
            outdated = proof.outdated;
            right.push(id);
        } else {
            missed.push(id);
        }
    }
    if !might_be_a_guess(cx, &right)? {
        verified.clear();
    }
    match right.as_slice() {
        [] => {
            count_failures(cx, &missed)?;
            Err(wrong().into())
        }
        [id] => Ok(Known { id: id.clone(), outdated, guessed_at: verified }),
        several => {
            let refusal =
                Rejection::new(Code::AmbiguousUser, "this password opens several profiles; name one by username")
                    .with("candidates", cx.candidates(several));
            count_failures(cx, &verified)?;
            Err(refusal.into())
        }
    }
}

/// Whether somebody may have chosen this password to see whether it is another's: it is a profile's whose address is not verified,
/// and has not been for longer than a lockout lasts.
fn might_be_a_guess(cx: &mut Context<'_>, right: &[String]) -> Result<bool, Stop> {
    let since = cx.now - cx.env.config.login.lockout;
    for id in right {
        let account = cx.account(id)?;
        if !account.email_verified && account.password_changed_at.unwrap_or(account.created_at) > since {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Ends a command to which somebody has proved themselves: their row of wrong passwords is over, whatever they are answered, and what
/// may have been a guess at another's password is counted. Not before all proofs are there: until then a decision changes nothing.
///
/// # Errors
/// The command's own.
pub fn settle(cx: &mut Context<'_>, known: &Known, result: Result<Reply, Stop>) -> Result<Reply, Stop> {
    if matches!(result, Ok(_) | Err(Stop::Rejected(_) | Stop::RejectedWithSecret(..))) {
        let account = cx.account(&known.id)?;
        account.dirty |= account.failed_logins != 0;
        account.failed_logins = 0;
        count_failures(cx, &known.guessed_at)?;
    }
    result
}

/// Whether somebody whose password was right may come in. Only they may learn it.
///
/// # Errors
/// `user_blocked`, `user_inactive`.
pub fn may_enter(account: &Account) -> Result<(), Rejection> {
    if account.blocked {
        return Err(Rejection::new(Code::UserBlocked, "This account is blocked. Ask support for help."));
    }
    if !account.active {
        return Err(Rejection::new(Code::UserInactive, "This account is no longer active. Ask support for help."));
    }
    Ok(())
}

/// Whether a temporary password, if it is one, is still good for choosing a new one.
///
/// # Errors
/// `temporary_password_expired`.
pub fn temporary_still_works(account: &Account, now: DateTime<Utc>) -> Result<(), Rejection> {
    if account.temporary.is_some_and(|temporary| temporary.is_over(now)) {
        return Err(Rejection::new(
            Code::TemporaryPasswordExpired,
            "This temporary password has expired. Ask support for a new one.",
        ));
    }
    Ok(())
}

fn count_failures(cx: &mut Context<'_>, ids: &[String]) -> Result<(), Stop> {
    let (now, rules) = (cx.now, &cx.env.config.login);
    for id in ids {
        if let Some(until) = cx.account(id)?.wrong_password(rules.max_failures, rules.lockout, now) {
            cx.event(id, &Event::UserLocked { until });
            let facts = Facts { locked_until: Some(until), ..cx.facts() };
            cx.email(id, Template::AccountLocked, None, &facts)?;
        }
    }
    Ok(())
}

fn wrong() -> Rejection {
    Rejection::new(Code::InvalidCredentials, "The name or the password is not right.")
}

fn locked(until: DateTime<Utc>) -> Rejection {
    Rejection::new(Code::AccountLocked, "Too many wrong passwords. Try again later, or reset the password.")
        .with("locked_until", timestamp(until))
}
