//! `user.put`: creates or replaces a profile.

use serde::Deserialize;
use serde_json::json;

use crate::commands::context::Context;
use crate::commands::world::Wants;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::keys::KeyRing;

use super::profile::ProfileBody;

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Put {
    user: ProfileBody,
}

impl Command for Put {
    const NAME: &'static str = "user.put";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        self.user.wants(wants);
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        self.user.put(cx)?;
        let now = cx.now;
        let shown = cx.account(self.user.id())?.shown(now);
        Ok(Reply::of(json!({ "user": shown })))
    }
}

#[cfg(test)]
mod tests;
