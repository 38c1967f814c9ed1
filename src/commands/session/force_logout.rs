//! `session.force_logout`: ends sessions of up to a thousand people, or one session.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::commands::body::{Text, UserName};
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented, exactly_one_of};
use crate::commands::handle::Handle;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::rejection::{Code, Rejection};
use crate::events::Event;
use crate::keys::KeyRing;
use crate::mail::catalogue::Template;
use crate::mail::context::Facts;
use crate::world::Wants;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = exactly_one_of(&[&["users"], &["session_id"]])))]
pub struct ForceLogout {
    /// Whose sessions end, 1 to 1000 people.
    users: Option<People>,
    /// The one session that ends.
    session_id: Option<Handle>,
    /// A session that stays, such as the caller's own; with `users`.
    except_session_id: Option<Handle>,
    /// Why: for the activity log, the event and the mail `signed_out`.
    reason: Option<Text<1000>>,
}

/// What ended.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// One for each person, in the order of their first mention.
    ended: Vec<Ended>,
    /// The names that nobody has, as they were given, in comparison form.
    not_found: Vec<UserName>,
}

/// A person's sessions ended.
#[derive(Debug, Serialize, JsonSchema)]
struct Ended {
    /// Whose.
    user_id: String,
    /// How many.
    sessions: usize,
}

/// 1 to 1000 names.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
struct People(#[schemars(length(min = 1, max = 1000))] Vec<UserName>);

impl<'de> Deserialize<'de> for People {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<UserName>::deserialize(deserializer)?;
        if names.is_empty() || names.len() > 1000 {
            return Err(serde::de::Error::custom(format_args!("must name 1 to 1000 people, names {}", names.len())));
        }
        Ok(Self(names))
    }
}

impl Documented for ForceLogout {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Ends all sessions of up to a thousand people, or one session.",
        description: "Give either `users` or `session_id`. With `users` the `session_epoch` of each grows, also \
                      when no session of theirs is known here, so that stateless sessions of your app end too. \
                      `except_session_id` stays, with the new epoch: ask `session.check` for it. \
                      One refusal refuses the whole command, and `details.index` says whose; a name that nobody \
                      has is no refusal.",
        errors: &[Code::AmbiguousUser, Code::SessionNotFound],
        events: &["session.revoked"],
        example: r#"{"users": [{"id": "ada"}, {"email": "nobody@example.com"}], "reason": "lost phone"}"#,
        answer: r#"{"ended": [{"user_id": "ada", "sessions": 1}], "not_found": [{"email": "nobody@example.com"}]}"#,
    };
}

impl Command for ForceLogout {
    const NAME: &'static str = "session.force_logout";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        if let Some(People(names)) = &self.users {
            wants.users.extend(names.iter().cloned());
        }
        wants.sessions.extend(self.session_id.map(Handle::id));
        wants.live_sessions = true;
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        if let Some(reason) = &self.reason {
            cx.note("reason", reason.0.clone());
        }
        match (&self.users, self.session_id) {
            (Some(People(names)), None) => self.people(cx, names),
            (None, Some(session)) => self.one(cx, session.id()),
            _ => Err(Rejection::new(Code::InvalidBody, "give either `users` or `session_id`").into()),
        }
    }
}

impl ForceLogout {
    fn people(&self, cx: &mut Context<'_>, names: &[UserName]) -> Result<Reply, Stop> {
        let mut ids: Vec<String> = Vec::new();
        let mut not_found = Vec::new();
        // Every refusal comes before the first change.
        for (index, name) in names.iter().enumerate() {
            match cx.target(name) {
                Ok(id) if ids.contains(&id) => {}
                Ok(id) => ids.push(id),
                Err(refusal) if refusal.code == Code::UserNotFound => not_found.push(name.clone()),
                Err(refusal) => return Err(refusal.with("index", index).into()),
            }
        }
        let now = cx.now;
        let except = self.except_session_id.map(Handle::id);
        let reason = self.reason.as_ref().map(|r| r.0.clone());
        let mut ended = Vec::new();
        for id in ids {
            let account = cx.account(&id)?;
            let session_ids = account.force_logout(except, "forced", now);
            let (sessions, session_epoch) = (session_ids.len(), account.session_epoch);
            let all = !account.has_live_session(now);
            let except_session_id = account.live_session(except, now);
            cx.event(
                &id,
                &Event::SessionRevoked { session_ids, all, session_epoch, reason: reason.clone(), except_session_id },
            );
            self.tell(cx, &id)?;
            ended.push(Ended { user_id: id, sessions });
        }
        Ok(Reply::of(Answer { ended, not_found }))
    }

    /// Ends one session. The epoch stays: it would end the person's other, stateless sessions too.
    fn one(&self, cx: &mut Context<'_>, session: Uuid) -> Result<Reply, Stop> {
        let now = cx.now;
        let owner = cx.world.owner_of_session(session).map(|a| a.id().to_owned()).ok_or_else(not_found)?;
        cx.touch(&owner);
        let (authority, config) = (cx.authority.clone(), cx.env.config);
        let account = cx.account(&owner)?;
        authority.may_act_on(account, &config.roles)?;
        let mut sessions = 0;
        if let Some(session) = account.sessions.iter_mut().find(|s| s.id == session && s.is_live(now)) {
            session.end(now, "forced");
            sessions = 1;
        }
        let session_epoch = account.session_epoch;
        if sessions > 0 {
            let reason = self.reason.as_ref().map(|r| r.0.clone());
            cx.event(
                &owner,
                &Event::SessionRevoked {
                    session_ids: vec![session],
                    all: false,
                    session_epoch,
                    reason,
                    except_session_id: None,
                },
            );
            self.tell(cx, &owner)?;
        }
        Ok(Reply::of(Answer { ended: vec![Ended { user_id: owner, sessions }], not_found: Vec::new() }))
    }

    fn tell(&self, cx: &mut Context<'_>, id: &str) -> Result<(), Stop> {
        let facts = Facts { reason: self.reason.as_ref().map(|r| r.0.clone()), ..cx.facts() };
        cx.email(id, Template::SignedOut, None, &facts)?;
        Ok(())
    }
}

/// The refusal of a session that nobody has.
pub fn not_found() -> Rejection {
    Rejection::new(Code::SessionNotFound, "there is no such session")
}

#[cfg(test)]
mod tests;
