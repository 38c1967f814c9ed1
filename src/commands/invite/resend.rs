//! `invite.resend`: a fresh link with a fresh expiry; the older one is superseded.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::commands::body::UserName;
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented};
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::Invitation;
use crate::domain::rejection::{Code, Rejection};
use crate::keys::KeyRing;
use crate::world::Wants;

use super::{already_accepted, invite};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resend {
    /// Who was invited.
    user: UserName,
}

impl Documented for Resend {
    type Answer = super::Sent;
    const DOC: Doc = Doc {
        summary: "Sends an invitation again: a fresh link with a fresh expiry.",
        description: "The older link is superseded. A command that comes after the new link would have run out is `expired` while there \
                      is a good one; one that is older than the open invitation is `token_superseded`. Neither changes anything.",
        errors: &[
            Code::UserNotFound,
            Code::AmbiguousUser,
            Code::UserBlocked,
            Code::UserInactive,
            Code::AddressSuppressed,
            Code::TokenSuperseded,
            Code::NoInvite,
            Code::AlreadyAccepted,
        ],
        events: &["invite.sent"],
        example: r#"{"user": {"id": "ada"}}"#,
        answer: r#"{
            "user_id": "ada",
            "ticket_id": "019ac2f0-7c1a-7a41-9c3e-5f0b2d6e8c11",
            "expires_at": "2026-11-25T09:30:00.000Z",
            "email_id": "019ac2f0-7c1a-7b52-8c4d-1e6f9a3b7c20"
        }"#,
    };
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
            Invitation::None => Err(Rejection::new(
                Code::NoInvite,
                "this person has no invitation that could be sent again; invite.send makes one",
            )
            .into()),
        }
    }
}
