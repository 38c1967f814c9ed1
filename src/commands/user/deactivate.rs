//! `user.deactivate`: a person left; all their sessions end.

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
pub struct Deactivate(SwitchBody);

impl Documented for Deactivate {
    type Answer = About;
    const DOC: Doc = Doc {
        summary: "Shuts out a person who left; ends all their sessions.",
        description: "Links and codes are of no use while they are deactivated. Of somebody who is deactivated \
                      already, nothing changes.",
        errors: &[Code::UserNotFound, Code::AmbiguousUser],
        events: &["user.deactivated", "session.revoked"],
        example: r#"{"user": {"id": "ada"}, "reason": "ticket 4711"}"#,
        answer: r#"{
            "user": {
                "id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada Lovelace",
                "site": "default", "roles": [], "locale": "en", "email_verified": true,
                "active": false, "blocked": false, "status": "inactive", "has_password": true, "locked_until": null,
                "must_change_password": false, "created_at": "2026-11-20T09:30:00.000Z",
                "last_login_at": null, "session_epoch": 1
            }
        }"#,
    };
}

impl Command for Deactivate {
    const NAME: &'static str = "user.deactivate";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.0.user.clone());
        wants.live_sessions = true;
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        switch(&self.0, cx, &Event::UserDeactivated, Sessions::End, |account| {
            std::mem::replace(&mut account.active, false)
        })
    }
}
