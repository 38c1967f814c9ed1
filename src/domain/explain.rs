//! Why no mail came: from what was asked, decided, tried and reported to one verdict and a timeline. Pure.
//!
//! The verdict is about the newest request that could have brought a mail: what came of older ones is in the timeline.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::decision::Decision;
use super::rejection::{Code, Outcome};

mod steps;
mod verdict;

pub use steps::{Step, WORDS};
pub use verdict::Verdict;

/// Why a queued mail was not sent after all, as its row says it.
pub mod unsent {
    /// Its person is blocked.
    pub const BLOCKED: &str = "the person is blocked";
    /// Its template is switched off by now.
    pub const TEMPLATE_OFF: &str = "its template is switched off";
    /// Its ticket was used, superseded or withdrawn.
    pub const TICKET_CLOSED: &str = "its ticket is no longer open";
}

/// Everything that is known.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Commands that asked for a mail, refused ones too.
    pub requests: Vec<Request>,
    /// Mails to these people.
    pub mails: Vec<Mail>,
    /// What a mail provider said later.
    pub reports: Vec<Report>,
    /// What else happened that mail depends on.
    pub events: Vec<Event>,
    /// Addresses that nothing is sent to.
    pub suppressions: Vec<Suppression>,
    /// For an address that nobody has: now.
    pub nobody: Option<DateTime<Utc>>,
}

/// A command that asked for a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its row in the activity log.
    pub id: Uuid,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// The id of the person it was for; none if nobody had the address.
    pub user_id: Option<String>,
    /// The command.
    pub command: String,
    /// `ok` or the refusal's code.
    pub outcome: String,
    /// What was decided where the answer did not tell: the word of a [`Decision`], or one of a later version.
    pub decision: Option<String>,
    /// Whether it was for a copy to another address.
    pub copy: bool,
    /// Which limit throttled it: the name of its setting.
    pub limit: Option<String>,
    /// `self`, `system`, or who asked for it.
    pub by: String,
    /// The app that sent it.
    pub publisher: String,
    /// Where the person was.
    pub ip: Option<String>,
    /// The message id, which its mails carry too.
    pub command_id: Option<String>,
}

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Its id.
    pub id: Uuid,
    /// The id of the person it is for.
    pub user_id: String,
    /// Where to.
    pub to: String,
    /// Which template.
    pub template: String,
    /// What became of it.
    pub state: String,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// No attempt is begun after this.
    pub give_up_at: DateTime<Utc>,
    /// When a server accepted it.
    pub sent_at: Option<DateTime<Utc>>,
    /// The server's last words, or why it was not sent.
    pub reply: Option<String>,
    /// The mail that it repeats.
    pub resend_of: Option<Uuid>,
    /// The command that asked for it.
    pub command_id: Option<String>,
    /// The ticket that it carries.
    pub ticket: Option<Ticket>,
    /// Attempts that failed, in order.
    pub failures: Vec<Failure>,
}

/// The ticket of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its id.
    pub id: Uuid,
    /// What became of it.
    pub state: String,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// When it stopped being open.
    pub closed_at: Option<DateTime<Utc>>,
}

/// An attempt that did not end in acceptance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Counted from 1.
    pub attempt: i32,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// `retry` if there was to be another.
    pub outcome: String,
    /// The server's words, or why none were heard.
    pub reply: Option<String>,
}

/// A mail provider's later word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// When.
    pub at: DateTime<Utc>,
    /// The mail that it is about.
    pub email_id: Uuid,
    /// `delivered`, `bounced` or `complained`.
    pub kind: String,
    /// The provider's words.
    pub detail: Option<String>,
    /// Whose mail it was.
    pub user_id: Option<String>,
}

/// Something else that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: DateTime<Utc>,
    /// To whom.
    pub user_id: Option<String>,
    /// One of the words of [`Step::what`].
    pub what: &'static str,
    /// By whom: `self`, `system`, or an id.
    pub by: String,
    /// Why, if it was said.
    pub reason: Option<String>,
}

/// An address that nothing is sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// The address.
    pub email: String,
    /// `bounced` or `complained`.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// What came of it all.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// In one word.
    pub verdict: Verdict,
    /// Since when that is so; none if nothing was ever asked for.
    pub since: Option<DateTime<Utc>>,
    /// The timeline, oldest first.
    pub steps: Vec<Step>,
}

/// Explains.
pub fn explain(evidence: &Evidence) -> Explanation {
    let (verdict, since) = verdict::find(evidence);
    Explanation { verdict, since, steps: steps::timeline(evidence) }
}

impl Request {
    /// What was decided, as far as this version knows it. Where nothing is said of it, the mail was queued.
    fn decision(&self) -> Option<Decision> {
        match (self.outcome == Outcome::Done.as_str(), self.decision.as_deref()) {
            (true, None) => Some(Decision::Sent),
            (true, Some(word)) => Decision::parse(word),
            (false, _) => Code::parse(&self.outcome).map(Decision::Refused),
        }
    }
}

impl Evidence {
    /// The mail that a request brought about: written by the same transaction, with the same message id.
    fn mail_of(&self, request: &Request) -> Option<&Mail> {
        self.mails.iter().find(|mail| {
            request.user_id.as_ref() == Some(&mail.user_id)
                && mail.queued_at == request.at
                && mail.command_id == request.command_id
        })
    }

    /// The newest report of a kind about a mail.
    fn report(&self, mail: &Mail, kind: &str) -> Option<&Report> {
        self.reports.iter().filter(|r| r.email_id == mail.id && r.kind == kind).max_by_key(|r| r.at)
    }
}

impl Mail {
    /// Why it was not sent after all.
    fn was_unsent(&self, why: &str) -> bool {
        self.reply.as_deref() == Some(why)
    }

    /// Whether a cancelled mail's template was switched off, from the first or by the time it was to be sent.
    fn was_switched_off(&self) -> bool {
        self.was_unsent(unsent::TEMPLATE_OFF) || (self.reply.is_none() && self.failures.is_empty())
    }
}

/// A step's details; what is not known is left out.
fn details(fields: Value) -> Map<String, Value> {
    let Value::Object(mut fields) = fields else { unreachable!("details are written as an object") };
    fields.retain(|_, value| !value.is_null());
    fields
}

/// As [`details`], of something that happened to a person.
fn details_of(user_id: Option<&str>, fields: Value) -> Map<String, Value> {
    let mut details = details(fields);
    if let Some(id) = user_id {
        details.insert("user_id".to_owned(), json!(id));
    }
    details
}

#[cfg(test)]
mod tests;
