//! `password.set`: support types a password for somebody; only where `manual_entry.allowed` says so.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::commands::body::{UserName, or_default};
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented, SecretField};
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::{ChangeRules, ChangedBy, Warning};
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::timestamp;
use crate::keys::KeyRing;
use crate::world::Wants;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Whose password.
    user: UserName,
    /// The new one.
    #[schemars(with = "SecretField")]
    new_password: SecretString,
    /// Whether the person must replace it right after signing in; then it expires after `temporary_password.lifetime`.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<bool>")]
    temporary: bool,
    /// Whether their sessions end; without it, `manual_entry.force_logout` of the configuration, and where that is not set
    /// either, `sessions.end_on_password_change`.
    force_logout: Option<bool>,
}

/// The password was set.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Whether it must be replaced right after signing in.
    must_change_password: bool,
    /// What keeps the person out all the same; mostly empty.
    warnings: Vec<Warning>,
}

impl Documented for Set {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Sets a password that support typed for somebody.",
        description: "Only where `manual_entry.allowed` says so. The person learns of it by mail \
                      (`password_changed`), which does not hold the password; all their open links and codes \
                      are void. It unblocks and activates nobody: `warnings` says so. Where you can, send a \
                      reset instead: then support never knows a password.",
        errors: &[Code::ManualEntryDisabled, Code::UserNotFound, Code::AmbiguousUser, Code::PasswordRejected],
        events: &["password.changed", "session.revoked"],
        example: r#"{"user": {"id": "ada"}, "new_password": "Tr0ub4dor-And-Three!", "temporary": true}"#,
        answer: r#"{"must_change_password": true, "warnings": []}"#,
    };
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
        let temporary_until = if self.temporary { Some(cx.temporary_until(&id)?) } else { None };
        let hash = cx.accept_password(&id, &self.new_password)?;
        let config = cx.env.config;
        let configured = config.manual_entry.force_logout.unwrap_or(config.sessions.end_on_password_change);
        let rules = ChangeRules {
            end_sessions: self.force_logout.unwrap_or(configured),
            temporary_until,
            ..ChangeRules::default()
        };
        if let Some(until) = rules.temporary_until {
            cx.note("expires_at", timestamp(until));
        }
        cx.change_password(&id, hash, ChangedBy::Admin, rules)?;
        Ok(Reply::of(Answer { must_change_password: self.temporary, warnings: cx.warnings(&id) }))
    }
}

#[cfg(test)]
mod tests;
