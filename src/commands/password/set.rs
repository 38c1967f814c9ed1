//! `password.set`: support types a password for somebody; only where `manual_entry.allowed` says so.

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use crate::commands::body::UserName;
use crate::commands::context::Context;
use crate::commands::world::Wants;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::{ChangeRules, ChangedBy};
use crate::domain::rejection::{Code, Rejection};
use crate::keys::KeyRing;

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    user: UserName,
    new_password: SecretString,
    #[serde(default)]
    temporary: bool,
    force_logout: Option<bool>,
}

impl Command for Set {
    const NAME: &'static str = "password.set";
    const LANE: Lane = Lane::Credentials;
    const AUDIENCE: Audience = Audience::Administrative;
    const SECRETS: &'static [&'static str] = &["new_password"];

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.user.clone());
        wants.live_sessions = true;
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        if !cx.env.config.manual_entry.allowed {
            return Err(Rejection::new(
                Code::ManualEntryDisabled,
                "passwords are not set by hand here (manual_entry.allowed); send a reset or an invitation instead",
            )
            .into());
        }
        let id = cx.target(&self.user)?;
        let hash = cx.accept_password(&id, &self.new_password)?;
        let config = cx.env.config;
        let rules = ChangeRules {
            end_sessions: self.force_logout.unwrap_or(config.manual_entry.force_logout),
            temporary_until: self.temporary.then(|| cx.now + config.temporary_password.lifetime),
            ..ChangeRules::default()
        };
        cx.change_password(&id, hash, ChangedBy::Admin, rules)?;
        Ok(Reply::of(json!({ "must_change_password": self.temporary, "warnings": cx.warnings(&id) })))
    }
}

#[cfg(test)]
mod tests;
