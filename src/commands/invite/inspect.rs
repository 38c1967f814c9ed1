//! `invite.inspect`: whether an invitation's link is still good, and the rules that a password must keep.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::commands::Reply;
use crate::commands::document::{Doc, Documented, SecretField};
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::commands::tokens;
use crate::domain::access::Audience;
use crate::domain::rejection::Code;
use crate::domain::ticket::Purpose;
use crate::store;
use crate::world::Wants;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inspect {
    /// From the link in the mail.
    #[schemars(with = "SecretField")]
    token: SecretString,
}

impl Documented for Inspect {
    type Answer = tokens::Inspected;
    const DOC: Doc = Doc {
        summary: "Tells whether an invitation's link is still good, and the rules that a password must \
                      keep.",
        description: "For the page that the link opens. Looking never uses the link up.",
        errors: &[Code::TokenInvalid, Code::TokenExpired, Code::TokenUsed, Code::TokenSuperseded, Code::TokenRevoked],
        events: &[],
        example: r#"{"token": "AZrC8HwaekGcPl8LLW6MEUwq2n5zVd0tJ8yB1xR7uKf3oPpQ9sTgHcLmNeWvXaYb"}"#,
        answer: r#"{
            "valid": true,
            "purpose": "invite",
            "username": "ada",
            "expires_at": "2026-11-24T14:02:00.000Z",
            "policy": {
                "min_length": 12, "max_length": 256, "require_uppercase": true, "require_lowercase": true,
                "require_digit": true, "require_special": true, "min_strength": 2, "forbid_personal": true,
                "history": 3, "blocklist": false,
                "rules": [{"rule": "min_length", "message": "Use at least 12 characters."}]
            }
        }"#,
    };
}

impl Query for Inspect {
    const NAME: &'static str = "invite.inspect";
    const AUDIENCE: Audience = Audience::SelfService;

    async fn answer(&self, mut cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let id = tokens::opened(&self.token, Purpose::Invite, cx.env.keys)?;
        let wants = Wants { tickets: [id].into(), ..Wants::default() };
        let world = store::world::load(cx.connection.get().await?, &wants, false, cx.now).await?;
        let account = world.owner_of_ticket(id).ok_or_else(tokens::invalid)?;
        let ticket = account.ticket(id).filter(|t| t.purpose == Purpose::Invite).ok_or_else(tokens::invalid)?;
        account.usable(ticket, cx.now)?;
        Ok(Reply::of(tokens::inspected(account, ticket, cx.env.config.password.policy.describe())))
    }
}
