//! `password.reset.complete`: uses a link or code up to write a new password.
//!
//! The ticket is closed by the transaction that writes the password: of two browsers at once, one wins.

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use crate::commands::body::UserName;
use crate::commands::context::Context;
use crate::commands::tokens::{self, Shown};
use crate::commands::world::Wants;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::{ChangeRules, ChangedBy};
use crate::domain::ticket::{Purpose, State};
use crate::keys::KeyRing;

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetComplete {
    token: Option<SecretString>,
    user: Option<UserName>,
    code: Option<SecretString>,
    new_password: SecretString,
}

impl Command for ResetComplete {
    const NAME: &'static str = "password.reset.complete";
    const LANE: Lane = Lane::Credentials;
    const AUDIENCE: Audience = Audience::SelfService;
    const SECRETS: &'static [&'static str] = &["token", "code", "new_password"];

    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        if let Ok(shown) = Shown::new(self.token.as_ref(), self.user.as_ref(), self.code.as_ref()) {
            shown.wants(wants, keys);
            wants.live_sessions = true;
        }
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let shown = Shown::new(self.token.as_ref(), self.user.as_ref(), self.code.as_ref())?;
        let (owner, id) = tokens::usable(cx, &shown, Purpose::PasswordReset)?;
        let hash = cx.accept_password(&owner, &self.new_password)?;
        let now = cx.now;
        let ticket = cx.account(&owner)?.ticket_mut(id).ok_or(Stop::Bug("a usable ticket vanished"))?;
        ticket.close(State::Completed, now);
        let rules =
            ChangeRules { end_sessions: cx.env.config.sessions.end_on_password_change, ..ChangeRules::default() };
        let change = cx.change_password(&owner, hash, ChangedBy::Reset, rules)?;
        let mut result = json!({ "user_id": owner, "sessions_ended": change.ended.len() });
        let warnings = cx.warnings(&owner);
        if !warnings.is_empty() {
            result["warnings"] = warnings.into();
        }
        Ok(Reply::of(result))
    }
}

#[cfg(test)]
mod tests;
