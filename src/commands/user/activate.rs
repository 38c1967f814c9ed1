//! `user.activate`: lets a deactivated person sign in again.

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
pub struct Activate(SwitchBody);

impl Documented for Activate {
    type Answer = About;
    const DOC: Doc = Doc {
        summary: "Lets a deactivated person sign in again.",
        description: "Of somebody who is active already, nothing changes.",
        errors: &[Code::UserNotFound, Code::AmbiguousUser],
        events: &["user.activated"],
        example: r#"{"user": {"id": "ada"}, "reason": "ticket 4711"}"#,
        answer: r#"{
            "user": {
                "id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada Lovelace",
                "site": "default", "roles": [], "locale": "en", "email_verified": true,
                "active": true, "blocked": false, "status": "active", "has_password": true, "locked_until": null,
                "must_change_password": false, "created_at": "2026-11-20T09:30:00.000Z",
                "last_login_at": null, "session_epoch": 0
            }
        }"#,
    };
}

impl Command for Activate {
    const NAME: &'static str = "user.activate";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.0.user.clone());
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        switch(&self.0, cx, &Event::UserActivated, Sessions::Keep, |account| {
            !std::mem::replace(&mut account.active, true)
        })
    }
}
