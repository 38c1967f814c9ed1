//! `user.block`: keeps a person out; all their sessions end.

use serde::Deserialize;

use crate::commands::context::Context;
use crate::commands::world::Wants;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::events::Event;
use crate::keys::KeyRing;

use super::switch::{Sessions, SwitchBody, switch};

/// The body.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Block(SwitchBody);

impl Command for Block {
    const NAME: &'static str = "user.block";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.0.user.clone());
        wants.live_sessions = true;
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        switch(&self.0, cx, &Event::UserBlocked, Sessions::End, |account| {
            !std::mem::replace(&mut account.blocked, true)
        })
    }
}
