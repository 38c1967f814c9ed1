//! `invite.resend`: a fresh link with a fresh expiry; the older one is superseded.

use serde::Deserialize;

use crate::commands::body::UserName;
use crate::commands::context::Context;
use crate::commands::world::Wants;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::Invitation;
use crate::domain::rejection::{Code, Rejection};
use crate::keys::KeyRing;

use super::{already_accepted, invite};

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resend {
    user: UserName,
}

impl Command for Resend {
    const NAME: &'static str = "invite.resend";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.user.clone());
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let id = cx.target(&self.user)?;
        match cx.account(&id)?.invitation {
            Invitation::Pending => invite(cx, &id),
            Invitation::Accepted => Err(already_accepted().into()),
            Invitation::None => Err(Rejection::new(Code::NoInvite, "this person was never invited").into()),
        }
    }
}
