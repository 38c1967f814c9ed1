//! `password.reset.resend`: support sends the last open request's mail again: the same link, the same expiry.
//!
//! For somebody who deleted it, or never got it. Nothing is superseded by it, and a link that is open on the person's screen
//! stays good.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::body::UserName;
use crate::commands::context::{self, Context};
use crate::commands::document::{Doc, Documented};
use crate::commands::mail_request;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::{Purpose, Requester, State, Ticket, timestamp};
use crate::domain::time::Timestamp;
use crate::keys::KeyRing;
use crate::mail::context::Facts;
use crate::world::Wants;
use crate::world::mailing::Repeat;

use super::reset_request::{self, ResetRequest};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetResend {
    /// Whose request.
    user: UserName,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// The new mail. In the history its `resend_of` names the one that it repeats.
    email_id: Uuid,
    /// When the link or code ends: as the first mail said.
    expires_at: Timestamp,
}

impl Documented for ResetResend {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Sends the mail of a person's last open reset request again: the same link or code, the same expiry.",
        description: "It goes to the address that the person has now. If there is nothing to send again, `password.reset.request` \
                      makes a new request.",
        errors: &[
            Code::UserNotFound,
            Code::AmbiguousUser,
            Code::UserBlocked,
            Code::UserInactive,
            Code::PasswordChangeRequired,
            Code::AddressSuppressed,
            Code::RequestExpired,
            Code::RequestCompleted,
            Code::NoRequest,
        ],
        events: &[],
        example: r#"{"user": {"id": "ada"}, "actor": {"id": "root"}}"#,
        answer: r#"{"email_id": "019ac2f1-0a2b-7000-8000-000000000002", "expires_at": "2026-11-23T08:00:00.000Z"}"#,
    };
}

impl Command for ResetResend {
    const NAME: &'static str = "password.reset.resend";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.user.clone());
        wants.newest_tickets = true;
        wants.reset_mails.push(self.user.clone());
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let now = cx.now;
        let id = cx.target(&self.user)?;
        let account = cx.account(&id)?;
        mail_request::may_get::<ResetRequest>(account)?;
        let ticket = account
            .newest_ticket_of(Purpose::PasswordReset)
            .cloned()
            .ok_or_else(|| no_request("there is no reset request"))?;
        if !ticket.is_usable(now) {
            return Err(closed(&ticket).into());
        }
        let last = cx.world.newest_email_of(ticket.id);
        let facts = last.as_ref().map_or_else(|| Ok(facts_of(&ticket)), context::facts_of)?;
        let repeat = Repeat { of: last.map(|mail| mail.id), to: None };
        let template = reset_request::template(ticket.method);
        let email_id = cx.email_as(&id, template, Some(&ticket), &facts, repeat)?;
        cx.note("ticket_id", ticket.id.to_string());
        Ok(Reply::of(Answer { email_id, expires_at: ticket.expires_at.into() }))
    }
}

/// Why the last request's mail is not to be sent again. The newest request decides: what it superseded is of no interest.
fn closed(ticket: &Ticket) -> Rejection {
    match ticket.state {
        State::Open => Rejection::new(Code::RequestExpired, "the last reset request has expired; make a new one")
            .with("expired_at", timestamp(ticket.expires_at)),
        State::Completed => Rejection::new(Code::RequestCompleted, "the last reset request was completed")
            .with("completed_at", ticket.closed_at.map(timestamp)),
        State::TooManyAttempts => no_request("the last reset request's code died of wrong tries"),
        State::Revoked | State::Superseded => no_request("the last reset request was withdrawn"),
    }
}

fn no_request(why: &str) -> Rejection {
    Rejection::new(Code::NoRequest, format!("{why}; password.reset.request makes a new one"))
}

/// What the mail may say if the one before it is gone.
fn facts_of(ticket: &Ticket) -> Facts {
    Facts {
        requested_at: Some(ticket.requested_at),
        expires_at: Some(ticket.expires_at),
        requested_by_support: ticket.requester != Requester::Itself,
        ..Facts::default()
    }
}

#[cfg(test)]
mod tests;
