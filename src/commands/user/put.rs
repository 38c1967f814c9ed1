//! `user.put`: creates or replaces a profile.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented};
use crate::commands::user::About;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::rejection::Code;
use crate::keys::KeyRing;
use crate::world::Wants;

use super::profile::ProfileBody;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Put {
    /// The whole profile: a field that is left out is emptied.
    user: ProfileBody,
}

impl Documented for Put {
    type Answer = About;
    const DOC: Doc = Doc {
        summary: "Creates a profile, or replaces it.",
        description: "Upstream owns profiles: it puts one whenever it changes. A changed `email` voids the \
                      person's open links and codes and counts as unverified, unless `email_verified` says \
                      otherwise. `password_hash` imports a hash that was made elsewhere: a PHC string (Argon2, \
                      scrypt, PBKDF2) or bcrypt; it is replaced by the daemon's own at the next sign-in. One \
                      that replaces a password ends the person's sessions; the one that was imported last is no \
                      change, whatever the password is by now. To put the same profile again \
                      changes nothing and tells nobody.",
        errors: &[Code::UserExists],
        events: &["user.created", "user.updated", "password.changed", "session.revoked"],
        example: r#"{
            "user": {
                "id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada Lovelace",
                "locale": "en", "email_verified": true
            }
        }"#,
        answer: r#"{
            "user": {
                "id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada Lovelace",
                "site": "default", "roles": [], "locale": "en", "email_verified": true,
                "active": true, "blocked": false, "status": "active", "has_password": false, "locked_until": null,
                "must_change_password": false, "created_at": "2026-11-20T09:30:00.000Z",
                "last_login_at": null, "session_epoch": 0
            }
        }"#,
    };
}

impl Command for Put {
    const NAME: &'static str = "user.put";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        self.user.wants(wants, keys);
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        self.user.put(cx)?;
        let now = cx.now;
        let shown = cx.account(self.user.id())?.shown(now);
        Ok(Reply::of(About { user: shown }))
    }
}

#[cfg(test)]
mod tests;
