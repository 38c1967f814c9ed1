//! Requests for a mail with a link or code: who gets one, how often, and who is told what.
//!
//! Asked by the person, the answer is always `{accepted: true}`: it must not tell whether an account exists, nor in which
//! state it is. What was decided, and why, is in the activity log. Asked by support, the answer is honest.

use std::time::Duration;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::config::{Config, PasswordReset};
use crate::domain::account::Account;
use crate::domain::decision::Decision;
use crate::domain::limits::{Rule, source};
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::{Method, Purpose};
use crate::domain::time::is_later;
use crate::keys::KeyRing;
use crate::world::World;

use super::body::{Client, UserName};
use super::context::Context;
use super::tokens::CodeRequest;
use super::{Reply, Stop, tokens};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);

/// Under which labels the limits of one kind of request are counted: kinds do not use each other's day up.
pub struct LimitLabels {
    /// For `context.ip`.
    pub ip: &'static str,
    /// For the mail address, if the request names it and does not show that it is one profile's alone.
    pub address: &'static str,
    /// For the account.
    pub account: &'static str,
}

/// A command that mails somebody a link or code if they are to have one.
pub trait MailRequest {
    /// What the ticket allows.
    const PURPOSE: Purpose;
    /// Where its limits are counted.
    const LIMITS: LimitLabels;

    /// Whom the request names.
    fn user(&self) -> &UserName;

    /// By link or code, and for how long.
    fn method(&self, config: &Config) -> (Method, Duration);

    /// Why an account gets no such mail, beside what keeps it from any: as the activity log says it, and as support is told.
    fn unfit(account: &Account) -> Option<(Decision, Rejection)>;

    /// Opens the ticket and queues its mail; what support is told of it.
    ///
    /// # Errors
    /// [`Stop::Bug`] when the account is not loaded.
    fn grant(&self, cx: &mut Context<'_>, id: &str) -> Result<Value, Stop>;
}

/// What a person is answered, whatever was decided.
pub fn accepted() -> Reply {
    Reply::of(json!({ "accepted": true }))
}

/// Keys of the limits that a request falls under.
pub fn limits<R: MailRequest>(request: &R, client: &Client, world: &World, keys: &KeyRing) -> Vec<Uuid> {
    let limits = Limits::of(request, client, world, keys);
    let guesses = tokens::guess_limits(keys, R::PURPOSE, request.user());
    limits.accounts.into_iter().map(|(_, key)| key).chain(limits.ip).chain(limits.address).chain(guesses).collect()
}

/// Serves everybody of this name who can be served; what was granted.
///
/// # Errors
/// Why nobody could be served.
pub fn for_support<R: MailRequest>(request: &R, cx: &mut Context<'_>) -> Result<Vec<Value>, Stop> {
    let found = cx.world.find(request.user());
    if found.is_empty() {
        cx.unknown(request.user());
        return Err(Rejection::new(Code::UserNotFound, "no profile has this name").into());
    }
    // With one profile its refusal is the answer; with several, those that can be served are.
    let mut refusal = None;
    let mut eligible = Vec::new();
    let mut decisions = Map::new();
    for id in found {
        cx.touch(&id);
        match eligible_for_support(request, cx, &id) {
            Ok(()) => {
                decisions.insert(id.clone(), Decision::Sent.as_str().into());
                eligible.push(id);
            }
            Err(Stop::Rejected(rejection)) => {
                decisions.insert(id, Decision::Refused(rejection.code).as_str().into());
                // The first; but why somebody cannot be served says more than that another is not theirs to act on.
                let of_another = |r: &Rejection| matches!(r.code, Code::Forbidden | Code::ForbiddenTarget);
                let first = refusal.filter(|first| !of_another(first) || of_another(&rejection));
                refusal = first.or(Some(rejection));
            }
            Err(stop) => return Err(stop),
        }
    }
    if let (true, Some(refusal)) = (eligible.is_empty(), refusal) {
        return Err(refusal.into());
    }
    if decisions.len() > 1 {
        cx.note("decisions", decisions);
    }
    tokens::restart_guesses(cx, request.user(), R::PURPOSE, CodeRequest::CountsElsewhere);
    eligible.into_iter().map(|id| request.grant(cx, &id)).collect()
}

/// Serves everybody of this name who can be served and has not had enough; says nothing of it.
///
/// # Errors
/// [`Stop::Bug`] when an account is not loaded.
pub fn for_the_person<R: MailRequest>(request: &R, cx: &mut Context<'_>) -> Result<Reply, Stop> {
    let found = cx.world.find(request.user());
    for id in &found {
        cx.touch(id);
    }
    if found.is_empty() {
        cx.unknown(request.user());
    }
    let limits = Limits::of(request, cx.client, cx.world, cx.env.keys);
    let rules = &cx.env.config.password_reset;
    // Counted by when people asked: those who waited out an outage are no flood. Each request from an IP counts; those
    // of an address and a person count when they would be served, so that impatient clicking does not use up the day.
    let from_ip = limits.ip.is_none_or(|key| admitted(cx, key, ip_rule(rules)));
    let guessed_out = tokens::is_guessed_out(cx, request.user(), R::PURPOSE);
    let address_rule = limits.address_rule(rules, guessed_out);
    let too_many = match limits.address {
        _ if !from_ip => Some("password_reset.max_per_ip_per_hour"),
        Some(key) if !admits(cx, key, address_rule) => Some(what_held(cx, key, address_rule)),
        _ => None,
    };
    if let Some(limit) = too_many {
        cx.note("decision", Decision::Throttled.as_str());
        cx.note("limit", limit);
        return Ok(accepted());
    }
    let mut served = found.is_empty();
    let mut asked_anew = served;
    let (mut decisions, mut held) = (Vec::new(), Map::new());
    for (id, key) in limits.accounts {
        let ineligible = ineligible(request, cx, &id)?;
        let now = cx.now;
        let rule = account_rule(rules, cx.account(&id)?.open_ticket_of(R::PURPOSE).is_some_and(|t| t.is_usable(now)));
        let decision = match ineligible {
            Some((Decision::Superseded, _)) => Decision::Superseded,
            // Counted as that of somebody whom nobody knows: whoever tries codes afterwards must not see the difference.
            Some((why, _)) => {
                asked_anew |= admitted(cx, key, account_rule(rules, !guessed_out));
                why
            }
            None if !admitted(cx, key, rule) => {
                held.insert(id.clone(), what_held(cx, key, rule).into());
                Decision::Throttled
            }
            None => {
                request.grant(cx, &id)?;
                served = true;
                Decision::Sent
            }
        };
        decisions.push((id, decision));
    }
    if let (true, Some(key)) = (served, limits.address) {
        admitted(cx, key, address_rule);
    }
    let sent = decisions.iter().any(|(_, decision)| *decision == Decision::Sent);
    if sent || asked_anew {
        let is_link = request.method(cx.env.config).0 == Method::Link;
        let code = if sent || is_link { CodeRequest::CountsElsewhere } else { CodeRequest::SentToNobody };
        tokens::restart_guesses(cx, request.user(), R::PURPOSE, code);
    }
    match decisions.as_slice() {
        [] => cx.note("decision", Decision::UnknownAddress.as_str()),
        [(id, decision)] => {
            cx.note("decision", decision.as_str());
            if let Some(limit) = held.remove(id) {
                cx.note("limit", limit);
            }
        }
        several => {
            let decisions: Map<_, _> = several.iter().map(|(id, d)| (id.clone(), Value::from(d.as_str()))).collect();
            cx.note("decisions", decisions);
            if !held.is_empty() {
                cx.note("limits", held);
            }
        }
    }
    Ok(accepted())
}

/// Whether an account is in a state to get such a mail.
///
/// # Errors
/// What support is told: `user_blocked`, `user_inactive`, `address_suppressed`, or the command's own reason.
pub fn may_get<R: MailRequest>(account: &Account) -> Result<(), Rejection> {
    match out_of_reach::<R>(account) {
        Some((_, refusal)) => Err(refusal),
        None => Ok(()),
    }
}

/// Whether support may have a person mailed at all.
///
/// # Errors
/// `user_blocked`, `user_inactive`.
pub fn may_come_in(account: &Account) -> Result<(), Rejection> {
    match shut_out(account) {
        Some((_, refusal)) => Err(refusal),
        None => Ok(()),
    }
}

/// The refusal of a request that is older than one that was served.
pub fn superseded() -> Rejection {
    Rejection::new(Code::TokenSuperseded, "a newer request was made already")
}

/// The refusal of an address that is on the suppression list.
pub fn address_suppressed() -> Rejection {
    Rejection::new(
        Code::AddressSuppressed,
        "mail to this address bounced or was complained about; once it works again, email.unsuppress lifts that",
    )
}

fn shut_out(account: &Account) -> Option<(Decision, Rejection)> {
    if account.blocked {
        Some((Decision::Blocked, Rejection::new(Code::UserBlocked, "this person is blocked")))
    } else if !account.active {
        Some((Decision::Inactive, Rejection::new(Code::UserInactive, "this person is deactivated")))
    } else {
        None
    }
}

fn out_of_reach<R: MailRequest>(account: &Account) -> Option<(Decision, Rejection)> {
    let suppressed = || account.suppressed.then(|| (Decision::Suppressed, address_suppressed()));
    shut_out(account).or_else(|| R::unfit(account)).or_else(suppressed)
}

fn eligible_for_support<R: MailRequest>(request: &R, cx: &mut Context<'_>, id: &str) -> Result<(), Stop> {
    let (authority, config) = (cx.authority.clone(), cx.env.config);
    let account = cx.account(id)?;
    authority.may_act_on(account, &config.roles)?;
    match ineligible(request, cx, id)? {
        None => Ok(()),
        Some((_, refusal)) => Err(refusal.into()),
    }
}

/// Why an account gets no mail: as the activity log says it, and as support is told.
fn ineligible<R: MailRequest>(
    request: &R,
    cx: &mut Context<'_>,
    id: &str,
) -> Result<Option<(Decision, Rejection)>, Stop> {
    let (now, requested_at, by_support) = (cx.now, cx.requested_at, cx.is_administrative());
    // What it would send would be expired from the first.
    let too_late = cx.ends_after(request.method(cx.env.config).1, true).err();
    let account = cx.account(id)?;
    if let Some(out) = out_of_reach::<R>(account) {
        return Ok(Some(out));
    }
    let open = account.open_ticket_of(R::PURPOSE);
    let (newer, good) = open.map_or((false, false), |t| (is_later(t.requested_at, requested_at), t.is_usable(now)));
    Ok(match too_late {
        // A delayed request voids no newer link, and no good one if it is too late itself.
        _ if newer => Some((Decision::Superseded, superseded())),
        Some(expired) if by_support => Some((Decision::Refused(expired.code), expired)),
        Some(_) if good => Some((Decision::Superseded, superseded())),
        _ => None,
    })
}

/// The interval is there because the first link is still good: it does not hold for whoever has none any more.
fn account_rule(rules: &PasswordReset, has_one: bool) -> Rule {
    let interval = if has_one { rules.min_interval } else { Duration::ZERO };
    Rule { interval, max: rules.max_per_day, window: DAY }
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
    fn of<R: MailRequest>(request: &R, client: &Client, world: &World, keys: &KeyRing) -> Self {
        let key = |label: &str, what: &str| Uuid::from_bytes(keys.fingerprint(label, &[what.as_bytes()]));
        let found = world.find(request.user());
        let address = match request.user() {
            // It is one profile's alone, whose own limit holds for all that the address's would.
            UserName::Email(_) if found.len() == 1 => None,
            UserName::Email(address) => Some(address.clone()),
            // A name that nobody has is limited as a person is.
            UserName::Id(id) if found.is_empty() => Some(format!("id {id}")),
            UserName::Username(username) if found.is_empty() => Some(format!("username {username}")),
            // Others may have the same address: nobody uses their day up by asking for one profile.
            UserName::Id(_) | UserName::Username(_) => None,
        };
        // Whom nothing is sent has a limit as if nobody had the name: it must not hold them up when something may be sent again.
        let reached = |id: &str| world.account(id).is_some_and(|account| out_of_reach::<R>(account).is_none());
        let own = |id: &str| {
            if reached(id) { key(R::LIMITS.account, id) } else { key(R::LIMITS.address, &format!("id {id}")) }
        };
        Self {
            ip: client.ip.map(|ip| key(R::LIMITS.ip, &source(ip).to_string())),
            address: address.map(|address| key(R::LIMITS.address, &address)),
            accounts: found.into_iter().map(|id| (id.clone(), own(&id))).collect(),
        }
    }

    /// Several profiles may share an address: then the interval is each profile's own, and only the count is the address's. Where
    /// nobody has it, the interval ends with the tries at a code that was asked for, as it does where a code died of them.
    fn address_rule(&self, rules: &PasswordReset, guessed_out: bool) -> Rule {
        let interval = if self.accounts.is_empty() && !guessed_out { rules.min_interval } else { Duration::ZERO };
        Rule { interval, max: rules.max_per_day, window: DAY }
    }
}

fn admits(cx: &mut Context<'_>, key: Uuid, rule: Rule) -> bool {
    let asked = cx.requested_at;
    cx.world.limit(key).admits(rule, asked)
}

/// The setting by which a limit admits no more.
fn what_held(cx: &mut Context<'_>, key: Uuid, rule: Rule) -> &'static str {
    // Were it not for the interval.
    let rested = Rule { interval: Duration::ZERO, ..rule };
    if admits(cx, key, rested) { "password_reset.min_interval" } else { "password_reset.max_per_day" }
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
