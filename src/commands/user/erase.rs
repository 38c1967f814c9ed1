//! `user.erase`: a person's data goes from every table; what is left of histories does not say whose they are.
//!
//! In histories a keyed pseudonym stands for the id ([`erased_key`]): whoever knows the id, and holds the key file, can still
//! answer for what was done. What does not fit into one transaction is finished by [`crate::store::erasure`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::commands::body::{Text, UserName};
use crate::commands::context::{Context, erased_key};
use crate::commands::document::{Doc, Documented};
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::Profile;
use crate::domain::rejection::Code;
use crate::events::Event;
use crate::keys::KeyRing;
use crate::world::Wants;
use crate::world::erasing::{EPOCH, Erased, REASON};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    /// Whose data goes.
    user: UserName,
    /// Why, for the activity log. It is left out there if it names the person.
    reason: Text<1000>,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Always true: no table names the person any more.
    erased: bool,
}

impl Command for Erase {
    const NAME: &'static str = "user.erase";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.user.clone());
        wants.live_sessions = true;
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let id = cx.target(&self.user)?;
        let now = cx.now;
        let account = cx.account(&id)?;
        let (profile, email_key) = (account.profile.clone(), account.email_key().to_owned());
        let session_ids = account.force_logout(None, "erased", now);
        let session_epoch = account.session_epoch;
        cx.note(EPOCH, session_epoch);
        if !session_ids.is_empty() {
            let reason = Some("erased".to_owned());
            cx.event(
                &id,
                &Event::SessionRevoked { session_ids, all: true, session_epoch, reason, except_session_id: None },
            );
        }
        let key = erased_key(cx.env.keys, &id);
        cx.event(&id, &Event::UserErased);
        let until = cx.id();
        cx.world.erase(Erased { id, key, until, email_key });
        if !names(&self.reason.0, &profile) {
            cx.note(REASON, self.reason.0.clone());
        }
        Ok(Reply::of(Answer { erased: true }))
    }
}

/// Whether a text names a person: in any of their names, or a longer part of their full name.
fn names(text: &str, profile: &Profile) -> bool {
    let text = text.to_lowercase();
    let full = profile.display_name.as_deref().unwrap_or_default();
    let words = text.split(|c: char| !c.is_alphanumeric()).collect::<Vec<_>>();
    [profile.id.as_str(), &profile.username, &profile.email, full]
        .into_iter()
        .chain(full.split_whitespace())
        .map(str::to_lowercase)
        .filter(|name| !name.is_empty())
        // A short id is a word of its own, or part of every other one.
        .any(|name| if name.chars().count() < 3 { words.contains(&name.as_str()) } else { text.contains(&name) })
}

impl Documented for Erase {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Erases a person: their data goes from every table, histories are kept without it.",
        description: "Profile, password, links, codes and sessions are gone at once; mail that waits is cancelled. \
                      Histories keep what happened and when, under a keyed pseudonym instead of the id. A command about \
                      the person that is repeated later is answered without its details. The id may be used again: \
                      for somebody new, whose `session_epoch` goes on where the former one ended.",
        errors: &[Code::UserNotFound, Code::AmbiguousUser],
        events: &["session.revoked", "user.erased"],
        example: r#"{"user": {"id": "ada"}, "reason": "request 4711 under article 17 GDPR"}"#,
        answer: r#"{"erased": true}"#,
    };
}

#[cfg(test)]
mod tests;
