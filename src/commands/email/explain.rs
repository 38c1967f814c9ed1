//! `email.explain`: why did no email come? What support staff open when a customer got none.
//!
//! It joins what was asked, what was decided and why, each delivery attempt with the mail server's reply, and later reports.
//! Here is told apart what the person must not be told: unknown addresses, blocked people, throttled requests.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::commands::Reply;
use crate::commands::body::{Name, UserName};
use crate::commands::document::{Doc, Documented, exactly_one_of};
use crate::commands::history::activity::own_details;
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::domain::access::Audience;
use crate::domain::account::Account;
use crate::domain::email_address::email_key;
use crate::domain::explain::{self, Event, Evidence, Report, Request, Verdict};
use crate::domain::rejection::{Code, Outcome, Rejection};
use crate::domain::time::Timestamp;
use crate::store::activity::{self, Of, Which};
use crate::store::evidence;
use crate::world::subject_key;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = exactly_one_of(&[&["email"], &["user"]])))]
pub struct Explain {
    /// An address, whether or not anybody has it. Either this or `user`. Of several profiles that share it, those that the
    /// caller may act on.
    email: Option<Name<320>>,
    /// A person.
    user: Option<UserName>,
}

/// Something that happened.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Step {
    /// When.
    at: Timestamp,
    /// What, in one word.
    what: &'static str,
    /// More about it: whom, which mail, the mail server's reply, a reason. Never a secret.
    details: Map<String, Value>,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Why no mail came, of the newest request.
    verdict: Verdict,
    /// Since when that is so; null if nobody asked for a mail.
    since: Option<Timestamp>,
    /// The timeline, oldest first; the newest 200.
    steps: Vec<Step>,
}

impl Documented for Explain {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Why did no email come? What was asked, decided, tried and reported, with one verdict.",
        description: "The verdict is about the newest request for a mail with a link or code. What was answered to the person never \
                      tells which of these it was.",
        errors: &[Code::UserNotFound, Code::AmbiguousUser],
        events: &[],
        example: r#"{"email": "ada@example.com"}"#,
        answer: r#"{
            "verdict": "failed",
            "since": "2026-11-22T09:30:01.200Z",
            "steps": [
                {
                    "at": "2026-11-22T09:30:00.000Z", "what": "requested",
                    "details": {"user_id": "ada", "command": "password.reset.request", "by": "self", "publisher": "shop"}
                },
                {
                    "at": "2026-11-22T09:30:00.000Z", "what": "queued",
                    "details": {
                        "user_id": "ada", "email_id": "019ac2f0-7c1a-7000-8000-000000000001",
                        "template": "password_reset_link", "to": "ada@example.com"
                    }
                },
                {
                    "at": "2026-11-22T09:30:01.200Z", "what": "attempt_failed",
                    "details": {
                        "user_id": "ada", "email_id": "019ac2f0-7c1a-7000-8000-000000000001", "attempt": 1,
                        "reply": "550 5.1.1 no such user", "will_retry": false
                    }
                },
                {
                    "at": "2026-11-22T09:30:01.200Z", "what": "failed",
                    "details": {
                        "user_id": "ada", "email_id": "019ac2f0-7c1a-7000-8000-000000000001",
                        "reply": "550 5.1.1 no such user"
                    }
                }
            ]
        }"#,
    };
}

/// Commands that ask for a mail with a link or code.
const REQUESTS: [&str; 6] = [
    "password.reset.request",
    "password.reset.resend",
    "invite.send",
    "invite.resend",
    "email.verification.send",
    "email.resend",
];

/// Commands that mail depends on, and the words for them.
const EVENTS: [(&str, &str); 11] = [
    ("user.block", "account_blocked"),
    ("user.unblock", "account_unblocked"),
    ("user.deactivate", "account_deactivated"),
    ("user.activate", "account_activated"),
    ("password.temporary.issue", "temporary_password_issued"),
    ("password.reset.complete", "password_reset"),
    ("password.reset.cancel", "request_cancelled"),
    ("invite.accept", "invitation_accepted"),
    ("invite.revoke", "invitation_revoked"),
    ("email.verification.complete", "address_verified"),
    ("email.unsuppress", "address_unsuppressed"),
];

const REPORT: &str = "email.report";

/// Profiles of one address that are looked at.
const PEOPLE: usize = 20;
/// Of each, the newest rows of the activity log and the newest mails.
const ROWS: i64 = 100;
const MAILS: i64 = 50;

impl Query for Explain {
    const NAME: &'static str = "email.explain";
    const AUDIENCE: Audience = Audience::Administrative;

    async fn answer(&self, mut cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let mut evidence = Evidence::default();
        let mut addresses = BTreeSet::new();
        let people = match self.subject()? {
            Subject::Address(email) => {
                let key = email_key(email.as_str());
                let people = sharing(&mut cx, &key).await?;
                // Who asked for an address that nobody had: that says nothing about anybody, so whoever may ask is told.
                let subject = Of::Subject(subject_key(cx.env.keys, &key));
                let which = Which { kinds: Some(&REQUESTS), ..Which::default() };
                collect(&mut evidence, activity::page(cx.connection.get().await?, subject, which, ROWS).await?.rows);
                evidence.nobody = people.is_empty().then_some(cx.now);
                addresses.insert(key);
                people
            }
            Subject::Person(user) => vec![cx.target(user).await?],
        };
        let kinds: Vec<&str> = REQUESTS.into_iter().chain(EVENTS.map(|(kind, _)| kind)).chain([REPORT]).collect();
        let which = Which { kinds: Some(&kinds), ..Which::default() };
        for person in people {
            let account = Of::Account(person.id());
            collect(&mut evidence, activity::page(cx.connection.get().await?, account, which, ROWS).await?.rows);
            evidence.mails.extend(evidence::mails(cx.connection.get().await?, person.id(), MAILS).await?);
            addresses.insert(person.email_key().to_owned());
        }
        evidence.suppressions = evidence::suppressed(cx.connection.get().await?, &addresses).await?;
        let explained = explain::explain(&evidence);
        let steps = explained.steps.into_iter();
        Ok(Reply::of(Answer {
            verdict: explained.verdict,
            since: explained.since.map(Timestamp),
            steps: steps.map(|step| Step { at: step.at.into(), what: step.what, details: step.details }).collect(),
        }))
    }
}

/// Whose mail it is about.
enum Subject<'a> {
    Address(&'a Name<320>),
    Person(&'a UserName),
}

impl Explain {
    fn subject(&self) -> Result<Subject<'_>, Rejection> {
        match (&self.email, &self.user) {
            (Some(email), None) => Ok(Subject::Address(email)),
            (None, Some(user)) => Ok(Subject::Person(user)),
            _ => Err(Rejection::new(Code::InvalidBody, "give either `email` or `user`")),
        }
    }

    /// Whether the body is refused for naming neither or both.
    #[cfg(test)]
    pub fn is_ambiguous(&self) -> bool {
        self.subject().is_err()
    }
}

/// Who has the address, as far as the authority reaches.
async fn sharing(cx: &mut QueryContext<'_>, key: &str) -> Result<Vec<Account>, Unanswered> {
    let found = cx.find(&UserName::Email(key.to_owned())).await?;
    let mut refusal = None;
    let mut people = Vec::new();
    for account in found {
        match cx.authority.may_act_on(&account, &cx.env.config.roles) {
            Ok(()) => people.push(account),
            Err(refused) => refusal = refusal.or(Some(refused)),
        }
    }
    people.truncate(PEOPLE);
    match refusal {
        Some(refusal) if people.is_empty() => Err(refusal.into()),
        _ => Ok(people),
    }
}

/// Sorts rows of the activity log into what they are evidence of.
fn collect(evidence: &mut Evidence, rows: Vec<activity::Row>) {
    for row in rows {
        let details = own_details(row.details, row.user_id.as_deref());
        let text = |name: &str| details.get(name).and_then(Value::as_str).map(str::to_owned);
        let by = row.actor.unwrap_or_else(|| "self".to_owned());
        if REQUESTS.contains(&row.kind.as_str()) {
            evidence.requests.push(Request {
                id: row.id,
                at: row.at,
                user_id: row.user_id,
                command: row.kind,
                outcome: row.outcome,
                decision: text("decision"),
                copy: details.contains_key("to"),
                limit: text("limit"),
                by,
                publisher: row.publisher,
                ip: row.ip,
                command_id: row.command_id,
            });
        } else if row.outcome != Outcome::Done.as_str() {
            // What was refused changed nothing.
        } else if row.kind == REPORT {
            let id = text("email_id").and_then(|id| id.parse().ok());
            let (Some(email_id), Some(kind)) = (id, text("kind")) else { continue };
            evidence.reports.push(Report { at: row.at, email_id, kind, detail: text("detail"), user_id: row.user_id });
        } else if let Some((_, what)) = EVENTS.iter().find(|(kind, _)| *kind == row.kind) {
            evidence.events.push(Event { at: row.at, user_id: row.user_id, what, by, reason: text("reason") });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::COMMANDS;
    use crate::domain::explain::WORDS;

    #[test]
    fn every_command_is_one_and_every_word_is_explained() {
        for kind in REQUESTS.into_iter().chain(EVENTS.map(|(kind, _)| kind)).chain([REPORT]) {
            assert!(COMMANDS.contains(&kind), "{kind}");
        }
        for (_, what) in EVENTS {
            assert!(WORDS.iter().any(|(word, _)| *word == what), "{what}");
        }
    }
}
