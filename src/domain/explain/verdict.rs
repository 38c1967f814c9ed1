//! From the evidence to one word.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::decision::Decision;
use crate::domain::rejection::Code;

use super::{Evidence, Mail, Request, unsent};

/// Why no mail came, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Verdict {
    /// Nobody asked for a mail.
    NeverRequested,
    /// No profile had this address when it was asked.
    UnknownAddress,
    /// There were too many requests; the timeline says which limit held.
    Throttled,
    /// The person was blocked.
    Blocked,
    /// The person was deactivated.
    Inactive,
    /// A temporary password waited to be replaced: until then an emailed reset is unusable.
    TemporaryPasswordPending,
    /// The mail's template is switched off.
    TemplateDisabled,
    /// The address bounced or complained before: nothing is sent to it.
    Suppressed,
    /// The link or code ran out before the mail could be sent.
    Expired,
    /// A newer request, or a new password, made the mail pointless before it could be sent.
    Superseded,
    /// It is waiting to be sent, for the first time or again.
    Retrying,
    /// The mail server refused it for good, or it was tried for as long as it may be.
    Failed,
    /// The mail server took it; nothing was heard of it since.
    AcceptedBySmtp,
    /// It is in the mailbox, says the mail provider.
    Delivered,
    /// It came back, says the mail provider.
    Bounced,
    /// Its reader called it spam, says the mail provider.
    Complained,
}

impl Verdict {
    /// Every one, in the order of the reference.
    pub const ALL: [Self; 16] = [
        Self::NeverRequested,
        Self::UnknownAddress,
        Self::Throttled,
        Self::Blocked,
        Self::Inactive,
        Self::TemporaryPasswordPending,
        Self::TemplateDisabled,
        Self::Suppressed,
        Self::Expired,
        Self::Superseded,
        Self::Retrying,
        Self::Failed,
        Self::AcceptedBySmtp,
        Self::Delivered,
        Self::Bounced,
        Self::Complained,
    ];

    /// Of a request that brought no mail about, or none that is still known.
    fn of(decision: Decision) -> Option<Self> {
        Some(match decision {
            // Mails are kept for less long than the activity log: then what this one carried has long run out.
            Decision::Sent | Decision::Refused(Code::RequestExpired | Code::Expired) => Self::Expired,
            Decision::UnknownAddress | Decision::Refused(Code::UserNotFound) => Self::UnknownAddress,
            Decision::Throttled => Self::Throttled,
            Decision::Blocked | Decision::Refused(Code::UserBlocked) => Self::Blocked,
            Decision::Inactive | Decision::Refused(Code::UserInactive) => Self::Inactive,
            Decision::TemporaryPasswordPending | Decision::Refused(Code::PasswordChangeRequired) => {
                Self::TemporaryPasswordPending
            }
            Decision::Suppressed | Decision::Refused(Code::AddressSuppressed) => Self::Suppressed,
            Decision::Superseded | Decision::Refused(Code::TokenSuperseded) => Self::Superseded,
            Decision::AlreadyVerified | Decision::Refused(_) => return None,
        })
    }
}

type Found = (Verdict, Option<DateTime<Utc>>);

pub(super) fn find(evidence: &Evidence) -> Found {
    let mut requests: Vec<&Request> = evidence.requests.iter().filter(|request| is_the_persons(request)).collect();
    requests.sort_by_key(|request| Reverse((request.at, request.id)));
    let mut found: Option<(&Request, Found)> = None;
    for request in requests {
        // One command may have been for several people who share an address: a mail that came about says most.
        let same = |first: &Request| first.at == request.at && first.command_id == request.command_id;
        if found.as_ref().is_some_and(|(first, _)| !same(first)) {
            break;
        }
        if let Some(this) = of_request(evidence, request)
            && found.as_ref().is_none_or(|(_, (verdict, _))| this.0 > *verdict)
        {
            found = Some((request, this));
        }
    }
    found.map_or((Verdict::NeverRequested, None), |(_, found)| found)
}

/// A copy for somebody else, and a repetition that was refused, change nothing of what came of the person's own request.
fn is_the_persons(request: &Request) -> bool {
    request.command != "email.resend" || (request.outcome == "ok" && !request.copy)
}

/// None of a request that could not have brought a mail: one that was malformed or not permitted, or that asked for what was
/// done already.
fn of_request(evidence: &Evidence, request: &Request) -> Option<Found> {
    if let Some(mail) = evidence.mail_of(request) {
        return Some(of_mail(evidence, mail));
    }
    let at = Some(request.at);
    // Whatever else was decided, no mail could come.
    let unknown = request.user_id.is_none() && matches!(request.outcome.as_str(), "ok" | "user_not_found");
    if unknown {
        return Some((Verdict::UnknownAddress, at));
    }
    request.decision().and_then(Verdict::of).map(|verdict| (verdict, at))
}

fn of_mail(evidence: &Evidence, mail: &Mail) -> Found {
    let reported = |kind| evidence.report(mail, kind).map(|report| report.at).or(mail.sent_at);
    let last_failure = mail.failures.last().map(|failure| failure.at);
    let closed = mail.ticket.as_ref().and_then(|ticket| ticket.closed_at);
    let (verdict, since) = match mail.state.as_str() {
        "delivered" => (Verdict::Delivered, reported("delivered")),
        "bounced" => (Verdict::Bounced, reported("bounced")),
        "complained" => (Verdict::Complained, reported("complained")),
        "sent" => (Verdict::AcceptedBySmtp, mail.sent_at),
        "failed" => (Verdict::Failed, last_failure.or(Some(mail.give_up_at))),
        "suppressed" => (Verdict::Suppressed, Some(mail.queued_at)),
        "expired" => (Verdict::Expired, Some(mail.ticket.as_ref().map_or(mail.give_up_at, |t| t.expires_at))),
        "cancelled" if mail.was_unsent(unsent::BLOCKED) => (Verdict::Blocked, blocked(evidence, mail)),
        "cancelled" if mail.was_switched_off() => (Verdict::TemplateDisabled, Some(mail.queued_at)),
        "cancelled" => (Verdict::Superseded, closed),
        _ => (Verdict::Retrying, mail.failures.first().map(|failure| failure.at)),
    };
    (verdict, since.or(Some(mail.queued_at)))
}

/// When support blocked a mail's person.
fn blocked(evidence: &Evidence, mail: &Mail) -> Option<DateTime<Utc>> {
    let of_person =
        |event: &&super::Event| event.what == "account_blocked" && event.user_id.as_ref() == Some(&mail.user_id);
    evidence.events.iter().filter(of_person).map(|event| event.at).max()
}
