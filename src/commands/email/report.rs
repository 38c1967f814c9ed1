//! `email.report`: what the mail provider says later of a mail that it took: delivered, bounced, complained.
//!
//! Reports come late, twice, and out of order. A complaint says more than a bounce, a bounce more than a delivery, and each
//! more than what SMTP said: what says less changes nothing. A hard bounce or a complaint puts the address on the
//! suppression list, from which only `email.unsuppress` takes it.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::commands::body::Text;
use crate::commands::context::Context;
use crate::commands::document::{Doc, Documented, exactly_one_of};
use crate::commands::handle::Handle;
use crate::commands::{Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::email_address::email_key;
use crate::domain::rejection::{Code, Rejection};
use crate::events::{EmailNews, Event};
use crate::keys::KeyRing;
use crate::mail::quoted::hide_what_looks_secret;
use crate::mail::smtp::mask_addresses;
use crate::world::Wants;
use crate::world::mailing::PastEmail;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = exactly_one_of(&[&["email_id"], &["smtp_message_id"]])))]
pub struct Report {
    /// The mail. Either this or `smtp_message_id`.
    email_id: Option<Handle>,
    /// The mail's `Message-ID`, as the provider tells it: with or without angle brackets.
    smtp_message_id: Option<Text<998>>,
    /// What became of it.
    kind: Kind,
    /// The provider's words. A status of class 4 in them (`4.2.2`, or the reply code `452`) makes a bounce a soft one.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("maxLength" = MAX_DETAIL))]
    detail: Option<Detail>,
}

/// What a provider reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Kind {
    /// It is in the mailbox.
    Delivered,
    /// It came back.
    Bounced,
    /// Its reader called it spam.
    Complained,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// The mail.
    email_id: Uuid,
}

impl Documented for Report {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Takes a mail provider's later word on a mail: delivered, bounced, complained.",
        description: "A hard bounce or a complaint suppresses the address until `email.unsuppress`: nothing is sent to it, and \
                      mails that are still queued for it end as `suppressed`. A soft bounce (a status of class 4 in `detail`) \
                      does not. Reports may come twice and in any order: a late `delivered` hides neither a bounce nor a \
                      complaint.",
        errors: &[Code::EmailNotFound],
        events: &["email.bounced"],
        example: r#"{
            "smtp_message_id": "<019ac2f0-7c1a-7000-8000-000000000001@example.com>",
            "kind": "bounced",
            "detail": "550 5.1.1 no such user"
        }"#,
        answer: r#"{"email_id": "019ac2f0-7c1a-7000-8000-000000000001"}"#,
    };
}

impl Command for Report {
    const NAME: &'static str = "email.report";
    const LANE: Lane = Lane::State;
    const AUDIENCE: Audience = Audience::Administrative;

    fn wants(&self, wants: &mut Wants, _: &KeyRing) {
        wants.emails.extend(self.named().ok().flatten());
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        let id = self.named()?.ok_or_else(super::email_not_found)?;
        let mail = cx.world.past_email(id).cloned().ok_or_else(super::email_not_found)?;
        cx.touch(&mail.user_id);
        may_report(cx, &mail)?;
        let code_length = cx.env.config.password_reset.code_length;
        let detail = self.detail.as_ref().map(|detail| detail.kept(code_length));
        cx.note("email_id", id.to_string());
        cx.note("kind", self.kind.as_str());
        cx.note("detail", detail.clone());
        let mut suppresses = false;
        if self.is_lasting() {
            // Of an erased person's mail nobody knows any more where it went.
            let key = email_key(&mail.to);
            if key.contains('@') {
                suppresses = !cx.world.is_suppressed(&key);
                cx.world.set_suppressed(&key, Some(self.kind.as_str()));
                cx.note("suppressed", true);
            }
        }
        let said = Kind::of(&mail.state);
        let says_more = self.says_more_than(&mail, said);
        if says_more && let Some(mail) = cx.world.past_email_mut(id) {
            self.kind.as_str().clone_into(&mut mail.state);
            mail.dirty = true;
        }
        let came_back = says_more && self.kind != Kind::Delivered;
        // Suppressed by a bounce after a complaint that support took for settled: that stays what is said of the mail.
        let news = said.filter(|_| !says_more).unwrap_or(self.kind).news().filter(|_| came_back || suppresses);
        if let Some(news) = news
            && cx.world.account(&mail.user_id).is_some()
        {
            let (owner, template) = (mail.user_id, mail.template);
            cx.event(&owner, &Event::Email { email_id: id, template, news, smtp_reply: detail });
        }
        Ok(Reply::of(Answer { email_id: id }))
    }
}

impl Report {
    /// The mail that is meant; none if the `Message-ID` is not one of ours.
    fn named(&self) -> Result<Option<Uuid>, Rejection> {
        match (&self.email_id, &self.smtp_message_id) {
            (Some(id), None) => Ok(Some(id.id())),
            (None, Some(id)) => Ok(from_message_id(id.as_str())),
            _ => Err(Rejection::new(Code::InvalidBody, "give either `email_id` or `smtp_message_id`")),
        }
    }

    /// Whether the address is not to be mailed any more.
    fn is_lasting(&self) -> bool {
        match self.kind {
            Kind::Delivered => false,
            Kind::Bounced => !self.detail.as_ref().is_some_and(|detail| is_transient(&detail.0)),
            Kind::Complained => true,
        }
    }

    /// A mail that was never handed over was neither delivered nor deferred, whatever is said of it; and one that is to be
    /// sent yet must not be lost by it.
    fn says_more_than(&self, mail: &PastEmail, said: Option<Kind>) -> bool {
        let untried = mail.attempts == 0 && !self.is_lasting();
        !untried && said.is_none_or(|said| self.kind > said)
    }
}

impl Kind {
    /// What was reported of a mail in this state.
    fn of(state: &str) -> Option<Self> {
        [Self::Delivered, Self::Bounced, Self::Complained].into_iter().find(|kind| kind.as_str() == state)
    }

    /// What upstream apps are told of it.
    const fn news(self) -> Option<EmailNews> {
        match self {
            Self::Delivered => None,
            Self::Bounced => Some(EmailNews::Bounced),
            Self::Complained => Some(EmailNews::Complained),
        }
    }

    /// As stored in `emails.state` and `suppressions.reason`.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Bounced => "bounced",
            Self::Complained => "complained",
        }
    }
}

/// The longest `detail` that is taken, in characters: multi-line replies are long.
const MAX_DETAIL: usize = 4096;
/// How much of it is kept.
const KEPT: usize = 500;

/// The provider's words, in one line.
#[derive(Debug, Clone)]
struct Detail(String);

impl<'de> Deserialize<'de> for Detail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.chars().count() > MAX_DETAIL {
            return Err(serde::de::Error::custom(format_args!("must have at most {MAX_DETAIL} characters")));
        }
        let words: Vec<&str> =
            text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|w| !w.is_empty()).collect();
        Ok(Self(words.join(" ")))
    }
}

impl Detail {
    /// As it is kept: without addresses, and without what a mail that it quotes must keep to itself. Cut only then: half of
    /// a token would not look like one.
    fn kept(&self, code_length: u8) -> String {
        mask_addresses(&hide_what_looks_secret(&self.0, code_length)).chars().take(KEPT).collect()
    }
}

fn may_report(cx: &Context<'_>, mail: &PastEmail) -> Result<(), Rejection> {
    let roles = &cx.env.config.roles;
    match cx.world.account(&mail.user_id) {
        Some(account) => cx.authority.may_act_on(account, roles),
        None => cx.authority.reaches(&mail.site, &[], roles),
    }
}

/// The id in a `Message-ID` that this daemon made (`<id@domain>`, RFC 5322 section 3.6.4). A relay may have put its own domain
/// there, so that is not looked at.
fn from_message_id(text: &str) -> Option<Uuid> {
    let left = text.trim().trim_matches(['<', '>']).split('@').next()?;
    // Of the ways to write a UUID only ours.
    left.parse().ok().filter(|id: &Uuid| id.to_string().eq_ignore_ascii_case(left))
}

/// Whether a provider's words tell of a failure that passes: the first status in them is of class 4. A status is either
/// enhanced (`4.2.2`, RFC 3463) or, if there is none, the reply code that the text begins with (`452`, RFC 5321).
fn is_transient(detail: &str) -> bool {
    let is_word = |c: char| c.is_ascii_digit() || c == '.';
    let numbers = detail.split(|c| !is_word(c)).map(|word| word.trim_matches('.')).filter(|word| !word.is_empty());
    let enhanced = numbers.clone().find(|word| {
        let parts: Vec<&str> = word.split('.').collect();
        let is_class = matches!(parts[0], "2" | "4" | "5");
        parts.len() == 3 && is_class && parts.iter().all(|part| (1..=3).contains(&part.len()))
    });
    let reply = || numbers.clone().next().filter(|code| code.len() == 3 && detail.trim_start().starts_with(code));
    enhanced.or_else(reply).is_some_and(|status| status.starts_with('4'))
}

#[cfg(test)]
mod tests;
