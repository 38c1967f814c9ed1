//! `session.impersonate`: support acts in somebody's name, for a short while, on the record.
//!
//! It is no sign-in of the person's: their last sign-in, their wrong tries and their own sessions stay as they are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::body::{Text, UserName};
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented};
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::session::Session;
use crate::domain::time::Timestamp;
use crate::events::Event;
use crate::keys::KeyRing;
use crate::world::Wants;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Impersonate {
    /// In whose name.
    user: UserName,
    /// Why: the activity log keeps it.
    reason: Text<1000>,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// A handle between servers, never a cookie. `session.check` says who acts through it.
    session_id: Uuid,
    /// When it ends by itself (`sessions.impersonation_lifetime`).
    expires_at: Timestamp,
}

impl Documented for Impersonate {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Opens a short session in somebody's name for support.",
        description: "The session is marked with the actor's id, or `system`. It neither counts among the person's own sessions nor \
                      ends any of them; a forced sign-out, a block and a changed password end it too. Nobody can impersonate \
                      somebody who may do more than they.",
        errors: &[Code::UserNotFound, Code::AmbiguousUser, Code::UserBlocked, Code::UserInactive],
        events: &["session.opened", "session.revoked"],
        example: r#"{"user": {"id": "ada"}, "reason": "cannot see the invoice of May"}"#,
        answer: r#"{"session_id": "019ac2f0-7c1a-7000-8000-000000000001", "expires_at": "2026-11-22T10:00:00.000Z"}"#,
    };
}

impl Command for Impersonate {
    const NAME: &'static str = "session.impersonate";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.user.clone());
        wants.live_sessions = true;
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        // First, so that the log has it also when it is refused.
        cx.note("reason", self.reason.as_str());
        let id = cx.target(&self.user)?;
        let (now, config) = (cx.now, &cx.env.config.sessions);
        let account = cx.account(&id)?;
        if account.blocked {
            return Err(Rejection::new(Code::UserBlocked, "this person is blocked; unblock them first").into());
        }
        if !account.active {
            return Err(Rejection::new(Code::UserInactive, "this person is deactivated; activate them first").into());
        }
        let actor = cx.authority.requester();
        let session = Session::open(cx.id(), &id, now, config.impersonation_lifetime).impersonated_by(actor.shown());
        let (session_id, expires_at) = (session.id, session.expires_at);
        let account = cx.account(&id)?;
        let surplus = account.impersonate(session, config.max_per_user, now);
        let session_epoch = account.session_epoch;
        let impersonated_by = Some(actor.shown().to_owned());
        super::tell_opened(cx, &id, &Event::SessionOpened { session_id, impersonated_by }, surplus, session_epoch);
        cx.note("session_id", session_id.to_string());
        Ok(Reply::of(Answer { session_id, expires_at: expires_at.into() }))
    }
}

#[cfg(test)]
mod tests;
