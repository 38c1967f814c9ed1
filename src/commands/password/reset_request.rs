//! `password.reset.request`: sends a link or code with which a person chooses a new password.
//!
//! Asked by the person, the answer is always `{accepted: true}`: it must not tell whether an account exists, nor in which
//! state it is. What was decided, and why, is in the activity log. Asked by support, the answer is honest.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::commands::body::{Client, UserName};
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented};
use crate::commands::mail_request::{self, LimitLabels, MailRequest};
use crate::commands::{Asked, Command, Lane, Reply, Stop};
use crate::config::Config;
use crate::domain::access::Audience;
use crate::domain::account::Account;
use crate::domain::decision::Decision;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::{Method, Purpose};
use crate::domain::time::Timestamp;
use crate::events::Event;
use crate::keys::KeyRing;
use crate::mail::catalogue::Template;
use crate::mail::context::Facts;
use crate::world::{Wants, World};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetRequest {
    /// Who forgot their password. An email that several profiles share gets one mail for each, naming its profile.
    user: UserName,
    /// By link or code; without it, `password_reset.method` of the configuration.
    method: Option<Method>,
}

/// Asked by the person, only `accepted`; asked by support, only `tickets`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Answer {
    /// To the person: the same for known, unknown, blocked, inactive and throttled.
    Person(Accepted),
    /// To support.
    Support(Granted),
}

/// To the person: the same for known, unknown, blocked, inactive and throttled.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Accepted {
    /// Always true.
    accepted: bool,
}

/// To support: what was sent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Granted {
    /// One for each profile that was served.
    tickets: Vec<SentTicket>,
}

/// A link or code that was sent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SentTicket {
    /// Its id, as in `history.passwords`.
    ticket_id: Uuid,
    /// Whose it is.
    user_id: String,
    /// When it stops working.
    expires_at: Timestamp,
    /// The mail that carries it, as in `history.emails`.
    email_id: Uuid,
}

impl Documented for ResetRequest {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Sends a person a link or code with which they choose a new password.",
        description: "With an `actor` it is support that asks, and the answer is honest; without one it is the \
                      person, and the answer is always `{\"accepted\": true}`, in the same time, so that it tells \
                      nobody whether an account exists. Only the newest link or code works: a new request \
                      supersedes the older one. A second request within `password_reset.min_interval`, more \
                      than `password_reset.max_per_day`, or more than `password_reset.max_per_ip_per_hour` from \
                      one `context.ip` (of IPv6, from one /64 network) are answered the same and send nothing; \
                      support is not limited. Why \
                      somebody got no mail, `email.explain` says. Pass the person's address on as `context.ip`: \
                      without it, the limit per address cannot hold. The errors are told to support only.",
        errors: &[
            Code::UserNotFound,
            Code::UserBlocked,
            Code::UserInactive,
            Code::AddressSuppressed,
            Code::PasswordChangeRequired,
            Code::TokenSuperseded,
        ],
        events: &["password.reset.requested"],
        example: r#"{
            "user": {"email": "ada@example.com"},
            "context": {"ip": "203.0.113.7", "user_agent": "Mozilla/5.0", "locale": "en"}
        }"#,
        answer: r#"{"accepted": true}"#,
    };
}

impl Command for ResetRequest {
    const NAME: &'static str = "password.reset.request";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Either;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.user.clone());
    }

    fn limits(&self, client: &Client, world: &World, keys: &KeyRing) -> Vec<Uuid> {
        mail_request::limits(self, client, world, keys)
    }

    fn pace(&self, asked: Asked<'_>) -> Duration {
        asked.of_a_request()
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        if !cx.is_administrative() {
            return mail_request::for_the_person(self, cx);
        }
        let tickets = mail_request::for_support(self, cx)?;
        Ok(Reply::of(json!({ "tickets": tickets })))
    }
}

impl MailRequest for ResetRequest {
    const PURPOSE: Purpose = Purpose::PasswordReset;
    const LIMITS: LimitLabels =
        LimitLabels { ip: "limit.reset.ip", address: "limit.reset.address", account: "limit.reset.account" };

    fn user(&self) -> &UserName {
        &self.user
    }

    fn method(&self, config: &Config) -> (Method, Duration) {
        let rules = &config.password_reset;
        let method = self.method.unwrap_or(rules.method);
        match method {
            Method::Link => (method, rules.lifetime),
            Method::Code => (method, rules.code_lifetime),
        }
    }

    fn unfit(account: &Account) -> Option<(Decision, Rejection)> {
        let refusal = || {
            Rejection::new(
                Code::PasswordChangeRequired,
                "a temporary password is pending: until it is replaced, an emailed reset cannot be used; issue a new temporary password",
            )
        };
        account.must_change_password().then(|| (Decision::TemporaryPasswordPending, refusal()))
    }

    fn grant(&self, cx: &mut Context<'_>, id: &str) -> Result<Value, Stop> {
        let (method, lifetime) = self.method(cx.env.config);
        let ticket = cx.open_ticket(id, Purpose::PasswordReset, method, lifetime)?;
        let facts = Facts { expires_at: Some(ticket.expires_at), ..cx.facts() };
        let email = cx.email(id, template(method), Some(&ticket), &facts)?;
        cx.event(
            id,
            &Event::PasswordResetRequested {
                ticket_id: ticket.id,
                method: method.as_str(),
                expires_at: ticket.expires_at,
            },
        );
        let (ticket_id, expires_at) = (ticket.id, ticket.expires_at.into());
        Ok(json!(SentTicket { ticket_id, user_id: id.to_owned(), expires_at, email_id: email }))
    }
}

/// The mail that carries a link or code.
pub(super) const fn template(method: Method) -> Template {
    match method {
        Method::Link => Template::PasswordResetLink,
        Method::Code => Template::PasswordResetCode,
    }
}

#[cfg(test)]
mod tests;
