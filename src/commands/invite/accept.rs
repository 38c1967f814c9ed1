//! `invite.accept`: uses an invitation up to write a first password; that proves the mailbox too.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented, SecretField};
use crate::commands::tokens::{self, Presented};
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::{ChangedBy, Warning};
use crate::domain::rejection::Code;
use crate::domain::ticket::Purpose;
use crate::keys::KeyRing;
use crate::world::Wants;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// From the link in the mail.
    #[schemars(with = "SecretField")]
    token: SecretString,
    /// The password that the person chose.
    #[schemars(with = "SecretField")]
    new_password: SecretString,
}

/// The invitation was accepted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// By whom.
    user_id: String,
    /// What keeps the person out all the same; left out if nothing does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
}

impl Documented for Accept {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Uses an invitation up to write a first password.",
        description: "It proves the mailbox (`email_verified`). A refused password leaves the link good.",
        errors: &[
            Code::TokenInvalid,
            Code::TokenExpired,
            Code::TokenUsed,
            Code::TokenSuperseded,
            Code::TokenRevoked,
            Code::PasswordRejected,
        ],
        events: &["password.changed", "invite.accepted", "email.verified"],
        example: r#"{"token": "AZrC8HwaekGcPl8LLW6MEUwq2n5zVd0tJ8yB1xR7uKf3oPpQ9sTgHcLmNeWvXaYb", "new_password": "Correct-Horse-7-Battery"}"#,
        answer: r#"{"user_id": "ada"}"#,
    };
}

impl Command for Accept {
    const NAME: &'static str = "invite.accept";
    const LANE: Lane = Lane::Credentials;
    const AUDIENCE: Audience = Audience::SelfService;
    const SECRETS: &'static [&'static str] = &["token", "new_password"];

    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        Presented::Token(&self.token).wants(wants, keys);
        wants.live_sessions = true;
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let (owner, id) = tokens::usable(cx, &Presented::Token(&self.token), Purpose::Invite)?;
        tokens::redeem(cx, &owner, id, &self.new_password, ChangedBy::Invite)?;
        let warnings = cx.warnings(&owner);
        Ok(Reply::of(Answer { user_id: owner, warnings }))
    }
}
