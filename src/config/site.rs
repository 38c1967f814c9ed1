//! `[sites.<name>]`: what differs from one site to another.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use lettre::message::Mailbox;

use super::{
    Problems,
    error::Origins,
    read::check_name,
    url::web_address_fault,
    visit::{Section, Visitor, quote},
};

/// The site that every other one inherits from, and that people without a site belong to.
pub const DEFAULT_SITE: &str = "default";

/// The placeholder for the token in the addresses of a site.
pub const TOKEN: &str = "{token}";

/// `[sites.<name>]`: one site. `[sites.default]` needs the first six keys; others inherit what they leave out.
#[derive(Clone, Debug)]
pub struct Site {
    /// The name that people know, in mails.
    pub name: String,
    /// Where the site is: `https://…`.
    pub web_url: String,
    /// The page that sets a new password; holds `{token}` once.
    pub reset_url: String,
    /// The page that accepts an invitation; holds `{token}` once.
    pub invite_url: String,
    /// The page that verifies an email address; holds `{token}` once.
    pub verify_url: String,
    /// The page for "it was not me"; holds `{token}` once. Default: none, and mails offer none.
    pub cancel_url: Option<String>,
    /// Where people can ask for help.
    pub support_email: String,
    /// The sender. Default: `mail.from`.
    pub from: Option<Mailbox>,
    /// Where answers go. Default: `mail.reply_to`.
    pub reply_to: Option<Mailbox>,
    /// The language of people who have none of their own, such as `de` or `pt-BR`. Default: the templates' own.
    pub locale: Option<String>,
    /// The time zone of times in mails. Default `UTC`.
    pub timezone: Tz,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            name: String::new(),
            web_url: String::new(),
            reset_url: String::new(),
            invite_url: String::new(),
            verify_url: String::new(),
            cancel_url: None,
            support_email: String::new(),
            from: None,
            reply_to: None,
            locale: None,
            timezone: Tz::UTC,
        }
    }
}

impl Section for Site {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("name", &mut self.name);
        visitor.field("web_url", &mut self.web_url);
        visitor.field("reset_url", &mut self.reset_url);
        visitor.field("invite_url", &mut self.invite_url);
        visitor.field("verify_url", &mut self.verify_url);
        visitor.field("cancel_url", &mut self.cancel_url);
        visitor.field("support_email", &mut self.support_email);
        visitor.field("from", &mut self.from);
        visitor.field("reply_to", &mut self.reply_to);
        visitor.field("locale", &mut self.locale);
        visitor.field("timezone", &mut self.timezone);
    }
}

/// Keys that a site cannot be without, and an example of each.
const REQUIRED: [(&str, &str); 6] = [
    ("name", "Example"),
    ("web_url", "https://app.example.com"),
    ("reset_url", "https://app.example.com/reset?token={token}"),
    ("invite_url", "https://app.example.com/invite?token={token}"),
    ("verify_url", "https://app.example.com/verify?token={token}"),
    ("support_email", "support@example.com"),
];

impl Site {
    fn required(&self) -> [&str; 6] {
        [&self.name, &self.web_url, &self.reset_url, &self.invite_url, &self.verify_url, &self.support_email]
    }

    /// Checks what is there. What is missing is a fault only for those who send mail: [`missing`].
    fn validate(&self, site: &str, given: impl Fn(&str) -> bool, problems: &mut Problems) {
        let mut check = |key: &str, good: bool, reason: &dyn Fn() -> String| {
            // A fault that is inherited is said once, of the default site.
            if given(key) && !good {
                problems.wrong(&format!("sites.{}.{key}", quote(site)), reason());
            }
        };
        for (key, value) in REQUIRED.map(|(key, _)| key).into_iter().zip(self.required()) {
            check(key, !value.is_empty(), &|| format!("{value:?} is empty"));
        }
        let fault = if self.web_url.contains(TOKEN) {
            Some("holds {token}, which only the addresses of pages have")
        } else {
            web_address_fault(&self.web_url)
        };
        check("web_url", self.web_url.is_empty() || fault.is_none(), &|| {
            format!("{:?} {}; write it as {:?}", self.web_url, fault.unwrap_or_default(), REQUIRED[1].1)
        });
        let links = [
            ("reset_url", Some(&self.reset_url)),
            ("invite_url", Some(&self.invite_url)),
            ("verify_url", Some(&self.verify_url)),
            ("cancel_url", self.cancel_url.as_ref()),
        ];
        for (key, link) in links {
            let fault = link.filter(|link| !link.is_empty()).and_then(|link| link_fault(link));
            check(key, fault.is_none(), &|| {
                let page = key.trim_end_matches("_url");
                let link = link.map_or("", String::as_str);
                format!(
                    "{link:?} {}; write it as \"https://app.example.com/{page}?token={TOKEN}\"",
                    fault.unwrap_or_default()
                )
            });
        }
        let address = self.support_email.is_empty() || self.support_email.parse::<lettre::Address>().is_ok();
        check("support_email", address, &|| {
            format!("{:?} is not an email address; write one such as {:?}", self.support_email, REQUIRED[5].1)
        });
        if let Some(locale) = &self.locale {
            check("locale", is_locale(locale), &|| {
                format!(r#"{locale:?} is not a language tag; write one such as "de" or "pt-BR""#)
            });
        }
    }
}

fn link_fault(link: &str) -> Option<&'static str> {
    match link.matches(TOKEN).count() {
        0 => return Some("does not hold {token}"),
        1 => {}
        _ => return Some("holds {token} more than once"),
    }
    let filled = link.replace(TOKEN, "t");
    if let Some(fault) = web_address_fault(&filled) {
        return Some(fault);
    }
    // The host must not depend on the token: a link would lead anywhere, and be sent to name servers.
    let after_host = link.split_once("://").map_or(link, |(_, rest)| rest).find(['/', '?', '#']);
    let token = link.split_once("://").and_then(|(_, rest)| rest.find(TOKEN));
    (after_host.is_none() || token < after_host).then_some("holds {token} before the path")
}

/// The shape of a BCP 47 tag; which languages there are, the templates say.
fn is_locale(tag: &str) -> bool {
    let mut parts = tag.split(['-', '_']);
    parts
        .next()
        .is_some_and(|language| (2..=3).contains(&language.len()) && language.chars().all(|c| c.is_ascii_alphabetic()))
        && parts.all(|part| (1..=8).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric()))
}

pub(super) fn validate(sites: &BTreeMap<String, Site>, problems: &mut Problems) {
    for (name, site) in sites {
        check_name("sites", name, problems);
        // A site's name is a directory's too: sites/<site>/<template>.
        let plain = name.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c)) && !name.starts_with('.');
        if !plain {
            problems.say(format!(
                "[sites.{}]: the name of a site is a directory's name too; use letters, digits, _ . - and no dot at the start",
                quote(name)
            ));
        }
        let given: Origins = problems.origins.clone();
        site.validate(name, |key| given.contains_key(&format!("sites.{}.{key}", quote(name))), problems);
    }
}

/// Reports what mails need and the default site does not have.
pub(super) fn missing(sites: &BTreeMap<String, Site>, problems: &mut Problems) {
    let default = sites.get(DEFAULT_SITE).cloned().unwrap_or_default();
    let missing: Vec<(&str, &str)> = REQUIRED
        .into_iter()
        .zip(default.required())
        .filter(|(_, value)| value.is_empty())
        .map(|(required, _)| required)
        .collect();
    if missing.len() == REQUIRED.len() {
        let keys = REQUIRED.map(|(key, example)| format!("\n      {key} = \"{example}\""));
        problems.say(format!(
            "no site is configured, so mails would have no links. Write, with your own addresses:\n\n      [sites.default]{}\n",
            keys.concat()
        ));
        return;
    }
    for (key, example) in missing {
        problems.say(format!(
            "`sites.default.{key}` is missing; write, for example, {key} = \"{example}\" below [sites.default]"
        ));
    }
}
