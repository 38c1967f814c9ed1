//! The effective configuration as text, without secrets.

use std::{collections::BTreeMap, fmt::Write};

use secrecy::{ExposeSecret, SecretString};

use super::{
    Config,
    setting::Setting,
    visit::{Section, Visitor, join},
};

/// What stands for a secret.
const HIDDEN: &str = "[hidden]";

/// One key with its value.
pub(super) struct Entry {
    table: String,
    key: &'static str,
    /// What may be seen; `None` if the key is not set.
    shown: Option<toml::Value>,
    /// To compare by.
    pub(super) exact: SecretString,
}

impl Entry {
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.table, self.key)
    }
}

#[derive(Default)]
pub(super) struct Lister {
    at: Vec<String>,
    entries: Vec<Entry>,
}

impl Lister {
    pub(super) fn of(config: &Config) -> Vec<Entry> {
        let mut lister = Self::default();
        config.clone().visit(&mut lister);
        lister.entries
    }

    fn below<S: Section>(&mut self, key: &str, section: &mut S) {
        self.at.push(key.to_owned());
        section.visit(self);
        self.at.pop();
    }
}

impl Visitor for Lister {
    fn field<T: Setting>(&mut self, key: &'static str, value: &mut T) {
        let shown = value.show();
        let exact = shown.as_ref().map(ToString::to_string).unwrap_or_default().into();
        self.entries.push(Entry { table: join(&self.at), key, shown, exact });
    }

    fn secret_url(&mut self, key: &'static str, value: &mut SecretString) {
        let shown = Some(hide(value.expose_secret()).into());
        self.entries.push(Entry { table: join(&self.at), key, shown, exact: value.clone() });
    }

    fn section<S: Section>(&mut self, key: &'static str, section: &mut S) {
        self.below(key, section);
    }

    fn optional_section<S: Section>(&mut self, key: &'static str, section: &mut Option<S>) {
        if let Some(section) = section {
            self.below(key, section);
        }
    }

    fn named<S: Section>(&mut self, key: &'static str, sections: &mut BTreeMap<String, S>, _: Option<&'static str>) {
        self.at.push(key.to_owned());
        for (name, section) in sections {
            self.below(name, section);
        }
        self.at.pop();
    }
}

impl Config {
    /// The effective configuration as TOML. Each line says in a comment where its value came from; secrets are
    /// hidden, so that the text can be shown to others (but it cannot be used as a configuration then).
    pub fn to_toml(&self) -> String {
        let source = self.source.as_ref().map_or_else(
            || "# no configuration file".to_owned(),
            |path| format!("# configuration file: {}", path.display()),
        );
        let mut text = format!("{source}\n");
        let mut table = String::new();
        for entry in Lister::of(self) {
            if entry.table != table {
                table.clone_from(&entry.table);
                let _ = writeln!(text, "\n[{table}]");
            }
            let _ = match &entry.shown {
                Some(value) => writeln!(text, "{} = {value}  # {}", entry.key, self.origin(&entry)),
                None => writeln!(text, "# {} is not set", entry.key),
            };
        }
        if self.mail.dkim.is_none() {
            text.push_str("\n# [mail.dkim] is not set\n");
        }
        text
    }

    fn origin(&self, entry: &Entry) -> String {
        let path = entry.path();
        if let Some(origin) = self.origins.get(&path) {
            return origin.clone();
        }
        let inherited = format!("sites.default.{}", entry.key);
        if entry.table.starts_with("sites.") && path != inherited && self.origins.contains_key(&inherited) {
            return "from sites.default".to_owned();
        }
        "default".to_owned()
    }
}

/// A URL without its user, password and secret-looking parameters. Works on text, so that a URL that is wrong
/// (a password with a slash in it) does not show more than a right one.
fn hide(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return HIDDEN.to_owned();
    };
    let rest = match rest.rsplit_once('@') {
        Some((_, after)) => format!("{HIDDEN}@{after}"),
        None => rest.to_owned(),
    };
    let Some((start, query)) = rest.split_once('?') else {
        return format!("{scheme}://{rest}");
    };
    let query: Vec<String> = query
        .split('&')
        .map(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            let read = decoded(name).to_lowercase();
            let secret = ["user", "pass", "secret", "token", "key"].iter().any(|word| read.contains(word));
            if secret { format!("{name}={HIDDEN}") } else { pair.to_owned() }
        })
        .collect();
    format!("{scheme}://{start}?{}", query.join("&"))
}

/// A parameter's name as whoever reads the URL understands it: `p%61ssword` is `password`. Once more, should it be read twice.
fn decoded(name: &str) -> String {
    let once = |text: &str| url::form_urlencoded::parse(text.as_bytes()).map(|(name, _)| name.into_owned()).collect();
    let read: String = once(name);
    once(&read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_keep_the_host_and_hide_the_rest() {
        for (url, shown) in [
            ("amqp://guest:pw@127.0.0.1:5672/%2f", "amqp://[hidden]@127.0.0.1:5672/%2f"),
            ("amqp://u:p@ss/w@h:1/v", "amqp://[hidden]@h:1/v"),
            ("smtp://127.0.0.1:25?tls=none", "smtp://127.0.0.1:25?tls=none"),
            (
                "postgres:///db?host=/run&user=me&password=pw&sslmode=require",
                "postgres:///db?host=/run&user=[hidden]&password=[hidden]&sslmode=require",
            ),
            ("postgres://h/db?password=a@b", "postgres://[hidden]@b"),
            ("postgres://h/db?p%61ssword=a&sslmode=require", "postgres://h/db?p%61ssword=[hidden]&sslmode=require"),
            ("postgres://h/db?%50ASS%57ORD=a&p%2561ss=b", "postgres://h/db?%50ASS%57ORD=[hidden]&p%2561ss=[hidden]"),
            ("postgres://%2Frun%2Fpg/db", "postgres://%2Frun%2Fpg/db"),
            ("secret", "[hidden]"),
            ("", "[hidden]"),
        ] {
            assert_eq!(hide(url), shown);
        }
    }
}
