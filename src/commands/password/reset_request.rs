//! `password.reset.request`: sends a link or code with which a person chooses a new password.
//!
//! Asked by the person, the answer is always `{accepted: true}`: it must not tell whether an account exists, nor in which
//! state it is. What was decided, and why, is in the activity log. Asked by support, the answer is honest.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::commands::body::{Client, UserName};
use crate::commands::context::Context;
use crate::commands::world::{Wants, World};
use crate::commands::{Command, Lane, Reply, Stop};
use crate::config::{self, PasswordReset};
use crate::domain::access::Audience;
use crate::domain::limits::Rule;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::{Method, Purpose, Ticket, timestamp};
use crate::events::Event;
use crate::keys::KeyRing;
use crate::mail::catalogue::Template;
use crate::mail::context::Facts;

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetRequest {
    user: UserName,
    method: Option<Method>,
}

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);

impl Command for ResetRequest {
    const NAME: &'static str = "password.reset.request";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Either;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.users.push(self.user.clone());
    }

    fn limits(&self, client: &Client, world: &World, keys: &KeyRing) -> Vec<Uuid> {
        let limits = Limits::of(&self.user, client, world, keys);
        limits.accounts.into_iter().map(|(_, key)| key).chain(limits.ip).chain(limits.address).collect()
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let found = cx.world.find(&self.user);
        if cx.is_administrative() { self.for_support(cx, &found) } else { self.for_the_person(cx, &found) }
    }
}

impl ResetRequest {
    fn for_support(&self, cx: &mut Context<'_>, found: &[String]) -> Result<Reply, Stop> {
        if found.is_empty() {
            cx.unknown(&self.user);
            return Err(Rejection::new(Code::UserNotFound, "no profile has this name").into());
        }
        // With one profile its refusal is the answer; with several, those that can be served are.
        let mut refusal = None;
        let mut eligible = Vec::new();
        for id in found {
            cx.touch(id);
            match self.eligible_for_support(cx, id) {
                Ok(()) => eligible.push(id.clone()),
                Err(Stop::Rejected(rejection)) => refusal = refusal.or(Some(rejection)),
                Err(stop) => return Err(stop),
            }
        }
        if let (true, Some(refusal)) = (eligible.is_empty(), refusal) {
            return Err(refusal.into());
        }
        let mut tickets = Vec::new();
        for id in eligible {
            tickets.push(self.grant(cx, &id)?);
        }
        Ok(Reply::of(json!({ "tickets": tickets })))
    }

    fn for_the_person(&self, cx: &mut Context<'_>, found: &[String]) -> Result<Reply, Stop> {
        for id in found {
            cx.touch(id);
        }
        if found.is_empty() {
            cx.unknown(&self.user);
        }
        let limits = Limits::of(&self.user, cx.client, cx.world, cx.env.keys);
        let rules = &cx.env.config.password_reset;
        // Counted by when people asked: those who waited out an outage are no flood. Each request from an IP counts; those
        // of an address and a person count when they would be served, so that impatient clicking does not use up the day.
        let from_ip = limits.ip.is_none_or(|key| admitted(cx, key, ip_rule(rules)));
        let address_rule = limits.address_rule(rules);
        if !from_ip || !limits.address.is_none_or(|key| admits(cx, key, address_rule)) {
            cx.note("decision", "throttled");
            return Ok(accepted());
        }
        let mut served = found.is_empty();
        let mut decisions = Vec::new();
        for (id, key) in limits.accounts {
            let decision = match self.ineligible(cx, &id)? {
                Some(why) => why,
                None if !admitted(cx, key, account_rule(rules)) => "throttled",
                None => {
                    self.grant(cx, &id)?;
                    served = true;
                    "sent"
                }
            };
            decisions.push((id, decision));
        }
        if let (true, Some(key)) = (served, limits.address) {
            admitted(cx, key, address_rule);
        }
        match decisions.as_slice() {
            [] => cx.note("decision", "unknown_address"),
            [(_, decision)] => cx.note("decision", *decision),
            several => {
                let decisions: Map<_, _> = several.iter().map(|(id, d)| (id.clone(), Value::from(*d))).collect();
                cx.note("decisions", decisions);
            }
        }
        Ok(accepted())
    }

    /// By link or code, and for how long.
    fn method(&self, rules: &PasswordReset) -> (Method, Duration) {
        let method = self.method.unwrap_or(match rules.method {
            config::Method::Link => Method::Link,
            config::Method::Code => Method::Code,
        });
        match method {
            Method::Link => (method, rules.lifetime),
            Method::Code => (method, rules.code_lifetime),
        }
    }

    /// Opens the ticket and queues its mail.
    fn grant(&self, cx: &mut Context<'_>, id: &str) -> Result<Value, Stop> {
        let (method, lifetime) = self.method(&cx.env.config.password_reset);
        let template = match method {
            Method::Link => Template::PasswordResetLink,
            Method::Code => Template::PasswordResetCode,
        };
        let ticket = cx.open_ticket(id, Purpose::PasswordReset, method, lifetime)?;
        let facts = Facts { expires_at: Some(ticket.expires_at), ..cx.facts() };
        let email = cx.email(id, template, Some(&ticket), &facts)?;
        cx.event(
            id,
            &Event::PasswordResetRequested {
                ticket_id: ticket.id,
                method: method.as_str(),
                expires_at: ticket.expires_at,
            },
        );
        Ok(
            json!({ "ticket_id": ticket.id, "user_id": id, "expires_at": timestamp(ticket.expires_at), "email_id": email }),
        )
    }

    fn eligible_for_support(&self, cx: &mut Context<'_>, id: &str) -> Result<(), Stop> {
        let (authority, config) = (cx.authority.clone(), cx.env.config);
        let account = cx.account(id)?;
        authority.may_act_on(account, &config.roles)?;
        let refusal = match self.ineligible(cx, id)? {
            None => return Ok(()),
            Some("blocked") => Rejection::new(Code::UserBlocked, "this person is blocked"),
            Some("inactive") => Rejection::new(Code::UserInactive, "this person is deactivated"),
            Some("suppressed") => {
                Rejection::new(Code::AddressSuppressed, "mail to this address bounced or was complained about")
            }
            Some("superseded") => Rejection::new(Code::TokenSuperseded, "a newer request was made already"),
            Some(_) => Rejection::new(
                Code::PasswordChangeRequired,
                "a temporary password is pending: until it is replaced, an emailed reset cannot be used; issue a new temporary password",
            ),
        };
        Err(refusal.into())
    }

    /// Why an account gets no mail, in the words of `email.explain`.
    fn ineligible(&self, cx: &mut Context<'_>, id: &str) -> Result<Option<&'static str>, Stop> {
        let (now, requested_at) = (cx.now, cx.requested_at);
        let too_late = now >= requested_at + self.method(&cx.env.config.password_reset).1;
        let account = cx.account(id)?;
        // A delayed request voids no newer link, and no good one if its own would be expired from the first.
        let voids_better = |t: &mut Ticket| t.requested_at > requested_at || (too_late && t.is_usable(now));
        Ok(if account.blocked {
            Some("blocked")
        } else if !account.active {
            Some("inactive")
        } else if account.must_change_password {
            Some("temporary_password_pending")
        } else if account.suppressed {
            Some("suppressed")
        } else if account.open_ticket_of(Purpose::PasswordReset).is_some_and(voids_better) {
            Some("superseded")
        } else {
            None
        })
    }
}

fn accepted() -> Reply {
    Reply::of(json!({ "accepted": true }))
}

fn account_rule(rules: &PasswordReset) -> Rule {
    Rule { interval: rules.min_interval, max: rules.max_per_day, window: DAY }
}

fn ip_rule(rules: &PasswordReset) -> Rule {
    Rule { interval: Duration::ZERO, max: rules.max_per_ip_per_hour, window: HOUR }
}

/// Keys of the limits that a request from a person falls under: those of the caller hold whether or not the account
/// exists.
struct Limits {
    ip: Option<Uuid>,
    address: Option<Uuid>,
    accounts: Vec<(String, Uuid)>,
}

impl Limits {
    fn of(user: &UserName, client: &Client, world: &World, keys: &KeyRing) -> Self {
        let key = |label: &str, what: &str| Uuid::from_bytes(keys.fingerprint(label, &[what.as_bytes()]));
        let found = world.find(user);
        let address = match user {
            UserName::Email(address) => Some(address.clone()),
            _ => found.first().and_then(|id| world.account(id)).map(|a| a.email_key.clone()),
        };
        Self {
            ip: client.ip.map(|ip| key("limit.reset.ip", &ip.to_string())),
            address: address.map(|address| key("limit.reset.address", &address)),
            accounts: found.into_iter().map(|id| (id.clone(), key("limit.reset.account", &id))).collect(),
        }
    }

    /// Several profiles may share an address: then the interval is each profile's own, and only the count is the address's.
    fn address_rule(&self, rules: &PasswordReset) -> Rule {
        let interval = if self.accounts.is_empty() { rules.min_interval } else { Duration::ZERO };
        Rule { interval, max: rules.max_per_day, window: DAY }
    }
}

fn admits(cx: &mut Context<'_>, key: Uuid, rule: Rule) -> bool {
    let asked = cx.requested_at;
    cx.world.limit(key).admits(rule, asked)
}

/// Whether a limit admits one more, which is counted.
fn admitted(cx: &mut Context<'_>, key: Uuid, rule: Rule) -> bool {
    let asked = cx.requested_at;
    let limit = cx.world.limit(key);
    let admitted = limit.admits(rule, asked);
    if admitted {
        limit.count(rule, asked);
    }
    admitted
}

#[cfg(test)]
mod tests;
