//! `user.activate`: lets a deactivated person sign in again.

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
pub struct Activate(SwitchBody);

impl Command for Activate {
    const NAME: &'static str = "user.activate";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.0.user.clone());
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        switch(&self.0, cx, &Event::UserActivated, Sessions::Keep, |account| {
            !std::mem::replace(&mut account.active, true)
        })
    }
}
