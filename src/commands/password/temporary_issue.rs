//! `password.temporary.issue`: a password that the daemon makes and tells once, for support to read out.
//!
//! It only serves to choose a new one. It is in the one reply and nowhere else: the mail says that there is one, not which.

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::commands::body::UserName;
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented, exactly_one_of};
use crate::commands::proofs::Which;
use crate::commands::user::profile::ProfileBody;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::{ChangeRules, ChangedBy, Warning};
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::timestamp;
use crate::domain::time::Timestamp;
use crate::events::Event;
use crate::keys::{self, KeyRing};
use crate::mail::catalogue::Template;
use crate::mail::context::Facts;
use crate::world::Wants;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = exactly_one_of(&[&["user"], &["create"]])))]
pub struct TemporaryIssue {
    /// Who gets it. Either this or `create`.
    user: Option<UserName>,
    /// A profile as in `user.put`, which is created or replaced first.
    create: Option<ProfileBody>,
    /// An X25519 public key, base64: the password comes sealed to it (libsodium's `crypto_box_seal`). Needed where
    /// `secrets.require_sealed` is set.
    reply_key: Option<String>,
}

/// `result`.
#[derive(Serialize, JsonSchema)]
pub struct Answer {
    /// The password: 20 characters, case-sensitive; with a `reply_key` `{"sealed": "<base64>"}`. `null` when the same command
    /// comes again.
    #[schemars(with = "Option<Told>")]
    temporary_password: Told,
    /// The first moment at which it no longer works.
    expires_at: Timestamp,
    /// Whether the profile is new.
    created: bool,
    /// What the new password does not mend: `user_blocked`, `user_inactive`. Absent if there is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
}

/// A secret in a reply.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Told {
    /// As it is.
    Plain(String),
    /// For the holder of the key only.
    Sealed {
        /// The sealed box, base64.
        sealed: String,
    },
}

impl Documented for TemporaryIssue {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Makes a temporary password for somebody and tells it once.",
        description: "Give either `user` or `create`. Until the person has chosen a new one with it (session.login answers it with a \
                      change token), the old password and emailed resets do not work. Only the newest temporary password works, \
                      for `temporary_password.lifetime`; a command that comes after that while there is a password that works, or \
                      that is older than one that is pending, is `expired` and changes nothing. Ends the person's sessions (`sessions.end_on_password_change`), \
                      voids all open tickets, and mails `temporary_password_issued`, which does not hold it. \
                      `manual_entry.allowed` does not concern it: nobody chooses this password.",
        errors: &[Code::UserNotFound, Code::AmbiguousUser, Code::UserExists, Code::SealedRequired],
        events: &["user.created", "user.updated", "password.changed", "session.revoked", "password.temporary.issued"],
        example: r#"{"user": {"username": "ada"}}"#,
        answer: r#"{
            "temporary_password": "w7!Kd4mRzT%pX9hqB2sN",
            "expires_at": "2026-11-25T09:30:00.000Z",
            "created": false
        }"#,
    };
}

impl TemporaryIssue {
    /// Whom it is for, if the authority reaches them.
    fn target(&self, cx: &mut Context<'_>) -> Result<String, Stop> {
        match (&self.user, &self.create) {
            (Some(name), None) => Ok(cx.target(name)?),
            (None, Some(profile)) => {
                cx.touch(profile.id());
                if let Some(account) = cx.world.account(profile.id()) {
                    cx.authority.may_act_on(account, &cx.env.config.roles)?;
                }
                Ok(profile.id().to_owned())
            }
            _ => Err(Rejection::new(Code::InvalidBody, "give either `user` or `create`").into()),
        }
    }

    fn told(&self, cx: &Context<'_>, password: &SecretString) -> Result<Told, Rejection> {
        match &self.reply_key {
            Some(key) => {
                let sealed = keys::seal_to(key, password.expose_secret());
                let sealed = sealed.map_err(|e| Rejection::new(Code::InvalidBody, e.to_string()))?;
                Ok(Told::Sealed { sealed })
            }
            None if cx.env.config.secrets.require_sealed => Err(Rejection::new(
                Code::SealedRequired,
                "give a `reply_key`: secrets.require_sealed is set, so the temporary password is not told in plain text",
            )),
            None => Ok(Told::Plain(password.expose_secret().to_owned())),
        }
    }
}

impl Command for TemporaryIssue {
    const NAME: &'static str = "password.temporary.issue";
    const LANE: Lane = Lane::Credentials;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        wants.users.extend(self.user.clone());
        if let Some(profile) = &self.create {
            profile.wants(wants, keys);
        }
        wants.live_sessions = true;
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let id = self.target(cx)?;
        let expires_at = cx.temporary_until(&id)?;
        let password = cx.temporary_password();
        let temporary_password = self.told(cx, &password)?;
        let hash = cx.hash(Which::New, &password)?;
        let created = match &self.create {
            Some(profile) => profile.put(cx).map_err(of_create)?,
            None => false,
        };
        let rules = ChangeRules {
            end_sessions: cx.env.config.sessions.end_on_password_change,
            temporary_until: Some(expires_at),
            ..ChangeRules::default()
        };
        cx.replace_password(&id, hash, ChangedBy::Admin, rules)?;
        cx.note("expires_at", timestamp(expires_at));
        cx.event(&id, &Event::PasswordTemporaryIssued { expires_at });
        let facts = Facts { changed_at: Some(cx.now), expires_at: Some(expires_at), ..cx.facts() };
        cx.email(&id, Template::TemporaryPasswordIssued, None, &facts)?;
        let answer = Answer { temporary_password, expires_at: expires_at.into(), created, warnings: cx.warnings(&id) };
        Ok(Reply { secrets: &["temporary_password"], ..Reply::of(answer) })
    }
}

/// A profile's refusals name its fields as `user.put` has them.
fn of_create(stop: Stop) -> Stop {
    match stop {
        Stop::Rejected(mut refusal) => {
            refusal.message = refusal.message.replace("`user.", "`create.");
            Stop::Rejected(refusal)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
