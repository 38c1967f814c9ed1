//! What a reload takes over, and what only a new process does.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::ExposeSecret;

use super::Config;
use super::show::{Entry, Lister};

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

impl Config {
    /// What is in force after a reload: the new configuration, with the old values of all that needs a restart.
    #[must_use]
    pub fn reloaded(&self, mut new: Self) -> Self {
        let old = self.clone();
        new.broker = old.broker;
        new.database = old.database;
        new.http = old.http;
        new.keys = old.keys;
        new.templates = old.templates;
        new.log = old.log;
        new.mail.transport = old.mail.transport;
        new.mail.smtp = old.mail.smtp;
        new.mail.file = old.mail.file;
        new.mail.dkim = old.mail.dkim;
        new.password.hashing = old.password.hashing;
        new
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
        .filter(|path| needs_restart(path))
        .filter(|path| exact(&old, path) != exact(&new, path))
        .cloned()
        .collect()
}

fn needs_restart(path: &str) -> bool {
    NEEDS_RESTART
        .iter()
        .any(|start| path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::super::setting::{Raw, Setting};
    use super::super::visit::{Section, Visitor};
    use super::*;

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

    /// Gives every key another value, and every table that may be left out a place.
    struct Changer;

    impl Visitor for Changer {
        fn field<T: Setting>(&mut self, key: &'static str, value: &mut T) {
            const VALUES: [Raw<'_>; 12] = [
                Raw::Boolean(true),
                Raw::Boolean(false),
                Raw::Integer(3),
                Raw::Integer(4),
                Raw::Environment("77s"),
                Raw::Environment("http://127.0.0.1:7777"),
                Raw::Environment("127.0.0.1:7777"),
                Raw::Environment("Europe/Lisbon"),
                Raw::Environment("Somebody <somebody@example.com>"),
                // Words of which a key may have one.
                Raw::Environment("code"),
                Raw::Environment("file"),
                Raw::Environment("json"),
            ];
            let more = [Raw::Environment("debug"), Raw::Environment("site"), Raw::Environment("something")];
            let before = value.show();
            let others = VALUES.into_iter().chain(more).filter_map(|raw| T::read(raw).ok());
            *value = others
                .into_iter()
                .find(|other| other.show() != before)
                .unwrap_or_else(|| panic!("`{key}`: add a value of its kind to this list"));
        }

        fn secret_url(&mut self, _: &'static str, value: &mut SecretString) {
            *value = "amqp://changed".into();
        }

        fn section<S: Section>(&mut self, _: &'static str, section: &mut S) {
            section.visit(self);
        }

        fn optional_section<S: Section>(&mut self, _: &'static str, section: &mut Option<S>) {
            section.get_or_insert_default().visit(self);
        }

        fn named<S: Section>(&mut self, _: &'static str, sections: &mut BTreeMap<String, S>, _: Option<&'static str>) {
            sections.entry("new".to_owned()).or_default();
            for section in sections.values_mut() {
                section.visit(self);
            }
        }
    }

    fn values(config: &Config) -> BTreeMap<String, String> {
        let entries = Lister::of(config).into_iter();
        entries.map(|entry| (entry.path(), entry.exact.expose_secret().to_owned())).collect()
    }

    #[test]
    fn a_reload_takes_over_every_key_but_those_that_it_says_need_a_restart() {
        let old = Config::default();
        let mut new = old.clone();
        new.visit(&mut Changer);
        let reloaded = old.reloaded(new.clone());
        assert!(restart_needed(&old, &reloaded).is_empty(), "said to be kept, and taken over");
        let (old, new, reloaded) = (values(&old), values(&new), values(&reloaded));
        for (path, value) in &new {
            assert_ne!(old.get(path), Some(value), "{path} was not changed: nothing was tried");
            let expected = if needs_restart(path) { old.get(path) } else { Some(value) };
            assert_eq!(reloaded.get(path), expected, "{path}");
        }
    }
}
