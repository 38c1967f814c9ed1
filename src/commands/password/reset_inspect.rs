//! `password.reset.inspect`: whether a link or code is still good, and the rules that a new password must keep.
//!
//! Looking never uses a link up: mail scanners open links. A wrong code counts as a try.

use secrecy::SecretString;
use serde::Deserialize;

use crate::commands::body::UserName;
use crate::commands::context::Context;
use crate::commands::tokens::{self, Shown};
use crate::commands::world::Wants;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::ticket::Purpose;
use crate::keys::KeyRing;

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetInspect {
    token: Option<SecretString>,
    user: Option<UserName>,
    code: Option<SecretString>,
}

impl Command for ResetInspect {
    const NAME: &'static str = "password.reset.inspect";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::SelfService;

    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        if let Ok(shown) = Shown::new(self.token.as_ref(), self.user.as_ref(), self.code.as_ref()) {
            shown.wants(wants, keys);
        }
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let shown = Shown::new(self.token.as_ref(), self.user.as_ref(), self.code.as_ref())?;
        let (owner, id) = tokens::usable(cx, &shown, Purpose::PasswordReset)?;
        let policy = cx.policy();
        let account = cx.account(&owner)?;
        let ticket = account.ticket(id).ok_or(Stop::Bug("a usable ticket vanished"))?;
        Ok(Reply::of(tokens::shown(account, ticket, &policy)))
    }
}
