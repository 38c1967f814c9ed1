//! `email.unsuppress`: an address works again. Also one that no profile has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::commands::body::{Name, UserName};
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented};
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::email_address::email_key;
use crate::keys::KeyRing;
use crate::world::Wants;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unsuppress {
    /// The address. Compared as everywhere: case-insensitively, trimmed, in Unicode NFC.
    email: Name<320>,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Whether it was suppressed.
    unsuppressed: bool,
}

impl Documented for Unsuppress {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Takes an address off the suppression list: it is mailed again.",
        description: "Mails that were held back meanwhile are not sent by it; ask for new ones. An actor must be allowed to act \
                      on every profile that has the address.",
        errors: &[],
        events: &[],
        example: r#"{"email": "ada@example.com"}"#,
        answer: r#"{"unsuppressed": true}"#,
    };
}

impl Command for Unsuppress {
    const NAME: &'static str = "email.unsuppress";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.name());
        wants.addresses.insert(self.key());
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let (name, key) = (self.name(), self.key());
        let profiles = cx.world.find(&name);
        if profiles.is_empty() {
            cx.unknown(&name);
        }
        for id in &profiles {
            cx.touch(id);
        }
        for account in profiles.iter().filter_map(|id| cx.world.account(id)) {
            cx.authority.may_act_on(account, &cx.env.config.roles)?;
        }
        let unsuppressed = cx.world.is_suppressed(&key);
        if unsuppressed {
            cx.world.set_suppressed(&key, None);
        }
        cx.note("unsuppressed", unsuppressed);
        Ok(Reply::of(Answer { unsuppressed }))
    }
}

impl Unsuppress {
    fn key(&self) -> String {
        email_key(self.email.as_str())
    }

    fn name(&self) -> UserName {
        UserName::Email(self.key())
    }
}

#[cfg(test)]
mod tests;
