//! `invite.accept`: uses an invitation up to write a first password; that proves the mailbox too.

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use crate::commands::context::Context;
use crate::commands::tokens::{self, Shown};
use crate::commands::world::Wants;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::ChangedBy;
use crate::domain::ticket::Purpose;
use crate::keys::KeyRing;

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    token: SecretString,
    new_password: SecretString,
}

impl Command for Accept {
    const NAME: &'static str = "invite.accept";
    const LANE: Lane = Lane::Credentials;
    const AUDIENCE: Audience = Audience::SelfService;
    const SECRETS: &'static [&'static str] = &["token", "new_password"];

    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        Shown::Token(&self.token).wants(wants, keys);
        wants.live_sessions = true;
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let (owner, id) = tokens::usable(cx, &Shown::Token(&self.token), Purpose::Invite)?;
        tokens::redeem(cx, &owner, id, &self.new_password, ChangedBy::Invite)?;
        Ok(Reply::of(tokens::with_warnings(cx, &owner, json!({ "user_id": owner }))))
    }
}
