//! What the page is told: JSON about the templates, and about one email.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::config::DEFAULT_SITE;
use crate::mail::locate::{Part, Variant};
use crate::mail::message::Built;
use crate::mail::{Problem, Rendered, Template};

use super::sample::{self, Choice, Entry, Envelope, Situation, Unknown, Who};
use super::studio::{Snapshot, Standing, Studio};

/// The moment of all samples: always the same, so that only what was edited changes.
fn moment() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_356_120, 0).unwrap_or_default()
}

/// The query parameters of one request.
pub type Asked = BTreeMap<String, String>;

/// Reads a choice from an address: `template`, and if they are there `site`, `locale`, `person`, `situation`.
pub fn choice(asked: &Asked, template: &str, snapshot: &Snapshot) -> Result<Choice, Unknown> {
    let get = |key: &str| asked.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let site = get("site").unwrap_or(DEFAULT_SITE);
    if !snapshot.sites.iter().any(|known| known == site) {
        return Err(Unknown::new("site", site, snapshot.sites.iter().map(String::as_str)));
    }
    Ok(Choice {
        template: template
            .parse()
            .map_err(|_| Unknown::new("email template", template, Template::ALL.map(Template::as_str)))?,
        site: site.to_owned(),
        locale: get("locale").map(str::to_owned),
        who: get("person").map(str::parse).transpose()?.unwrap_or_default(),
        situation: get("situation").map(str::parse).transpose()?.unwrap_or_default(),
    })
}

/// Everything that there is to choose from, and every template as the chosen site and language have it.
pub fn overview(studio: &Studio, snapshot: &Snapshot, asked: &Asked) -> Result<Value, Unknown> {
    let mut templates = Vec::new();
    for template in Template::ALL {
        let choice = choice(asked, template.as_str(), snapshot)?;
        let email = Email::new(studio, snapshot, choice);
        templates.push(json!({
            "name": template,
            "title": title(template),
            "about": template.about(),
            "subject": email.rendered.as_ref().ok().map(|rendered| &rendered.subject),
            "standing": email.standing,
            "enabled": email.enabled,
            "awaited": template.is_awaited(),
            "problems": snapshot.problems_of(&email.variant).count(),
        }));
    }
    let entry = |id: &str, label: &str| Entry { id: id.to_owned(), label: label.to_owned() };
    let sites: Vec<Value> = snapshot
        .sites
        .iter()
        .map(|name| {
            let site = sample::site(&studio.config, name);
            json!({ "id": name, "label": site.name, "locale": site.locale })
        })
        .collect();
    Ok(json!({
        "directory": studio.config.templates.directory,
        "configuration": studio.config.source,
        "unreadable": snapshot.unreadable,
        "sites": sites,
        "locales": snapshot.locales(),
        "people": Who::ALL.map(|who| entry(who.as_str(), who.label())),
        "situations": Situation::ALL.map(|situation| entry(situation.as_str(), situation.label())),
        "templates": templates,
        "problems": snapshot.problems,
    }))
}

/// One email as it is shown.
pub struct Email<'a> {
    studio: &'a Studio,
    snapshot: &'a Snapshot,
    choice: Choice,
    variant: Variant,
    standing: Standing,
    enabled: bool,
    /// Or why there is nothing to show.
    pub rendered: Result<Rendered, String>,
}

impl<'a> Email<'a> {
    /// Renders it.
    pub fn new(studio: &'a Studio, snapshot: &'a Snapshot, choice: Choice) -> Self {
        let language = choice.language(&studio.config);
        let (template, site, locale) = (choice.template, choice.site.as_str(), language.as_deref());
        let variant = snapshot.set.serving(template, site, locale);
        let values = choice.values(&studio.config, None, moment());
        let rendered = snapshot.set.render(template, site, locale, &values).map_err(|e| e.to_string());
        let (standing, enabled) = (snapshot.standing(&variant), snapshot.set.enabled(template, site, locale));
        Self { studio, snapshot, choice, variant, standing, enabled, rendered }
    }

    /// The message as it would be sent, but for a signature: that would need a real key.
    pub fn message(&self) -> Result<Built, String> {
        let rendered = self.rendered.as_ref().map_err(Clone::clone)?;
        let envelope = Envelope { id: uuid::Uuid::from_u128(1), date: moment(), to: None, dkim: None };
        self.choice.message(&self.studio.config, rendered, &envelope).map_err(|e| e.to_string())
    }

    /// What a downloaded message is called: `invite-north-de`.
    pub fn file_name(&self) -> String {
        let Choice { template, site, .. } = &self.choice;
        let locale = self.choice.language(&self.studio.config);
        let parts = [Some(template.as_str()), Some(site.as_str()), locale.as_deref()];
        let name: Vec<&str> = parts.into_iter().flatten().collect();
        name.join("-").replace(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_', "_")
    }

    /// All that the page shows of it.
    pub fn json(&self) -> Value {
        let message = self.message();
        let shown = match (&self.rendered, &message) {
            (Ok(rendered), Ok(message)) => json!({
                "subject": rendered.subject,
                "subject_length": rendered.subject.chars().count(),
                "text": rendered.text,
                "html": rendered.html,
                "size": message.bytes.len(),
                "headers": headers(&message.bytes),
            }),
            (Err(reason), _) | (_, Err(reason)) => json!({ "reason": reason }),
        };
        let template = self.choice.template;
        let problems: Vec<&Problem> = self.snapshot.problems_of(&self.variant).collect();
        let files: Vec<Value> = self.snapshot.files_of(&self.variant).iter().map(|file| self.file(file)).collect();
        let values = self.choice.values(&self.studio.config, None, moment());
        let placeholders: Vec<Value> = template
            .placeholders()
            .map(|p| {
                json!({
                    "name": p.name,
                    "kind": p.kind.as_str(),
                    "about": p.about,
                    "value": values.get(p.name),
                    "required": template.required().contains(&p.name),
                    "may_be_absent": p.may_be_absent,
                })
            })
            .collect();
        json!({
            "template": template,
            "title": title(template),
            "about": template.about(),
            "description": self.snapshot.set.description(template),
            "variant": self.variant,
            "site": sample::site(&self.studio.config, &self.choice.site).name,
            "from": self.sender(),
            "standing": self.standing,
            "enabled": self.enabled,
            "awaited": template.is_awaited(),
            "shown": shown,
            "problems": problems,
            "files": files,
            "placeholders": placeholders,
        })
    }

    fn sender(&self) -> Value {
        let site = sample::site(&self.studio.config, &self.choice.site);
        let from = site.from.as_ref().unwrap_or(&self.studio.config.mail.from);
        json!({ "name": from.name, "address": from.email.to_string() })
    }

    fn file(&self, file: &Path) -> Value {
        let part = self.snapshot.files.iter().find(|source| source.file == file).map(|source| source.part);
        let label = match part {
            Some(Part::Subject) => "Subject",
            Some(Part::Text) => "Plain text",
            Some(Part::Html) => "HTML",
            Some(Part::Settings) => "Settings",
            None => "Shared piece",
        };
        json!({ "path": file, "label": label, "text": self.studio.text(file) })
    }
}

/// The headers of a message, each on one line.
fn headers(message: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(message);
    let head = text.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", " ");
    head.split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// The name for people: `Password reset link`.
fn title(template: Template) -> String {
    let mut words = template.as_str().replace('_', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_headers_are_one_line() {
        let message = b"Subject: one\r\n two\r\nX: y:z\r\n\r\nBody: no\r\n";
        let expected = [("Subject", "one two"), ("X", "y:z")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(headers(message), expected);
    }

    #[test]
    fn titles_are_words() {
        assert_eq!(title(Template::PasswordResetLink), "Password reset link");
    }
}
