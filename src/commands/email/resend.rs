//! `email.resend`: sends a mail of the history again, to the person or as a copy to another address.
//!
//! What it carries stays the same: the link or code of a ticket that is still open, or nothing but words. To send it on to
//! another address is to hand over what it carries, so that needs a permission of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::body::Name;
use crate::commands::context::{self, Context};
use crate::commands::document::{Doc, Documented};
use crate::commands::handle::Handle;
use crate::commands::mail_request;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::Account;
use crate::domain::email_address::{EmailAddress, email_key};
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::Ticket;
use crate::keys::KeyRing;
use crate::mail::catalogue::Template;
use crate::world::Wants;
use crate::world::mailing::{PastEmail, Repeat};

/// What a role needs, beside the command itself, for a copy to another address.
const FORWARD: &str = "email.forward";

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resend {
    /// A mail of the history: `email_id` of `history.emails`.
    email_id: Handle,
    /// Where a copy goes instead of to the person's own address. Needs `mail.allow_forward` and, of an actor, the permission
    /// `email.forward`.
    to: Option<Name<320>>,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// The new mail. In the history its `resend_of` names the one that it repeats.
    email_id: Uuid,
}

impl Documented for Resend {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Sends a mail of the history again: the same template, the same link or code, the same expiry.",
        description: "Any mail whose ticket is still open, or that carries none. It goes to the address that the person has now. \
                      With `to` a copy goes to another address: whoever reads it can use the link.",
        errors: &[
            Code::EmailNotFound,
            Code::UserBlocked,
            Code::UserInactive,
            Code::ForwardNotAllowed,
            Code::AddressSuppressed,
            Code::RequestExpired,
            Code::RequestCompleted,
            Code::TokenSuperseded,
            Code::TokenRevoked,
            Code::TooManyAttempts,
        ],
        events: &[],
        example: r#"{"email_id": "019ac2f0-7c1a-7000-8000-000000000001", "to": "ada@work.example.com", "actor": {"id": "root"}}"#,
        answer: r#"{"email_id": "019ac2f1-0a2b-7000-8000-000000000002"}"#,
    };
}

impl Command for Resend {
    const NAME: &'static str = "email.resend";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.emails.insert(self.email_id.id());
        wants.addresses.extend(self.to.as_ref().map(|to| email_key(to.as_str())));
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let to = self.other_address()?;
        let mail = cx.world.past_email(self.email_id.id()).cloned().ok_or_else(super::email_not_found)?;
        let owner = mail.user_id.clone();
        cx.touch(&owner);
        // Their history outlives an erased person, but nobody is left to be mailed.
        let account = cx.world.account(&owner).cloned().ok_or_else(super::email_not_found)?;
        cx.authority.may_act_on(&account, &cx.env.config.roles)?;
        let to = to.filter(|to| to.key() != account.email_key());
        if to.is_some() {
            may_forward(cx, &account)?;
        }
        let template: Template = mail.template.parse().map_err(|_| {
            Rejection::new(Code::EmailNotFound, format!("this version has no template `{}`", mail.template))
        })?;
        mail_request::may_come_in(&account)?;
        let ticket = still_open(cx, &account, &mail)?;
        let address = to.as_ref().map_or_else(|| account.email_key().to_owned(), EmailAddress::key);
        if cx.world.is_suppressed(&address) {
            return Err(mail_request::address_suppressed().into());
        }
        cx.note("email_id", mail.id.to_string());
        if let Some(to) = &to {
            cx.note("to", to.masked());
        }
        let repeat = Repeat { of: Some(mail.id), to: to.map(|to| to.as_str().to_owned()) };
        let email_id = cx.email_as(&owner, template, ticket.as_ref(), &context::facts_of(&mail)?, repeat)?;
        Ok(Reply::of(Answer { email_id }))
    }
}

impl Resend {
    fn other_address(&self) -> Result<Option<EmailAddress>, Rejection> {
        let Some(to) = &self.to else { return Ok(None) };
        let address = to.as_str().parse().map_err(|e| Rejection::new(Code::InvalidBody, format!("`to`: {e}")))?;
        Ok(Some(address))
    }
}

fn may_forward(cx: &Context<'_>, account: &Account) -> Result<(), Rejection> {
    let refuse = |why: &str| Err(Rejection::new(Code::ForwardNotAllowed, why));
    if !cx.env.config.mail.allow_forward {
        return refuse("copies are not sent to other addresses here (mail.allow_forward)");
    }
    if !cx.authority.may(FORWARD, &account.profile.site) {
        return refuse("none of the actor's roles permits `email.forward` for this person");
    }
    Ok(())
}

/// The ticket that a mail carries, if it carries one, and unless it is closed.
fn still_open(cx: &Context<'_>, account: &Account, mail: &PastEmail) -> Result<Option<Ticket>, Rejection> {
    let Some(id) = mail.ticket_id else { return Ok(None) };
    let expired = || Rejection::new(Code::RequestExpired, "the link or code of this email has expired; send a new one");
    // A ticket outlives its expiry by `retention.tickets`.
    let ticket = account.ticket(id).ok_or_else(expired)?;
    match account.usable(ticket, cx.now) {
        Ok(()) => Ok(Some(ticket.clone())),
        Err(mut refusal) => {
            let instead = match refusal.code {
                Code::TokenExpired => expired(),
                Code::TokenUsed => {
                    Rejection::new(Code::RequestCompleted, "the link or code of this email has been used already")
                }
                _ => return Err(refusal),
            };
            (refusal.code, refusal.message) = (instead.code, instead.message);
            Err(refusal)
        }
    }
}

#[cfg(test)]
mod tests;
