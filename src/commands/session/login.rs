//! `session.login`: a name and a password become a session.
//!
//! An unknown person costs as much time as a wrong password. Wrong passwords lock an account for a while; whether a
//! person is blocked or deactivated is told only after the right one.

use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::body::UserName;
use crate::commands::context::Context;
use crate::commands::credentials;
use crate::commands::document::{Doc, Documented, SecretField};
use crate::commands::proofs::Which;
use crate::commands::{Asked, Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::rejection::{Code, Outcome, Rejection};
use crate::domain::session::Session;
use crate::domain::ticket::{Method, Purpose, timestamp};
use crate::events::Event;
use crate::keys::{KeyRing, TokenUse};
use crate::metrics::{LoginOutcome, Metrics};
use crate::world::Wants;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Who. An email that several profiles share means the one whose password it is.
    user: UserName,
    /// What the person typed.
    #[schemars(with = "SecretField")]
    password: SecretString,
}

/// A session was opened.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Who signed in.
    user_id: String,
    /// A handle between servers; never a cookie.
    session_id: Uuid,
    /// To be kept beside a stateless session: one of an older epoch is to be refused.
    session_epoch: i64,
}

/// How long a person who signed in with a temporary password may take to choose a new one.
const CHANGE_TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

impl Documented for Login {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Signs a person in: a name and a password become a session.",
        description: "`invalid_credentials` for an unknown person and for a wrong password alike, in the same \
                      time. `login.max_failures` wrong passwords in a row lock the account for `login.lockout` \
                      (`account_locked`, with `details.locked_until`). That somebody is blocked or deactivated \
                      is told only after the right password. With a temporary password: \
                      `password_change_required`, with `details.change_token`, good for 15 minutes for \
                      `password.change`. `ambiguous_user` if the password opens several profiles of that email; \
                      `details.candidates` names them.",
        errors: &[
            Code::InvalidCredentials,
            Code::AccountLocked,
            Code::AmbiguousUser,
            Code::UserBlocked,
            Code::UserInactive,
            Code::PasswordChangeRequired,
            Code::TemporaryPasswordExpired,
        ],
        events: &["session.opened", "session.revoked", "user.locked"],
        example: r#"{"user": {"email": "ada@example.com"}, "password": "Correct-Horse-7-Battery"}"#,
        answer: r#"{"user_id": "ada", "session_id": "019ac2f0-9d2b-7c63-ae5f-2a7b0c4d8e31", "session_epoch": 0}"#,
    };
}

impl Command for Login {
    const NAME: &'static str = "session.login";
    const LANE: Lane = Lane::Credentials;
    const AUDIENCE: Audience = Audience::SelfService;
    const SECRETS: &'static [&'static str] = &["password"];

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.user.clone());
        wants.live_sessions = true;
    }

    fn pace(&self, asked: Asked<'_>) -> Duration {
        asked.of_a_sign_in()
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let known = credentials::prove(cx, &self.user, &self.password)?;
        let result = self.enter(cx, &known.id, known.outdated);
        credentials::settle(cx, &known, result)
    }

    fn observe(outcome: Outcome, metrics: &Metrics) {
        if let Some(login) = LoginOutcome::ALL.iter().find(|login| login.as_str() == outcome.as_str()) {
            metrics.login(*login);
        }
    }
}

impl Login {
    /// The password is right; what is left are the person's own obstacles.
    fn enter(&self, cx: &mut Context<'_>, id: &str, outdated: bool) -> Result<Reply, Stop> {
        let now = cx.now;
        let account = cx.account(id)?;
        credentials::may_enter(account)?;
        if account.must_change_password() {
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
        super::tell_opened(cx, id, &Event::SessionOpened { session_id, impersonated_by: None }, surplus, session_epoch);
        cx.note("session_id", session_id.to_string());
        Ok(Reply::of(Answer { user_id: id.to_owned(), session_id, session_epoch }))
    }

    fn demand_change(cx: &mut Context<'_>, id: &str) -> Result<Stop, Stop> {
        let now = cx.now;
        credentials::temporary_still_works(cx.account(id)?, now)?;
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

#[cfg(test)]
mod tests;
