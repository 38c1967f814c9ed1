//! The effective configuration as text, without secrets; and what changed between two.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use secrecy::{ExposeSecret, SecretString};

use super::{
    Config,
    setting::Setting,
    visit::{Section, Visitor, join},
};

/// What stands for a secret.
const HIDDEN: &str = "[hidden]";

/// Keys, or tables of keys, that are looked at once, at the start.
const NEEDS_RESTART: &[&str] = &[
    "broker",
    "database",
    "mail.transport",
    "mail.smtp",
    "mail.file",
    "mail.dkim",
    "http",
    "keys",
    "templates",
    "password.hashing",
    "log",
];

/// One key with its value.
struct Entry {
    table: String,
    key: &'static str,
    /// What may be seen; `None` if the key is not set.
    shown: Option<toml::Value>,
    /// To compare by.
    exact: SecretString,
}

impl Entry {
    fn path(&self) -> String {
        format!("{}.{}", self.table, self.key)
    }
}

#[derive(Default)]
struct Lister {
    at: Vec<String>,
    entries: Vec<Entry>,
}

impl Lister {
    fn of(config: &Config) -> Vec<Entry> {
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

/// The keys that differ between two configurations but take effect only in a new process, by path.
pub fn restart_needed(old: &Config, new: &Config) -> Vec<String> {
    let by_path = |config| -> BTreeMap<String, Entry> {
        Lister::of(config).into_iter().map(|entry| (entry.path(), entry)).collect()
    };
    let (old, new) = (by_path(old), by_path(new));
    let exact = |entries: &BTreeMap<String, Entry>, path: &str| {
        entries.get(path).map(|entry| entry.exact.expose_secret().to_owned())
    };
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    paths
        .into_iter()
        .filter(|path| {
            NEEDS_RESTART
                .iter()
                .any(|start| path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
        })
        .filter(|path| exact(&old, path) != exact(&new, path))
        .cloned()
        .collect()
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
            let secret =
                ["user", "pass", "secret", "token", "key"].iter().any(|word| name.to_lowercase().contains(word));
            if secret { format!("{name}={HIDDEN}") } else { pair.to_owned() }
        })
        .collect();
    format!("{scheme}://{start}?{}", query.join("&"))
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
            ("postgres://%2Frun%2Fpg/db", "postgres://%2Frun%2Fpg/db"),
            ("secret", "[hidden]"),
            ("", "[hidden]"),
        ] {
            assert_eq!(hide(url), shown);
        }
    }

    #[test]
    fn only_some_changes_need_a_restart() {
        let old = Config::default();
        let mut new = old.clone();
        new.login.max_failures = 3;
        new.mail.allow_forward = true;
        assert!(restart_needed(&old, &new).is_empty());
        new.broker.url = "amqp://guest:other@127.0.0.1:5672/%2f".into();
        new.keys.file = "other.keys".into();
        new.mail.dkim = Some(crate::config::Dkim::default());
        assert_eq!(
            restart_needed(&old, &new),
            ["broker.url", "keys.file", "mail.dkim.domain", "mail.dkim.key_file", "mail.dkim.selector"]
        );
    }
}
