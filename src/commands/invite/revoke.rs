//! `invite.revoke`: withdraws an invitation that was not accepted yet. Its link stops working, and a mail that still waits
//! is not sent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::commands::body::UserName;
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented};
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::Invitation;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::{Purpose, State};
use crate::events::Event;
use crate::keys::KeyRing;
use crate::world::Wants;

use super::already_accepted;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Who was invited.
    user: UserName,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Always true: nothing is left to accept.
    revoked: bool,
}

impl Command for Revoke {
    const NAME: &'static str = "invite.revoke";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.user.clone());
        // A changed address voids the ticket and leaves the invitation: then its last ticket tells which it was.
        wants.newest_tickets = true;
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let id = cx.target(&self.user)?;
        let now = cx.now;
        let account = cx.account(&id)?;
        match account.invitation {
            Invitation::Pending => {}
            Invitation::Accepted => return Err(already_accepted().into()),
            Invitation::None => {
                return Err(Rejection::new(Code::NoInvite, "this person has no invitation to withdraw").into());
            }
        }
        account.invitation = Invitation::None;
        account.touch(now);
        if let Some(ticket) = account.newest_ticket_of_mut(Purpose::Invite) {
            ticket.close(State::Revoked, now);
            let ticket_id = ticket.id;
            cx.note("ticket_id", ticket_id.to_string());
            cx.event(&id, &Event::InviteRevoked { ticket_id });
        }
        Ok(Reply::of(Answer { revoked: true }))
    }
}

impl Documented for Revoke {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Withdraws an invitation that was not accepted yet.",
        description: "Its link answers `token_revoked` from then on, and a mail that still waits is not sent. The profile \
                      stays; `invite.send` invites the person again.",
        errors: &[Code::UserNotFound, Code::AmbiguousUser, Code::NoInvite, Code::AlreadyAccepted],
        events: &["invite.revoked"],
        example: r#"{"user": {"id": "ada"}}"#,
        answer: r#"{"revoked": true}"#,
    };
}

#[cfg(test)]
mod tests;
