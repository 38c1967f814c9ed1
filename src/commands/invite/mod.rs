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
use crate::domain::account::Invitation;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::{Method, Purpose};
use crate::domain::time::{Timestamp, is_later};
use crate::events::Event;
use crate::mail::catalogue::Template;
use crate::mail::context::Facts;

use super::context::Context;
use super::{Reply, Stop, mail_request};

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
    let suppressed = cx.account(id)?.suppressed;
    may_be_invited(cx, id, suppressed)?;
    let account = cx.account(id)?;
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

/// Whether somebody, who may be new, may be invited. No invitation takes the place of one that was asked for later, nor of a good
/// one if it would have run out by now itself.
fn may_be_invited(cx: &Context<'_>, id: &str, suppressed: bool) -> Result<(), Rejection> {
    let account = cx.world.account(id);
    if let Some(account) = account {
        mail_request::may_come_in(account)?;
    }
    let open = account.and_then(|account| account.tickets.iter().find(|t| t.is_open_for(Purpose::Invite)));
    cx.ends_after(cx.env.config.invite.lifetime, open.is_some_and(|ticket| ticket.is_usable(cx.now)))?;
    if open.is_some_and(|ticket| is_later(ticket.requested_at, cx.requested_at)) {
        return Err(mail_request::superseded());
    }
    if suppressed { Err(mail_request::address_suppressed()) } else { Ok(()) }
}

fn already_accepted() -> Rejection {
    Rejection::new(Code::AlreadyAccepted, "this person has an account already; a password reset helps them")
}

#[cfg(test)]
mod tests;
