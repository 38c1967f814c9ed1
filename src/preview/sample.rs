//! Made-up emails: sample people in sample situations, with the sites and lifetimes of the configuration.
//!
//! Nothing here is anybody's: links and codes are invented, and open nothing.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::config::{Config, DEFAULT_SITE, Site, TOKEN};
use crate::mail::context::{Author, SAMPLE_SITE, email_reference};
use crate::mail::message::{self, BuildError, Built, dkim::Dkim};
use crate::mail::{Context, Facts, Person, Rendered, Secrets, SiteFacts, Template, context};
use crate::spelling;

/// A token that opens nothing, as long as a real one, so that links wrap where they would.
const SAMPLE_TOKEN: &str = "sample-link-that-opens-nothing-0GbQx3Jr0VwPzm5tKc1uHsYdN7aEfLi2o";
const SAMPLE_CODE: &str = "4820173659";

/// A made-up person: the usual case, and those at which layouts break.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Who {
    /// A short, common name.
    #[default]
    Usual,
    /// A person whose full name is not known.
    NoName,
    /// Everything as long as it can be, without a blank to break the line at.
    LongNames,
    /// A name that is written from right to left.
    RightToLeft,
    /// A Chinese name, which other fonts show.
    Japanese,
    /// A name with markup and a web address in it.
    Markup,
}

impl Who {
    /// Everyone, the usual case first.
    pub const ALL: [Self; 6] =
        [Self::Usual, Self::NoName, Self::LongNames, Self::RightToLeft, Self::Japanese, Self::Markup];

    /// The name in addresses of the page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::NoName => "no-name",
            Self::LongNames => "long-names",
            Self::RightToLeft => "right-to-left",
            Self::Japanese => "japanese",
            Self::Markup => "markup",
        }
    }

    /// The name that people read in a list.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Usual => "Ada Lovelace",
            Self::NoName => "No display name",
            Self::LongNames => "Very long names",
            Self::RightToLeft => "Right-to-left name",
            Self::Japanese => "Japanese name",
            Self::Markup => "Markup in the name",
        }
    }

    const fn person(self) -> Person<'static> {
        let (username, display_name, email) = match self {
            Self::Usual => ("ada", Some("Ada Lovelace"), "ada@example.com"),
            Self::NoName => ("s.ramanujan", None, "s.ramanujan@example.com"),
            Self::LongNames => (
                "wolfeschlegelsteinhausenbergerdorff-senior-external-contractor-0042",
                Some("Hubert Blaine Wolfeschlegelsteinhausenbergerdorffwelchevoralternwarengewissenhaft Sr."),
                "hubert.blaine.wolfeschlegelsteinhausenbergerdorff@a-department-with-a-long-name.example.com",
            ),
            Self::RightToLeft => ("yael.cohen", Some("יעל כהן־לוי"), "yael.cohen@example.com"),
            Self::Japanese => ("yamada.hanako", Some("山田 花子"), "yamada.hanako@example.com"),
            Self::Markup => ("<b>bobby</b>", Some("<b>Bobby</b> & \"Sons\" http://evil.example"), "bobby@example.com"),
        };
        Person { username, display_name, email }
    }
}

/// What has happened: each shows other branches of the templates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Situation {
    /// The person has asked for it, and everything is known.
    #[default]
    Person,
    /// Support did it for them.
    Support,
    /// Every value that may be missing is.
    Bare,
}

impl Situation {
    /// Every situation, the usual one first.
    pub const ALL: [Self; 3] = [Self::Person, Self::Support, Self::Bare];

    /// The name in addresses of the page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Support => "support",
            Self::Bare => "bare",
        }
    }

    /// The name that people read in a list.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Person => "The person did it",
            Self::Support => "Support did it",
            Self::Bare => "Only what is always known",
        }
    }
}

/// What is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The email.
    pub template: Template,
    /// The site's name in the configuration.
    pub site: String,
    /// The person's language; without one, the site's.
    pub locale: Option<String>,
    /// The recipient.
    pub who: Who,
    /// The situation that the email is about.
    pub situation: Situation,
}

impl Choice {
    /// The usual sample of an email.
    #[must_use]
    pub fn of(template: Template) -> Self {
        Self {
            template,
            site: DEFAULT_SITE.to_owned(),
            locale: None,
            who: Who::default(),
            situation: Situation::default(),
        }
    }

    /// The language that is looked up, as the daemon would.
    #[must_use]
    pub fn language(&self, config: &Config) -> Option<String> {
        self.locale.clone().or_else(|| site(config, &self.site).locale)
    }

    /// The values of the placeholders at the moment `now`. `to` replaces the sample person's address.
    #[must_use]
    pub fn values(&self, config: &Config, to: Option<&str>, now: DateTime<Utc>) -> Context {
        let site = site(config, &self.site);
        let person = self.who.person();
        let person = Person { email: to.unwrap_or(person.email), ..person };
        let facts = SiteFacts {
            name: &site.name,
            web_url: &site.web_url,
            support_email: &site.support_email,
            timezone: site.timezone,
        };
        let reference = email_reference(uuid::Uuid::from_u128(0x0190_a5c3_77f1_7d3a_b1c2_d3e4_f506_1728));
        context(self.template, &facts, &person, &self.facts(config, now), &self.secrets(config, &site), &reference, now)
    }

    /// The message as it would be sent at the moment `now`.
    ///
    /// # Errors
    /// [`BuildError`], if an address cannot be written to or from.
    pub fn message(&self, config: &Config, rendered: &Rendered, envelope: &Envelope<'_>) -> Result<Built, BuildError> {
        let site = site(config, &self.site);
        let person = self.who.person();
        let parts = message::Parts {
            id: envelope.id,
            date: envelope.date,
            from: site.from.as_ref().unwrap_or(&config.mail.from),
            reply_to: site.reply_to.as_ref().or(config.mail.reply_to.as_ref()),
            to_name: person.display_name,
            to_address: envelope.to.unwrap_or(person.email),
            subject: &rendered.subject,
            text: &rendered.text,
            html: &rendered.html,
        };
        message::build(&parts, envelope.dkim)
    }

    fn facts(&self, config: &Config, now: DateTime<Utc>) -> Facts {
        if self.situation == Situation::Bare {
            return Facts::default();
        }
        let lifetime = match self.template {
            Template::PasswordResetCode => config.password_reset.code_lifetime,
            Template::Invite => config.invite.lifetime,
            Template::EmailVerificationLink => config.verification.lifetime,
            Template::EmailVerificationCode => config.verification.code_lifetime,
            Template::TemporaryPasswordIssued => config.temporary_password.lifetime,
            _ => config.password_reset.lifetime,
        };
        let after = |length| now + TimeDelta::from_std(length).unwrap_or_default();
        let by_support = self.situation == Situation::Support;
        Facts {
            requested_at: Some(now),
            expires_at: Some(after(lifetime)),
            request_ip: Some([203, 0, 113, 24].into()),
            requested_by_support: by_support,
            changed_at: Some(now),
            changed_by: Some(if by_support { Author::Support } else { Author::You }),
            invited_by: Some("Grace Hopper".to_owned()),
            reason: by_support.then(|| "A laptop was lost".to_owned()),
            locked_until: Some(after(config.login.lockout)),
        }
    }

    fn secrets(&self, config: &Config, site: &Site) -> Secrets {
        let filled = |url: &str| Some(url.replace(TOKEN, SAMPLE_TOKEN).into());
        let link = match self.template.secret() {
            Some("invite_link") => &site.invite_url,
            Some("verification_link") => &site.verify_url,
            _ => &site.reset_url,
        };
        let length = usize::from(config.password_reset.code_length).min(SAMPLE_CODE.len());
        let cancel = site.cancel_url.as_deref().filter(|_| self.situation != Situation::Bare);
        Secrets { link: filled(link), cancel_link: cancel.and_then(filled), code: Some(SAMPLE_CODE[..length].into()) }
    }
}

/// What a message needs beside its texts.
pub struct Envelope<'a> {
    /// The email's id.
    pub id: uuid::Uuid,
    /// The `Date`.
    pub date: DateTime<Utc>,
    /// The recipient, if not the sample person.
    pub to: Option<&'a str>,
    /// The signature's key, if mails are signed.
    pub dkim: Option<&'a Dkim>,
}

impl fmt::Debug for Envelope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The site, or the default one; where the configuration says nothing, samples.
#[must_use]
pub fn site(config: &Config, name: &str) -> Site {
    let configured = config.sites.get(name).or_else(|| config.sites.get(DEFAULT_SITE));
    let mut site = configured.cloned().unwrap_or_default();
    // Nothing is configured yet: then an email shows all that it could.
    if site.reset_url.is_empty() && site.cancel_url.is_none() {
        site.cancel_url = Some(page("cancel"));
    }
    let fill = |value: &mut String, sample: String| {
        if value.is_empty() {
            *value = sample;
        }
    };
    fill(&mut site.name, SAMPLE_SITE.name.to_owned());
    fill(&mut site.web_url, SAMPLE_SITE.web_url.to_owned());
    fill(&mut site.support_email, SAMPLE_SITE.support_email.to_owned());
    fill(&mut site.reset_url, page("reset"));
    fill(&mut site.invite_url, page("invite"));
    fill(&mut site.verify_url, page("verify"));
    site
}

fn page(name: &str) -> String {
    format!("{}/{name}?token={TOKEN}", SAMPLE_SITE.web_url)
}

/// The error for a name that is not on a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} `{given}`; {known}")]
pub struct Unknown {
    /// The kind of thing that was asked for.
    pub what: &'static str,
    /// The unknown name.
    pub given: String,
    /// The known names, in words: first the one that was probably meant.
    pub known: String,
}

impl Unknown {
    /// Names what there is.
    pub fn new<'a>(what: &'static str, given: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<_> = known.into_iter().collect();
        Self { what, given: given.to_owned(), known: spelling::choice(given, &known) }
    }
}

impl FromStr for Who {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        let found = Self::ALL.into_iter().find(|who| who.as_str() == name);
        found.ok_or_else(|| Unknown::new("sample person", name, Self::ALL.map(Self::as_str)))
    }
}

impl FromStr for Situation {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        let found = Self::ALL.into_iter().find(|situation| situation.as_str() == name);
        found.ok_or_else(|| Unknown::new("situation", name, Self::ALL.map(Self::as_str)))
    }
}

/// One entry of a list to choose from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The name in addresses of the page.
    pub id: String,
    /// The name that people read.
    pub label: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_356_120, 0).unwrap()
    }

    #[test]
    fn every_value_is_there_but_in_the_bare_situation() {
        let config = Config::default();
        for template in Template::ALL {
            for who in Who::ALL {
                let choice = Choice { who, situation: Situation::Support, ..Choice::of(template) };
                let values = choice.values(&config, None, now());
                for placeholder in template.placeholders() {
                    assert_ne!(values.get(placeholder.name).unwrap(), "", "{template}: {}", placeholder.name);
                }
            }
            let bare = Choice { situation: Situation::Bare, ..Choice::of(template) };
            let values = bare.values(&config, None, now());
            for placeholder in template.placeholders() {
                let absent = values.get(placeholder.name).unwrap().is_empty();
                let flag = placeholder.kind == crate::mail::placeholder::Kind::Flag;
                assert_eq!(absent, placeholder.may_be_absent && !flag, "{template}: {}", placeholder.name);
            }
        }
    }

    #[test]
    fn links_and_lifetimes_are_the_configured_ones_and_tokens_are_made_up() {
        let mut config = Config::default();
        let site = config.sites.get_mut(DEFAULT_SITE).unwrap();
        site.reset_url = "https://accounts.test/r/{token}".to_owned();
        config.password_reset.lifetime = std::time::Duration::from_secs(45 * 60);
        config.password_reset.code_length = 6;
        let shown = |template, name| Choice::of(template).values(&config, None, now()).get(name).unwrap();
        assert_eq!(shown(Template::PasswordResetLink, "reset_link"), format!("https://accounts.test/r/{SAMPLE_TOKEN}"));
        assert_eq!(shown(Template::PasswordResetLink, "expires_in"), "45 minutes");
        // The site has no such page.
        assert_eq!(shown(Template::PasswordResetLink, "cancel_link"), "");
        assert_eq!(shown(Template::PasswordResetCode, "reset_code"), "482017");
        assert_eq!(SAMPLE_TOKEN.len(), crate::keys::TOKEN_LENGTH);
    }

    #[test]
    fn names_go_there_and_back_and_unknown_ones_are_told() {
        for who in Who::ALL {
            assert_eq!(who.as_str().parse(), Ok(who));
        }
        for situation in Situation::ALL {
            assert_eq!(situation.as_str().parse(), Ok(situation));
        }
        let error = "nobody".parse::<Who>().unwrap_err().to_string();
        assert!(error.contains("`nobody`") && error.contains("right-to-left"), "{error}");
    }
}
