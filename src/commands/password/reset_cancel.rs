//! `password.reset.cancel`: "it was not me". The link or code of a reset mail is withdrawn.
//!
//! Doing it twice is no error: people click twice, and mail programs click for them.

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented, SecretField};
use crate::commands::tokens;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State};
use crate::keys::{KeyRing, TokenUse};
use crate::world::Wants;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetCancel {
    /// The token of the mail's `cancel_link`, or that of its `reset_link`.
    #[schemars(with = "SecretField")]
    token: SecretString,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Always true: nobody can use the link or code any more.
    cancelled: bool,
}

impl Documented for ResetCancel {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Withdraws a reset that the person did not ask for.",
        description: "A mail's link and code die with it, and a mail that is not sent yet stays unsent. What was cancelled before \
                      is answered the same.",
        errors: &[
            Code::TokenInvalid,
            Code::TokenExpired,
            Code::TokenUsed,
            Code::TokenSuperseded,
            Code::TooManyAttempts,
        ],
        events: &[],
        example: r#"{"token": "AZIAAAAAcACAAAAAAAAAAemUadCjKu7bEeyRf42KEKzBDbdOolaixc1pBf_0vT5B"}"#,
        answer: r#"{"cancelled": true}"#,
    };
}

impl ResetCancel {
    /// The ticket of a token that may cancel it: also the reset's own, for whoever has only that. It could do more.
    fn ticket(&self, keys: &KeyRing) -> Option<Uuid> {
        let opened = keys.open_token(self.token.expose_secret())?;
        matches!(opened.use_, TokenUse::Cancel | TokenUse::PasswordReset).then_some(opened.ticket)
    }
}

impl Command for ResetCancel {
    const NAME: &'static str = "password.reset.cancel";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::SelfService;

    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        wants.tickets.extend(self.ticket(keys));
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let now = cx.now;
        let id = self.ticket(cx.env.keys).ok_or_else(tokens::invalid)?;
        let owner = cx.world.owner_of_ticket(id).map(|account| account.id().to_owned()).ok_or_else(tokens::invalid)?;
        cx.touch(&owner);
        let account = cx.account(&owner)?;
        let ticket = account.ticket(id).ok_or(Stop::Bug("a ticket vanished from its account"))?;
        if ticket.purpose != Purpose::PasswordReset {
            return Err(tokens::invalid().into());
        }
        if ticket.state != State::Revoked {
            account.usable(ticket, now)?;
        }
        if let Some(ticket) = account.ticket_mut(id) {
            ticket.close(State::Revoked, now);
        }
        cx.note("ticket_id", id.to_string());
        Ok(Reply::of(Answer { cancelled: true }))
    }
}

#[cfg(test)]
mod tests;
