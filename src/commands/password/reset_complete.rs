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
use crate::domain::account::ChangedBy;
use crate::domain::ticket::Purpose;
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
        let change = tokens::redeem(cx, &owner, id, &self.new_password, ChangedBy::Reset)?;
        let result = json!({ "user_id": owner, "sessions_ended": change.ended.len() });
        Ok(Reply::of(tokens::with_warnings(cx, &owner, result)))
    }
}

#[cfg(test)]
mod tests;
