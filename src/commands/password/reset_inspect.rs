//! `password.reset.inspect`: whether a link or code is still good, and the rules that a new password must keep.
//!
//! Looking never uses a link up: mail scanners open links. A wrong code counts as a try.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use crate::commands::body::Client;
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented};
use crate::commands::tokens::{self, Inspected, LinkOrCode};
use crate::commands::{Asked, Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::rejection::Code;
use crate::domain::ticket::Purpose;
use crate::keys::KeyRing;
use crate::world::{Wants, World};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ResetInspect(LinkOrCode);

impl Documented for ResetInspect {
    type Answer = Inspected;
    const DOC: Doc = Doc {
        summary: "Tells whether a link or code is still good, and the rules that a new password must keep.",
        description: "For the page that the link opens, before anything is typed. Give either `token`, or \
                      `user` and `code`. Looking never uses anything up, since mail scanners open links; but a \
                      wrong code counts as an attempt. `token_superseded` has `details.newer_requested_at`, so \
                      that the page can say \"use the email of 14:02\".",
        errors: &[
            Code::TokenInvalid,
            Code::TokenExpired,
            Code::TokenUsed,
            Code::TokenSuperseded,
            Code::TokenRevoked,
            Code::CodeInvalid,
            Code::TooManyAttempts,
            Code::AmbiguousUser,
        ],
        events: &[],
        example: r#"{"token": "AZrC8HwaekGcPl8LLW6MEUwq2n5zVd0tJ8yB1xR7uKf3oPpQ9sTgHcLmNeWvXaYb"}"#,
        answer: r#"{
            "valid": true,
            "purpose": "password_reset",
            "username": "ada",
            "expires_at": "2026-11-22T14:02:00.000Z",
            "policy": {
                "min_length": 12, "max_length": 256, "require_uppercase": true, "require_lowercase": true,
                "require_digit": true, "require_special": true, "min_strength": 2, "forbid_personal": true,
                "history": 3, "blocklist": false,
                "rules": [{"rule": "min_length", "message": "Use at least 12 characters."}]
            }
        }"#,
    };
}

impl Command for ResetInspect {
    const NAME: &'static str = "password.reset.inspect";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::SelfService;

    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        self.0.wants(wants, keys);
    }

    fn limits(&self, _: &Client, _: &World, keys: &KeyRing) -> Vec<Uuid> {
        self.0.limits(Purpose::PasswordReset, keys)
    }

    fn pace(&self, asked: Asked<'_>) -> Duration {
        asked.of_a_code()
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let (owner, id) = tokens::usable(cx, &self.0.presented()?, Purpose::PasswordReset)?;
        let policy = cx.env.config.password.policy.describe();
        let account = cx.account(&owner)?;
        let ticket = account.ticket(id).ok_or(Stop::Bug("a usable ticket vanished"))?;
        Ok(Reply::of(tokens::inspected(account, ticket, policy)))
    }
}
