//! `invite.send`: invites a person, who is created if the body holds a profile.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::commands::body::UserName;
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented};
use crate::commands::user::profile::ProfileBody;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::{Account, Invitation};
use crate::domain::rejection::Code;
use crate::keys::KeyRing;
use crate::world::Wants;

use super::{already_accepted, invite};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// A whole profile, which is put first; or the name of somebody who exists.
    user: Invited,
}

/// A whole profile, or the name of somebody who exists.
#[derive(Debug, JsonSchema)]
#[schemars(inline, untagged)]
enum Invited {
    /// As in `user.put`.
    Profile(Box<ProfileBody>),
    /// Somebody who exists.
    Name(UserName),
}

impl<'de> Deserialize<'de> for Invited {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        // Not an untagged enum: that would hide which field is wrong.
        let fields = serde_json::Map::deserialize(deserializer)?;
        let read = |e: crate::commands::body::Unreadable| D::Error::custom(e.detail);
        if fields.len() > 1 {
            crate::commands::body::fields(fields).map(|p| Self::Profile(Box::new(p))).map_err(read)
        } else {
            crate::commands::body::fields(fields).map(Self::Name).map_err(read)
        }
    }
}

impl Documented for Send {
    type Answer = super::Sent;
    const DOC: Doc = Doc {
        summary: "Invites a person by mail to choose a first password; creates them if the body holds a \
                      profile.",
        description: "An invitation that is open already is superseded: only the newest link works. A command that comes after its \
                      link would have run out is `expired` while there is a good one; one that is older than the open \
                      invitation is `token_superseded`. \
                      Neither changes anything, nor does one for an address that nothing is sent to (`address_suppressed`).",
        errors: &[
            Code::UserNotFound,
            Code::AmbiguousUser,
            Code::UserExists,
            Code::UserBlocked,
            Code::UserInactive,
            Code::AddressSuppressed,
            Code::TokenSuperseded,
            Code::AlreadyAccepted,
        ],
        events: &["user.created", "user.updated", "invite.sent"],
        example: r#"{"user": {"id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada Lovelace"}}"#,
        answer: r#"{
            "user_id": "ada",
            "ticket_id": "019ac2f0-7c1a-7a41-9c3e-5f0b2d6e8c11",
            "expires_at": "2026-11-25T09:30:00.000Z",
            "email_id": "019ac2f0-7c1a-7b52-8c4d-1e6f9a3b7c20"
        }"#,
    };
}

impl Command for Send {
    const NAME: &'static str = "invite.send";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        match &self.user {
            Invited::Profile(profile) => profile.wants(wants, keys),
            Invited::Name(name) => wants.users.push(name.clone()),
        }
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let id = match &self.user {
            Invited::Name(name) => cx.target(name)?,
            Invited::Profile(profile) => {
                cx.touch(profile.id());
                if let Some(account) = cx.world.account(profile.id()) {
                    cx.authority.may_act_on(account, &cx.env.config.roles)?;
                }
                profile.id().to_owned()
            }
        };
        // Before a profile is written: a refusal must change nothing.
        let settled = |a: &Account| a.invitation == Invitation::Accepted || a.password_hash.is_some();
        if cx.world.account(&id).is_some_and(settled) {
            return Err(already_accepted().into());
        }
        if let Invited::Profile(profile) = &self.user {
            let suppressed = cx.world.is_suppressed(&profile.email_key());
            super::may_be_invited(cx, &id, suppressed)?;
            profile.put(cx)?;
        }
        invite(cx, &id)
    }
}
