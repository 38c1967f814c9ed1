//! `user.block`: keeps a person out; all their sessions end.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented};
use crate::commands::user::About;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::rejection::Code;
use crate::events::Event;
use crate::keys::KeyRing;
use crate::world::Wants;

use super::switch::{Sessions, SwitchBody, switch};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Block(SwitchBody);

impl Documented for Block {
    type Answer = About;
    const DOC: Doc = Doc {
        summary: "Keeps a person out; ends all their sessions.",
        description: "A block is lifted by `user.unblock` only: no reset and no new password does it. Of \
                      somebody who is blocked already, nothing changes.",
        errors: &[Code::UserNotFound, Code::AmbiguousUser],
        events: &["user.blocked", "session.revoked"],
        example: r#"{"user": {"id": "ada"}, "reason": "ticket 4711"}"#,
        answer: r#"{
            "user": {
                "id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada Lovelace",
                "site": "default", "roles": [], "locale": "en", "email_verified": true,
                "active": true, "blocked": true, "status": "blocked", "has_password": true, "locked_until": null,
                "must_change_password": false, "created_at": "2026-11-20T09:30:00.000Z",
                "last_login_at": null, "session_epoch": 1
            }
        }"#,
    };
}

impl Command for Block {
    const NAME: &'static str = "user.block";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.0.user.clone());
        wants.live_sessions = true;
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        switch(&self.0, cx, &Event::UserBlocked, Sessions::End, |account| {
            !std::mem::replace(&mut account.blocked, true)
        })
    }
}
