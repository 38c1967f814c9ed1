//! `email.verification.complete`: uses a verification's link or code up; the address is the person's own.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::body::Client;
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented};
use crate::commands::tokens::{self, LinkOrCode};
use crate::commands::{Asked, Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State};
use crate::events::Event;
use crate::keys::KeyRing;
use crate::world::{Wants, World};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Complete(LinkOrCode);

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Whose address is verified now.
    user_id: String,
}

impl Documented for Complete {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Uses a verification's link or code up: the address is the person's own.",
        description: "A link works once, so the page behind it should ask for a click: mail scanners open links. A code dies after \
                      `password_reset.max_attempts` wrong tries.",
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
        events: &["email.verified"],
        example: r#"{"user": {"id": "ada"}, "code": "12345678"}"#,
        answer: r#"{"user_id": "ada"}"#,
    };
}

impl Command for Complete {
    const NAME: &'static str = "email.verification.complete";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::SelfService;
    const SECRETS: &'static [&'static str] = &["token", "code"];

    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        self.0.wants(wants, keys);
    }

    fn limits(&self, _: &Client, _: &World, keys: &KeyRing) -> Vec<Uuid> {
        self.0.limits(Purpose::Verification, keys)
    }

    fn pace(&self, asked: Asked<'_>) -> Duration {
        asked.of_a_code()
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let (owner, id) = tokens::usable(cx, &self.0.presented()?, Purpose::Verification)?;
        let now = cx.now;
        let account = cx.account(&owner)?;
        account.ticket_mut(id).ok_or(Stop::Bug("a usable ticket vanished"))?.close(State::Completed, now);
        if !account.email_verified {
            account.email_verified = true;
            account.touch(now);
            cx.event(&owner, &Event::EmailVerified);
        }
        Ok(Reply::of(Answer { user_id: owner }))
    }
}

#[cfg(test)]
#[path = "verification/tests.rs"]
mod tests;
