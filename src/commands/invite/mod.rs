//! Invitations.

pub mod accept;
pub mod inspect;
pub mod resend;
pub mod revoke;
pub mod send;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::domain::access::SYSTEM;
use crate::domain::account::{Account, Invitation};
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::{Method, Purpose};
use crate::domain::time::Timestamp;
use crate::events::Event;
use crate::mail::catalogue::Template;
use crate::mail::context::Facts;

use super::context::Context;
use super::{Reply, Stop};

/// An invitation that was sent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Sent {
    /// Who is invited.
    user_id: String,
    /// The invitation's ticket.
    ticket_id: Uuid,
    /// When the link stops working.
    expires_at: Timestamp,
    /// The mail that carries it, as in `history.emails`.
    email_id: Uuid,
}

/// Opens an invitation's ticket and queues its mail; an older invitation is superseded.
fn invite(cx: &mut Context<'_>, id: &str) -> Result<Reply, Stop> {
    let now = cx.now;
    let account = cx.account(id)?;
    may_be_invited(account, false)?;
    account.invitation = Invitation::Pending;
    account.touch(now);
    let ticket = cx.open_ticket(id, Purpose::Invite, Method::Link, cx.env.config.invite.lifetime)?;
    let invited_by = cx.actor.clone().filter(|actor| actor != SYSTEM).and_then(|actor| {
        let person = cx.world.actor(&actor)?;
        Some(person.profile.display_name.clone().unwrap_or_else(|| person.profile.username.clone()))
    });
    let facts = Facts { expires_at: Some(ticket.expires_at), invited_by, ..cx.facts() };
    let email = cx.email(id, Template::Invite, Some(&ticket), &facts)?;
    cx.event(id, &Event::InviteSent { ticket_id: ticket.id, expires_at: ticket.expires_at });
    let expires_at = ticket.expires_at.into();
    Ok(Reply::of(Sent { user_id: id.to_owned(), ticket_id: ticket.id, expires_at, email_id: email }))
}

/// `moves`: mail goes to another address than the account's present one.
fn may_be_invited(account: &Account, moves: bool) -> Result<(), Rejection> {
    if account.blocked {
        Err(Rejection::new(Code::UserBlocked, "this person is blocked"))
    } else if !account.active {
        Err(Rejection::new(Code::UserInactive, "this person is deactivated"))
    } else if account.suppressed && !moves {
        Err(Rejection::new(Code::AddressSuppressed, "mail to this address bounced or was complained about"))
    } else {
        Ok(())
    }
}

fn already_accepted() -> Rejection {
    Rejection::new(Code::AlreadyAccepted, "this person has an account already; a password reset helps them")
}

#[cfg(test)]
mod tests;
