//! From the evidence to a timeline.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use crate::domain::decision::Decision;

use super::{Evidence, Mail, Request, details, details_of, unsent};

/// Steps that are shown: the newest.
const MOST: usize = 200;

/// A step of the timeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When.
    pub at: DateTime<Utc>,
    /// What, in a word of [`WORDS`].
    pub what: &'static str,
    /// More about it; no secret.
    pub details: Map<String, Value>,
}

/// What can happen, and what it means.
pub const WORDS: &[(&str, &str)] = &[
    ("requested", "a command asked for a mail: which, who asked, from where"),
    ("unknown_address", "no profile had this address: nothing was sent, and the person was not told"),
    ("throttled", "too many requests: nothing was sent; `limit` is the setting that held"),
    ("blocked", "the person was blocked: nothing was sent"),
    ("inactive", "the person was deactivated: nothing was sent"),
    ("temporary_password_pending", "a temporary password waited to be replaced: nothing was sent"),
    ("suppressed", "the address is on the suppression list: nothing was sent"),
    ("superseded", "a newer request was there already, or came before the mail could be sent"),
    ("already_verified", "the address was verified already: nothing was sent"),
    ("refused", "the command was refused; `code` says why"),
    ("queued", "a mail was made: from which template, to which address"),
    ("template_disabled", "the mail's template is switched off: it was not sent"),
    ("attempt_failed", "the mail server did not take the mail; `reply` is what it said, or why it could not be asked"),
    ("accepted", "the mail server took the mail; `reply` is what it said"),
    ("failed", "the mail was given up"),
    ("expired", "what the mail carried ran out before it could be sent"),
    ("cancelled", "the mail was not sent; `reason` says why"),
    ("delivered", "the mail provider reports that it is in the mailbox"),
    ("bounced", "the mail provider reports that it came back"),
    ("complained", "the mail provider reports that its reader called it spam"),
    ("no_profile", "no profile has the address now"),
    ("address_suppressed", "since then nothing is sent to the address"),
    ("address_unsuppressed", "support took the address off the suppression list"),
    ("account_blocked", "support blocked the person"),
    ("account_unblocked", "support lifted that"),
    ("account_deactivated", "the person was deactivated"),
    ("account_activated", "the person was activated"),
    ("temporary_password_issued", "support was told a temporary password"),
    ("password_reset", "the person chose a new password with a link or code"),
    ("invitation_accepted", "the person accepted an invitation"),
    ("address_verified", "the person proved the address with a link or code"),
    ("request_cancelled", "the person said that it was not them"),
    ("invitation_revoked", "an invitation was withdrawn"),
];

pub(super) fn timeline(evidence: &Evidence) -> Vec<Step> {
    let mut steps = Vec::new();
    // What comes of the same moment stays in the order of its making.
    for request in &evidence.requests {
        steps.extend(of_request(request));
    }
    for mail in &evidence.mails {
        steps.extend(of_mail(mail));
    }
    for report in &evidence.reports {
        let what = match report.kind.as_str() {
            "delivered" => "delivered",
            "bounced" => "bounced",
            "complained" => "complained",
            _ => continue,
        };
        let details =
            details_of(report.user_id.as_deref(), json!({ "email_id": report.email_id, "detail": report.detail }));
        steps.push(Step { at: report.at, what, details });
    }
    for event in &evidence.events {
        let details = details_of(event.user_id.as_deref(), json!({ "by": event.by, "reason": event.reason }));
        steps.push(Step { at: event.at, what: event.what, details });
    }
    for listed in &evidence.suppressions {
        let details = details(json!({ "email": listed.email, "reason": listed.reason }));
        steps.push(Step { at: listed.since, what: "address_suppressed", details });
    }
    steps.extend(evidence.nobody.map(|at| Step { at, what: "no_profile", details: Map::new() }));
    steps.sort_by_key(|step| step.at);
    let surplus = steps.len().saturating_sub(MOST);
    steps.split_off(surplus)
}

fn of_request(request: &Request) -> Vec<Step> {
    let user = request.user_id.as_deref();
    let asked = json!({
        "command": request.command, "by": request.by, "publisher": request.publisher, "ip": request.ip,
    });
    let mut steps = vec![Step { at: request.at, what: "requested", details: details_of(user, asked) }];
    let (what, more) = match request.decision() {
        Some(Decision::Sent) => return steps,
        // A decision of a later version, too.
        None | Some(Decision::Refused(_)) => {
            ("refused", json!({ "code": request.decision.as_deref().unwrap_or(&request.outcome) }))
        }
        Some(decision) => (decision.as_str(), json!({ "limit": request.limit })),
    };
    steps.push(Step { at: request.at, what, details: details_of(user, more) });
    steps
}

fn of_mail(mail: &Mail) -> Vec<Step> {
    let step = |at, what, more: Value| {
        let mut details = details_of(Some(&mail.user_id), more);
        details.insert("email_id".to_owned(), json!(mail.id));
        Step { at, what, details }
    };
    let ticket = mail.ticket.as_ref();
    let about = json!({
        "template": mail.template, "to": mail.to, "resend_of": mail.resend_of,
        "ticket_id": ticket.map(|ticket| ticket.id),
    });
    let mut steps = vec![step(mail.queued_at, "queued", about)];
    steps.extend(mail.failures.iter().map(|failure| {
        let again = failure.outcome == "retry";
        let more = json!({ "attempt": failure.attempt, "reply": failure.reply, "will_retry": again });
        step(failure.at, "attempt_failed", more)
    }));
    // Later reports do not hide that a server took it.
    if let Some(sent_at) = mail.sent_at {
        steps.push(step(sent_at, "accepted", json!({ "reply": mail.reply })));
    }
    let last = mail.failures.last().map_or(mail.queued_at, |failure| failure.at);
    let closed = ticket.and_then(|ticket| ticket.closed_at);
    match mail.state.as_str() {
        "failed" => steps.push(step(last, "failed", json!({ "reply": mail.reply }))),
        "suppressed" => steps.push(step(last, "suppressed", json!({ "to": mail.to }))),
        "expired" => {
            let at = ticket.map_or(mail.give_up_at, |ticket| ticket.expires_at);
            steps.push(step(at.max(last), "expired", json!({})));
        }
        "cancelled" if mail.was_unsent(unsent::BLOCKED) => {
            steps.push(step(closed.unwrap_or(last).max(last), "cancelled", json!({ "reason": mail.reply })));
        }
        "cancelled" if mail.was_switched_off() => steps.push(step(last, "template_disabled", json!({}))),
        "cancelled" => {
            let superseded = ticket.is_some_and(|ticket| ticket.state == "superseded");
            let what = if superseded { "superseded" } else { "cancelled" };
            let more = json!({ "reason": mail.reply, "ticket": ticket.map(|ticket| &ticket.state) });
            steps.push(step(closed.unwrap_or(last).max(last), what, more));
        }
        _ => {}
    }
    steps
}
