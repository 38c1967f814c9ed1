//! `daemon.info`: what a publisher needs to know: version, sealing key, password policy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::commands::document::{Doc, Documented};
use crate::domain::access::Audience;
use crate::domain::policy::Described;
use crate::keys::PublicSealingKey;

use super::Reply;
use super::query::{Query, QueryContext, Unanswered};

/// The body: empty.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Info {}

/// The daemon, to a publisher.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Its version.
    version: &'static str,
    /// The key that publishers seal secrets to.
    sealing_key: PublicSealingKey,
    /// The rules for passwords.
    policy: Described,
}

impl Documented for Info {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Tells what a publisher needs to know: version, sealing key, password policy.",
        description: "Ask again when a secret is refused as `sealed_invalid`: the key may have been rotated.",
        errors: &[],
        events: &[],
        example: "{}",
        answer: r#"{
            "version": "0.1.0",
            "sealing_key": {
                "key_id": "s-2026-11", "algorithm": "x25519-xsalsa20-poly1305-sealedbox",
                "public_key": "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="
            },
            "policy": {
                "min_length": 12, "max_length": 256, "require_uppercase": true, "require_lowercase": true,
                "require_digit": true, "require_special": true, "min_strength": 2, "forbid_personal": true,
                "history": 3, "blocklist": false,
                "rules": [{"rule": "min_length", "message": "Use at least 12 characters."}]
            }
        }"#,
    };
}

impl Query for Info {
    const NAME: &'static str = "daemon.info";
    const AUDIENCE: Audience = Audience::SelfService;

    async fn answer(&self, cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        Ok(Reply::of(Answer {
            version: env!("CARGO_PKG_VERSION"),
            sealing_key: cx.env.keys.sealing_key(),
            policy: cx.env.config.password.policy.describe(),
        }))
    }
}
