//! `email.verification.send`: mails a link or code that proves that an address is somebody's own.
//!
//! Asked by the person, the answer is always the same, as that of `password.reset.request` and for the same reason.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
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
use crate::keys::KeyRing;
use crate::mail::catalogue::Template;
use crate::mail::context::Facts;
use crate::world::{Wants, World};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// Whose address. Several profiles of one address get a mail each.
    user: UserName,
    /// What the mail holds. Default: a link.
    method: Option<Method>,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Always true.
    accepted: bool,
}

impl Documented for Send {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Mails a link or code that proves that an address is the person's own.",
        description: "Asked by the person, the answer is the same for known, unknown, blocked, inactive, throttled and verified. \
                      Support (with an `actor`) hears why nothing is sent. A new mail supersedes the older ones. The limits are \
                      those of `[password_reset]`, counted apart.",
        errors: &[
            Code::UserNotFound,
            Code::UserBlocked,
            Code::UserInactive,
            Code::AddressSuppressed,
            Code::RequestCompleted,
            Code::TokenSuperseded,
        ],
        events: &[],
        example: r#"{"user": {"email": "ada@example.com"}, "method": "code", "context": {"ip": "192.0.2.7"}}"#,
        answer: r#"{"accepted": true}"#,
    };
}

impl Command for Send {
    const NAME: &'static str = "email.verification.send";
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
        mail_request::for_support(self, cx)?;
        Ok(mail_request::accepted())
    }
}

impl MailRequest for Send {
    const PURPOSE: Purpose = Purpose::Verification;
    const LIMITS: LimitLabels = LimitLabels {
        ip: "limit.verification.ip",
        address: "limit.verification.address",
        account: "limit.verification.account",
    };

    fn user(&self) -> &UserName {
        &self.user
    }

    fn method(&self, config: &Config) -> (Method, Duration) {
        match self.method.unwrap_or(Method::Link) {
            Method::Link => (Method::Link, config.verification.lifetime),
            Method::Code => (Method::Code, config.verification.code_lifetime),
        }
    }

    fn unfit(account: &Account) -> Option<(Decision, Rejection)> {
        let refusal = || Rejection::new(Code::RequestCompleted, "this person's address is verified already");
        account.email_verified.then(|| (Decision::AlreadyVerified, refusal()))
    }

    fn grant(&self, cx: &mut Context<'_>, id: &str) -> Result<Value, Stop> {
        let (method, lifetime) = self.method(cx.env.config);
        let template = match method {
            Method::Link => Template::EmailVerificationLink,
            Method::Code => Template::EmailVerificationCode,
        };
        let ticket = cx.open_ticket(id, Purpose::Verification, method, lifetime)?;
        let facts = Facts { expires_at: Some(ticket.expires_at), ..cx.facts() };
        cx.email(id, template, Some(&ticket), &facts)?;
        Ok(Value::Null)
    }
}
