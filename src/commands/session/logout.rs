//! `session.logout`: a person signs out on one device. Doing it twice is no error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented};
use crate::commands::handle::Handle;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::rejection::Code;
use crate::events::Event;
use crate::keys::KeyRing;
use crate::world::Wants;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Logout {
    /// From `session.login`.
    session_id: Handle,
}

/// Nothing to tell.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {}

impl Documented for Logout {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Signs a person out on one device.",
        description: "A session that has ended already is no error.",
        errors: &[Code::SessionNotFound],
        events: &["session.closed"],
        example: r#"{"session_id": "019ac2f0-9d2b-7c63-ae5f-2a7b0c4d8e31"}"#,
        answer: "{}",
    };
}

impl Command for Logout {
    const NAME: &'static str = "session.logout";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::SelfService;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.sessions.insert(self.session_id.id());
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let (now, session_id) = (cx.now, self.session_id.id());
        let owner = cx.world.owner_of_session(session_id).map(|a| a.id().to_owned());
        let owner = owner.ok_or_else(super::force_logout::not_found)?;
        cx.touch(&owner);
        cx.note("session_id", session_id.to_string());
        let mut ended = false;
        if let Some(session) = cx.account(&owner)?.sessions.iter_mut().find(|s| s.id == session_id && s.is_live(now)) {
            session.end(now, "logout");
            ended = true;
        }
        if ended {
            cx.event(&owner, &Event::SessionClosed { session_id });
        }
        Ok(Reply::of(Answer {}))
    }
}

#[cfg(test)]
mod tests;
