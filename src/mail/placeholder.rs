//! The placeholders: what `{{…}}` in a template may name, of which type each is, and a sample.

use std::fmt;

use serde::Serialize;

/// What kind of thing a placeholder stands for. It decides what a template may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Words from the configuration.
    Text,
    /// Words that a person may have typed: cleaned and shortened before they get here.
    PersonalText,
    /// An email address.
    EmailAddress,
    /// A public web address from the configuration.
    WebAddress,
    /// A web address that is good once and for one person only: never in a subject.
    Link,
    /// Digits that are good once and for one person only: never in a subject.
    Code,
    /// A moment, written out in the site's time zone.
    Time,
    /// How long something lasts, in words.
    Duration,
    /// Yes or no: for `{{#if}}`, never shown itself.
    Flag,
}

impl Kind {
    /// Whether whoever knows the value can act as the person.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Link | Self::Code)
    }

    /// The kind in words, for lists and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::PersonalText => "personal text",
            Self::EmailAddress => "email address",
            Self::WebAddress => "web address",
            Self::Link => "one-time link",
            Self::Code => "one-time code",
            Self::Time => "time",
            Self::Duration => "duration",
            Self::Flag => "yes or no",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something a template may show or ask about.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Placeholder {
    /// The dotted name, as in `{{user.display_name}}`.
    pub name: &'static str,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What it is, for the person who edits a template.
    pub about: &'static str,
    /// What it looks like in an email (of a flag: `yes`).
    pub sample: &'static str,
    /// Whether it can be missing when the email is sent: then it prints nothing and
    /// `{{#if}}` takes it for no.
    pub may_be_absent: bool,
    /// Its place among the values of an email: a number of its own below [`SLOTS`].
    #[serde(skip)]
    pub(super) slot: usize,
}

/// How many placeholders there are.
pub(super) const SLOTS: usize = 25;

const fn always(slot: usize, name: &'static str, kind: Kind, about: &'static str, sample: &'static str) -> Placeholder {
    Placeholder { name, kind, about, sample, may_be_absent: false, slot }
}

const fn sometimes(
    slot: usize,
    name: &'static str,
    kind: Kind,
    about: &'static str,
    sample: &'static str,
) -> Placeholder {
    Placeholder { name, kind, about, sample, may_be_absent: true, slot }
}

/// What every template may use.
pub(super) static COMMON: [Placeholder; 8] = [
    always(0, "app_name", Kind::Text, "the product's name as people know it", "Example"),
    always(1, "web_url", Kind::WebAddress, "the address of the site", "https://app.example.com"),
    always(2, "support_email", Kind::EmailAddress, "where people get help", "support@example.com"),
    always(3, "site.name", Kind::Text, "the name of the site that the account belongs to", "Example"),
    always(4, "user.username", Kind::PersonalText, "the name that the person signs in with", "ada"),
    always(
        5,
        "user.display_name",
        Kind::PersonalText,
        "the person's full name; the username where none is known",
        "Ada Lovelace",
    ),
    always(6, "user.email", Kind::EmailAddress, "the address that the email goes to", "ada@example.com"),
    always(7, "email_reference", Kind::Text, "a short reference to this very email, to quote to support", "KXVD-TRMQ"),
];

pub(super) const RESET_LINK: Placeholder = always(
    8,
    "reset_link",
    Kind::Link,
    "the link to choose a new password",
    "https://app.example.com/reset?token=GbQx3Jr0VwPzm5tKc1uHsYdN7aEfLi2oAiTqM4kXZR8",
);
pub(super) const RESET_CODE: Placeholder =
    always(9, "reset_code", Kind::Code, "the code to choose a new password", "48201736");
pub(super) const INVITE_LINK: Placeholder = always(
    10,
    "invite_link",
    Kind::Link,
    "the link to accept the invitation",
    "https://app.example.com/invite?token=GbQx3Jr0VwPzm5tKc1uHsYdN7aEfLi2oAiTqM4kXZR8",
);
pub(super) const VERIFICATION_LINK: Placeholder = always(
    11,
    "verification_link",
    Kind::Link,
    "the link to confirm the email address",
    "https://app.example.com/verify?token=GbQx3Jr0VwPzm5tKc1uHsYdN7aEfLi2oAiTqM4kXZR8",
);
pub(super) const VERIFICATION_CODE: Placeholder =
    always(12, "verification_code", Kind::Code, "the code to confirm the email address", "48201736");
pub(super) const CANCEL_LINK: Placeholder = sometimes(
    13,
    "cancel_link",
    Kind::Link,
    "the link that says \"this was not me\" and makes the request void",
    "https://app.example.com/cancel?token=GbQx3Jr0VwPzm5tKc1uHsYdN7aEfLi2oAiTqM4kXZR8",
);
pub(super) const EXPIRES_AT: Placeholder = sometimes(
    14,
    "expires_at",
    Kind::Time,
    "until when the link, code or password works",
    "23 November 2026 at 14:02 (UTC)",
);
pub(super) const EXPIRES_IN: Placeholder = sometimes(
    15,
    "expires_in",
    Kind::Duration,
    "how long the link, code or password works, from when the email is sent",
    "24 hours",
);
pub(super) const REQUESTED_AT: Placeholder =
    sometimes(16, "requested_at", Kind::Time, "when it was asked for", "22 November 2026 at 14:02 (UTC)");
pub(super) const REQUEST_IP: Placeholder =
    sometimes(17, "request_ip", Kind::Text, "the network address that it was asked from", "203.0.113.24");
pub(super) const REQUESTED_BY_SUPPORT: Placeholder =
    sometimes(18, "requested_by_support", Kind::Flag, "whether support asked for it, rather than the person", "yes");
pub(super) const CHANGED_AT: Placeholder =
    sometimes(19, "changed_at", Kind::Time, "when it happened", "22 November 2026 at 14:02 (UTC)");
pub(super) const CHANGED_BY: Placeholder =
    sometimes(20, "changed_by", Kind::Text, "who did it: \"you\" or \"support\"", "support");
pub(super) const CHANGED_BY_SUPPORT: Placeholder =
    sometimes(21, "changed_by_support", Kind::Flag, "whether support did it, rather than the person", "yes");
pub(super) const INVITED_BY: Placeholder =
    sometimes(22, "invited_by", Kind::PersonalText, "who sent the invitation", "Grace Hopper");
pub(super) const REASON: Placeholder =
    sometimes(23, "reason", Kind::PersonalText, "the reason that was given", "A laptop was lost");
pub(super) const LOCKED_UNTIL: Placeholder =
    sometimes(24, "locked_until", Kind::Time, "when signing in works again", "22 November 2026 at 14:17 (UTC)");
