//! `session.login`: a name and a password become a session.
//!
//! An unknown person costs as much time as a wrong password. Wrong passwords lock an account for a while; whether a
//! person is blocked or deactivated is told only after the right one.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use crate::commands::body::UserName;
use crate::commands::context::Context;
use crate::commands::proofs::{Verified, Which};
use crate::commands::world::Wants;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::session::Session;
use crate::domain::ticket::{Method, Purpose, timestamp};
use crate::events::Event;
use crate::keys::{KeyRing, TokenUse};
use crate::mail::catalogue::Template;
use crate::mail::context::Facts;

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    user: UserName,
    password: SecretString,
}

/// How long a person who signed in with a temporary password may take to choose a new one.
const CHANGE_TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Profiles of one address whose passwords are tried: each costs a hash.
const MAX_PROFILES: usize = 8;

impl Command for Login {
    const NAME: &'static str = "session.login";
    const LANE: Lane = Lane::Credentials;
    const AUDIENCE: Audience = Audience::SelfService;
    const SECRETS: &'static [&'static str] = &["password"];

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.user.clone());
        wants.live_sessions = true;
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let now = cx.now;
        let found = cx.world.find(&self.user);
        for id in found.iter().take(MAX_PROFILES) {
            cx.touch(id);
        }
        let mut locked_until = None;
        let mut candidates = Vec::new();
        for id in found.iter().take(MAX_PROFILES) {
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
                cx.unknown(&self.user);
            }
            cx.pretend(&self.password)?;
            return Err(wrong().into());
        }
        // All at once: the pool verifies them side by side.
        let proofs: Vec<Result<Verified, Stop>> =
            candidates.iter().map(|(_, hash)| cx.verify(Which::Given, &self.password, hash)).collect();
        let mut right = Vec::new();
        let mut missed = Vec::new();
        for ((id, _), proof) in candidates.into_iter().zip(proofs) {
            let proof = proof?;
            if proof.matches { right.push((id, proof.outdated)) } else { missed.push(id) }
        }
        match right.as_slice() {
            [] => {
                for id in missed {
                    Self::count_failure(cx, &id)?;
                }
                Err(wrong().into())
            }
            [(id, outdated)] => self.enter(cx, id, *outdated),
            several => {
                let ids: Vec<String> = several.iter().map(|(id, _)| id.clone()).collect();
                let refusal =
                    Rejection::new(Code::AmbiguousUser, "this password opens several profiles; name one by username");
                Err(refusal.with("candidates", cx.candidates(&ids)).into())
            }
        }
    }
}

impl Login {
    fn count_failure(cx: &mut Context<'_>, id: &str) -> Result<(), Stop> {
        let (now, rules) = (cx.now, &cx.env.config.login);
        if let Some(until) = cx.account(id)?.wrong_password(rules.max_failures, rules.lockout, now) {
            cx.event(id, &Event::UserLocked { until });
            let facts = Facts { locked_until: Some(until), ..cx.facts() };
            cx.email(id, Template::AccountLocked, None, &facts)?;
        }
        Ok(())
    }

    /// The password is right; what is left are the person's own obstacles.
    fn enter(&self, cx: &mut Context<'_>, id: &str, outdated: bool) -> Result<Reply, Stop> {
        let now = cx.now;
        let account = cx.account(id)?;
        if account.blocked {
            return Err(Rejection::new(Code::UserBlocked, "This account is blocked. Ask support for help.").into());
        }
        if !account.active {
            return Err(
                Rejection::new(Code::UserInactive, "This account is no longer active. Ask support for help.").into()
            );
        }
        if account.must_change_password {
            return Err(Self::demand_change(cx, id)?);
        }
        if outdated {
            let hash = cx.hash(Which::Given, &self.password)?;
            cx.account(id)?.password_hash = Some(hash);
        }
        let session = Session::open(cx.id(), id, now, cx.env.config.sessions.lifetime);
        let session_id = session.id;
        let max = cx.env.config.sessions.max_per_user;
        let account = cx.account(id)?;
        let surplus = account.open_session(session, max, now);
        let session_epoch = account.session_epoch;
        cx.event(id, &Event::SessionOpened { session_id, impersonated_by: None });
        if !surplus.is_empty() {
            let reason = Some("too_many_sessions".to_owned());
            cx.event(id, &Event::SessionRevoked { session_ids: surplus, all: false, session_epoch, reason });
        }
        cx.note("session_id", session_id.to_string());
        Ok(Reply::of(json!({ "user_id": id, "session_id": session_id, "session_epoch": session_epoch })))
    }

    fn demand_change(cx: &mut Context<'_>, id: &str) -> Result<Stop, Stop> {
        let now = cx.now;
        let account = cx.account(id)?;
        account.failed_logins = 0;
        account.dirty = true;
        if account.temporary_expires_at.is_some_and(|until| now >= until) {
            let refusal = Rejection::new(
                Code::TemporaryPasswordExpired,
                "This temporary password has expired. Ask support for a new one.",
            );
            return Ok(refusal.into());
        }
        // Counted from now, not from the message's timestamp: the person is here now.
        cx.requested_at = now;
        let ticket = cx.open_ticket(id, Purpose::PasswordChange, Method::Link, CHANGE_TOKEN_LIFETIME)?;
        let token = cx
            .env
            .keys
            .token(&ticket.key_id, TokenUse::ChangePassword, ticket.id)
            .ok_or(Stop::Bug("the current token key is missing"))?;
        let refusal = Rejection::new(Code::PasswordChangeRequired, "Choose a new password to go on.")
            .with("change_token", secrecy::ExposeSecret::expose_secret(&token))
            .with("expires_at", timestamp(ticket.expires_at));
        Ok(Stop::RejectedWithSecret(refusal, &["change_token"]))
    }
}

fn wrong() -> Rejection {
    Rejection::new(Code::InvalidCredentials, "The name or the password is not right.")
}

fn locked(until: chrono::DateTime<chrono::Utc>) -> Rejection {
    Rejection::new(Code::AccountLocked, "Too many wrong passwords. Try again later, or reset the password.")
        .with("locked_until", timestamp(until))
}

#[cfg(test)]
mod tests;
