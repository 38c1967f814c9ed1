//! The values of one email: what stands in the database, made ready for people to read.
//!
//! Everything a person may have typed goes through `clean` here, so that no template
//! has to think of it.

use std::fmt;
use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::catalogue::Template;
use super::clean;
use super::placeholder::{Placeholder, SLOTS};
use super::wording::{Language, Style};

/// Longest names and reasons that an email shows, in characters. Longer ones are cut.
const NAME_LENGTH: usize = 80;
const USERNAME_LENGTH: usize = 128;
const ADDRESS_LENGTH: usize = 254;
const REASON_LENGTH: usize = 300;

/// Who did something to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// The person who gets the email.
    You,
    /// Someone with administrative rights, or a system that acts for them.
    Support,
}

/// What a queued email remembers until it is written: plain data without a secret, stored as JSON.
///
/// Fields that an older or newer daemon does not know are passed over, so that queued emails outlive an
/// upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// When the person, or support, asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<DateTime<Utc>>,
    /// Until when the link, the code or the temporary password works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Where the request came from, as the publisher says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_ip: Option<IpAddr>,
    /// Whether support asked, rather than the person.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub requested_by_support: bool,
    /// When it happened: the change, the lock, the sign-out. Without it: when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<DateTime<Utc>>,
    /// Who did it. Without it: support, if support asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_by: Option<Author>,
    /// The name of the person who sent the invitation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invited_by: Option<String>,
    /// The reason that support gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When signing in works again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<DateTime<Utc>>,
}

/// The site that an email speaks for.
#[derive(Clone, Copy, Debug)]
pub struct SiteFacts<'a> {
    /// The name for people.
    pub name: &'a str,
    /// Its public address.
    pub web_url: &'a str,
    /// Where people get help.
    pub support_email: &'a str,
    /// The time zone in which times are written.
    pub timezone: Tz,
}

/// The person whom an email is about. It is written to nobody else.
#[derive(Clone, Copy)]
pub struct Person<'a> {
    /// The name to sign in with.
    pub username: &'a str,
    /// The full name, if known.
    pub display_name: Option<&'a str>,
    /// The address.
    pub email: &'a str,
}

/// What must not be stored: derived anew each time that the email is written.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The template's one-time link: `reset_link`, `invite_link` or `verification_link`.
    pub link: Option<SecretString>,
    /// The link that makes the request void.
    pub cancel_link: Option<SecretString>,
    /// The template's one-time code: `reset_code` or `verification_code`.
    pub code: Option<SecretString>,
}

/// The value of a placeholder. Times stay times until the email is written.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Absent,
    Text(String),
    Flag(bool),
    Time(DateTime<Tz>),
    Duration(TimeDelta),
    Author(Author),
}

impl Value {
    fn text(text: Option<String>) -> Self {
        text.filter(|t| !t.is_empty()).map_or(Self::Absent, Self::Text)
    }

    fn secret(secret: Option<&SecretString>) -> Self {
        Self::text(secret.map(|s| s.expose_secret().to_owned()))
    }

    /// What `{{#if}}` makes of it.
    pub(super) fn is_truthy(&self) -> bool {
        match self {
            Self::Absent => false,
            Self::Text(text) => !text.is_empty(),
            Self::Flag(flag) => *flag,
            Self::Time(_) | Self::Duration(_) | Self::Author(_) => true,
        }
    }

    /// Appends the value as people read it in `language`, each piece through `escape`.
    pub(super) fn write(&self, language: Language, style: Style, out: &mut String, escape: fn(&str, &mut String)) {
        match self {
            Self::Absent => {}
            Self::Text(text) => escape(text, out),
            Self::Flag(flag) => out.push_str(if *flag { "yes" } else { "no" }),
            Self::Time(at) => escape(&language.time(*at, style), out),
            Self::Duration(length) => escape(&language.duration(*length), out),
            Self::Author(author) => escape(language.author(*author), out),
        }
    }
}

/// The values of one email. `Debug` shows the names only: the values are a person's data and secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Context {
    template: Template,
    /// By [`Placeholder::slot`]; none for those that the template does not declare.
    values: [Option<Value>; SLOTS],
}

impl Context {
    /// The value of a placeholder; `None` when the template does not declare it.
    pub(super) fn value(&self, placeholder: &Placeholder) -> Option<&Value> {
        self.values.get(placeholder.slot)?.as_ref()
    }

    /// The value of a placeholder as people read it in English, empty when absent; `None` when the context has no such
    /// name at all.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        let value = self.value(self.template.placeholder(name)?)?;
        let mut text = String::new();
        value.write(Language::English, Style::Full, &mut text, |text, out| out.push_str(text));
        Some(text)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.template.placeholders().map(|placeholder| placeholder.name)).finish()
    }
}

/// Whether a username is one word, as usernames mostly are, and no sentence or URL.
fn is_one_word(username: &str) -> bool {
    !username.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ':'))
}

/// The values of `template`'s placeholders, exactly those that the catalogue declares.
///
/// `email_reference` is what the person may quote to support (see [`email_reference`]); `now` is what
/// durations count from. A secret that the template needs and `secrets` lacks stays absent: rendering
/// then fails and says which, rather than send an email without its link.
#[must_use]
pub fn context(
    template: Template,
    site: &SiteFacts<'_>,
    person: &Person<'_>,
    facts: &Facts,
    secrets: &Secrets,
    email_reference: &str,
    now: DateTime<Utc>,
) -> Context {
    let time = |at: Option<DateTime<Utc>>| at.map_or(Value::Absent, |at| Value::Time(at.with_timezone(&site.timezone)));
    let personal = |text: Option<&str>, length| Value::text(text.map(|t| clean::personal(t, length)));
    // Whoever types the username to sign in must see it as it is: no link in it is broken, but `://`.
    let username = clean::single_line(person.username, USERNAME_LENGTH).replace("://", ": //");
    // What was asked for has been done at once, by whoever asked.
    let changed_by = facts.changed_by.or(facts.requested_by_support.then_some(Author::Support));
    let value = |name: &'static str| match name {
        "app_name" | "site.name" => Value::Text(clean::single_line(site.name, NAME_LENGTH)),
        "web_url" => Value::Text(site.web_url.to_owned()),
        "support_email" => Value::Text(site.support_email.to_owned()),
        "user.username" => Value::text(Some(username.clone())),
        "user.display_name" => match personal(person.display_name, NAME_LENGTH) {
            // Only to greet with, so a link in it may be broken. `first.last` is a name, and so is an address.
            Value::Absent if is_one_word(person.username) => Value::text(Some(username.clone())),
            Value::Absent => personal(Some(person.username), NAME_LENGTH),
            known => known,
        },
        "user.email" => Value::text(Some(clean::single_line(person.email, ADDRESS_LENGTH))),
        "email_reference" => Value::text(Some(clean::single_line(email_reference, NAME_LENGTH))),
        "reset_link" | "invite_link" | "verification_link" => Value::secret(secrets.link.as_ref()),
        "reset_code" | "verification_code" => Value::secret(secrets.code.as_ref()),
        "cancel_link" => Value::secret(secrets.cancel_link.as_ref()),
        "expires_at" => time(facts.expires_at),
        "expires_in" => facts.expires_at.map_or(Value::Absent, |at| Value::Duration(at - now)),
        "requested_at" => time(facts.requested_at),
        "request_ip" => Value::text(facts.request_ip.map(|ip| ip.to_canonical().to_string())),
        "requested_by_support" => Value::Flag(facts.requested_by_support),
        "changed_at" => time(facts.changed_at.or(facts.requested_at)),
        "changed_by" => changed_by.map_or(Value::Absent, Value::Author),
        "changed_by_support" => Value::Flag(changed_by == Some(Author::Support)),
        "invited_by" => personal(facts.invited_by.as_deref(), NAME_LENGTH),
        "reason" => personal(facts.reason.as_deref(), REASON_LENGTH),
        "locked_until" => time(facts.locked_until),
        _ => Value::Absent,
    };
    let mut values = [const { None }; SLOTS];
    for placeholder in template.placeholders() {
        values[placeholder.slot] = Some(value(placeholder.name));
    }
    Context { template, values }
}

/// A short reference to an email, for people to read out to support: `KXVD-TRMQ`. Letters only, so that
/// nobody (and no mail program) takes it for a code, and no vowels, so that it spells no word.
///
/// It takes the random end of a `UUIDv7`: equal references are as good as unheard of within one history.
#[must_use]
pub fn email_reference(email_id: uuid::Uuid) -> String {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let (_, mut random) = email_id.as_u64_pair();
    let mut reference = String::with_capacity(9);
    for place in 0..8 {
        if place == 4 {
            reference.push('-');
        }
        let letter = usize::try_from(random % 20).unwrap_or_default();
        reference.push(char::from(LETTERS[letter]));
        random /= 20;
    }
    reference
}

/// A made-up email of that template, which shows each placeholder as its declared sample.
#[must_use]
pub fn sample(template: Template) -> Context {
    let now = DateTime::from_timestamp(1_795_356_120, 0).unwrap_or_default();
    let secret = |name: &str| template.placeholder(name).map(|p| SecretString::from(p.sample));
    let facts = Facts {
        requested_at: Some(now),
        expires_at: Some(now + TimeDelta::hours(24)),
        request_ip: Some(IpAddr::from([203, 0, 113, 24])),
        requested_by_support: true,
        changed_at: Some(now),
        changed_by: Some(Author::Support),
        invited_by: Some("Grace Hopper".to_owned()),
        reason: Some("A laptop was lost".to_owned()),
        locked_until: Some(now + TimeDelta::minutes(15)),
    };
    let own = template.secret().and_then(secret);
    let secrets = Secrets { link: own.clone(), code: own, cancel_link: secret("cancel_link") };
    let person = Person { username: "ada", display_name: Some("Ada Lovelace"), email: "ada@example.com" };
    context(template, &SAMPLE_SITE, &person, &facts, &secrets, "KXVD-TRMQ", now)
}

/// The site of [`sample`].
pub const SAMPLE_SITE: SiteFacts<'static> = SiteFacts {
    name: "Example",
    web_url: "https://app.example.com",
    support_email: "support@example.com",
    timezone: Tz::UTC,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn person(display_name: Option<&str>) -> Context {
        let person = Person { username: "lea", display_name, email: "lea@example.com" };
        let (facts, secrets) = (Facts::default(), Secrets::default());
        let now = DateTime::from_timestamp(1_795_356_120, 0).unwrap();
        context(Template::SignedOut, &SAMPLE_SITE, &person, &facts, &secrets, "BCDF-GHJK", now)
    }

    #[test]
    fn the_sample_shows_what_the_catalogue_declares() {
        for template in Template::ALL {
            let sample = sample(template);
            for placeholder in template.placeholders() {
                let shown = sample.get(placeholder.name).unwrap();
                assert_eq!(shown, placeholder.sample, "{template}: {}", placeholder.name);
            }
        }
    }

    #[test]
    fn whoever_has_no_name_is_called_by_the_username() {
        for display_name in [None, Some(""), Some(" \t\n"), Some("\u{202e}\u{200b}")] {
            assert_eq!(person(display_name).get("user.display_name").unwrap(), "lea");
        }
    }

    #[test]
    fn a_hostile_name_is_made_harmless() {
        let name = person(Some("Win\r\nBcc: x\u{202e} http://evil.example")).get("user.display_name");
        assert_eq!(name.unwrap(), "Win Bcc: x http: //evil. example");
        let long = person(Some(&"x".repeat(3_000_000))).get("user.display_name").unwrap();
        assert_eq!(long.chars().count(), 80);
    }

    #[test]
    fn a_hostile_username_greets_nobody_with_a_link() {
        let greeted = |username, email| {
            let person = Person { username, display_name: None, email };
            let (facts, secrets) = (Facts::default(), Secrets::default());
            let now = DateTime::from_timestamp(1_795_356_120, 0).unwrap();
            let values = context(Template::SignedOut, &SAMPLE_SITE, &person, &facts, &secrets, "BCDF-GHJK", now);
            (values.get("user.display_name").unwrap(), values.get("user.username").unwrap())
        };
        let hostile = "Alert! restore at www.evil.example/restore";
        let (name, username) = greeted(hostile, "lea@example.com");
        assert_eq!((name.as_str(), username.as_str()), ("Alert! restore at www. evil. example/restore", hostile));
        for plain in ["lea@example.com", "s.ramanujan"] {
            assert_eq!(greeted(plain, "lea@example.com").0, plain);
        }
        assert_eq!(greeted("https://evil.example", "lea@example.com").0, "https: //evil. example");
    }

    #[test]
    fn facts_are_stored_as_short_plain_json_and_survive_other_versions() {
        assert_eq!(serde_json::to_string(&Facts::default()).unwrap(), "{}");
        let newer = r#"{"request_ip":"192.0.2.1","changed_by":"you","something_new":[1]}"#;
        let facts: Facts = serde_json::from_str(newer).unwrap();
        assert_eq!(facts.changed_by, Some(Author::You));
        let again = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&again).unwrap(), facts);
    }

    #[test]
    fn debug_shows_no_value() {
        let shown = format!("{:?}", sample(Template::PasswordResetLink));
        assert!(shown.contains("reset_link") && !shown.contains("token="), "{shown}");
        assert!(!shown.contains("ada"), "{shown}");
    }

    #[test]
    fn a_reference_is_letters_only() {
        for n in [0, 1, 77, u128::MAX, 0x0190_a5c3_77f1_7d3a_b1c2_d3e4_f506_1728] {
            let reference = email_reference(uuid::Uuid::from_u128(n));
            assert_eq!(reference.len(), 9);
            assert!(reference.chars().all(|c| c == '-' || c.is_ascii_uppercase()), "{reference}");
        }
    }
}
