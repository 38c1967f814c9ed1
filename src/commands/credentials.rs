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

use super::Stop;
use super::body::UserName;
use super::context::Context;
use super::proofs::{Verified, Which};

/// Profiles of one address whose passwords are tried: each costs a hash.
const MAX_PROFILES: usize = 8;

/// Somebody whose password was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who.
    pub id: String,
    /// Whether the stored hash was made with other parameters than today's.
    pub outdated: bool,
}

/// The one profile behind a name whose password this is. A wrong one is counted.
///
/// Of profiles that share an address, those for which it is not verified may be somebody else's: whoever has one may give it
/// any password, and must not learn by it whether that is the address's owner's too. So a password that fits such a profile is taken
/// for its own, whatever else it fits.
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
            (Some(hash), false) => candidates.push((id.clone(), account.email_verified, hash.clone())),
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
        candidates.iter().map(|(_, _, hash)| cx.verify(Which::Given, password, hash)).collect();
    let (mut right, mut of_owners) = (Vec::new(), Vec::new());
    let mut missed = Vec::new();
    for ((id, verified, _), proof) in candidates.into_iter().zip(proofs) {
        let proof = proof?;
        let known = |id| Known { id, outdated: proof.outdated };
        match (proof.matches, verified) {
            (true, true) => of_owners.push(known(id)),
            (true, false) => right.push(known(id)),
            (false, _) => missed.push(id),
        }
    }
    if right.is_empty() {
        right = of_owners;
    }
    match (right.pop(), right.is_empty()) {
        (Some(known), true) => Ok(known),
        (None, _) => {
            for id in missed {
                count_failure(cx, &id)?;
            }
            Err(wrong().into())
        }
        (Some(last), false) => {
            let ids: Vec<String> = right.into_iter().chain([last]).map(|known| known.id).collect();
            let refusal =
                Rejection::new(Code::AmbiguousUser, "this password opens several profiles; name one by username");
            Err(refusal.with("candidates", cx.candidates(&ids)).into())
        }
    }
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
    if account.must_change_password && account.temporary_expires_at.is_some_and(|until| now >= until) {
        return Err(Rejection::new(
            Code::TemporaryPasswordExpired,
            "This temporary password has expired. Ask support for a new one.",
        ));
    }
    Ok(())
}

fn count_failure(cx: &mut Context<'_>, id: &str) -> Result<(), Stop> {
    let (now, rules) = (cx.now, &cx.env.config.login);
    if let Some(until) = cx.account(id)?.wrong_password(rules.max_failures, rules.lockout, now) {
        cx.event(id, &Event::UserLocked { until });
        let facts = Facts { locked_until: Some(until), ..cx.facts() };
        cx.email(id, Template::AccountLocked, None, &facts)?;
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
