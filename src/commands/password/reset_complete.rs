//! `password.reset.complete`: uses a link or code up to write a new password.
//!
//! The ticket is closed by the transaction that writes the password: of two browsers at once, one wins.

use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::body::{Client, UserName};
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented, SecretField, exactly_one_of};
use crate::commands::tokens::{self, Presented};
use crate::commands::{Asked, Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::{ChangedBy, Warning};
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::Purpose;
use crate::keys::KeyRing;
use crate::world::{Wants, World};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = exactly_one_of(&[&["token"], &["user", "code"]])))]
pub struct ResetComplete {
    /// From the link in the mail. Either this, or `user` and `code`.
    #[schemars(with = "Option<SecretField>")]
    token: Option<SecretString>,
    /// Who types the code.
    user: Option<UserName>,
    /// From the mail.
    #[schemars(with = "Option<SecretField>")]
    code: Option<SecretString>,
    /// The password that the person chose.
    #[schemars(with = "SecretField")]
    new_password: SecretString,
}

/// A password was changed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Whose.
    user_id: String,
    /// How many of their sessions ended.
    sessions_ended: usize,
    /// What keeps the person out all the same; left out if nothing does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
}

impl Documented for ResetComplete {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Uses a link or code up to write a new password.",
        description: "Give either `token`, or `user` and `code`; and `new_password`. A refused password leaves \
                      the link good. Done once: of two browsers at once, one wins. It proves the mailbox \
                      (`email_verified`), ends a lockout, accepts an open invitation, voids all other open \
                      links, ends the person's sessions (`sessions.end_on_password_change`), and mails \
                      `password_changed`. It unblocks and activates nobody: `warnings` says so.",
        errors: &[
            Code::TokenInvalid,
            Code::TokenExpired,
            Code::TokenUsed,
            Code::TokenSuperseded,
            Code::TokenRevoked,
            Code::CodeInvalid,
            Code::TooManyAttempts,
            Code::AmbiguousUser,
            Code::PasswordRejected,
        ],
        events: &["password.changed", "session.revoked", "email.verified", "invite.accepted"],
        example: r#"{"token": "AZrC8HwaekGcPl8LLW6MEUwq2n5zVd0tJ8yB1xR7uKf3oPpQ9sTgHcLmNeWvXaYb", "new_password": "Tr0ub4dor-And-Three!"}"#,
        answer: r#"{"user_id": "ada", "sessions_ended": 2}"#,
    };
}

impl ResetComplete {
    fn presented(&self) -> Result<Presented<'_>, Rejection> {
        Presented::new(self.token.as_ref(), self.user.as_ref(), self.code.as_ref())
    }
}

impl Command for ResetComplete {
    const NAME: &'static str = "password.reset.complete";
    const LANE: Lane = Lane::Credentials;
    const AUDIENCE: Audience = Audience::SelfService;
    const SECRETS: &'static [&'static str] = &["token", "code", "new_password"];

    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        if let Ok(presented) = self.presented() {
            presented.wants(wants, keys);
            wants.live_sessions = true;
        }
    }

    fn limits(&self, _: &Client, _: &World, keys: &KeyRing) -> Vec<Uuid> {
        self.presented().map_or_else(|_| Vec::new(), |presented| presented.limits(Purpose::PasswordReset, keys))
    }

    fn pace(&self, asked: Asked<'_>) -> Duration {
        asked.of_a_code()
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let (owner, id) = tokens::usable(cx, &self.presented()?, Purpose::PasswordReset)?;
        let change = tokens::redeem(cx, &owner, id, &self.new_password, ChangedBy::Reset)?;
        let warnings = cx.warnings(&owner);
        Ok(Reply::of(Answer { user_id: owner, sessions_ended: change.ended.len(), warnings }))
    }
}

#[cfg(test)]
mod tests;
