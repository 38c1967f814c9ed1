//! One list of keys a section, used for everything: reading, showing, comparing, suggesting.
//!
//! Each section names its keys once, in [`Section::visit`]. A [`Visitor`] then reads them (`read.rs`), shows
//! them (`show.rs`) or just notes that they exist ([`Schema`]), so that no key can be forgotten in one of the three.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::setting::Setting;

/// A table of the configuration: `Default` gives the built-in values, `visit` names the keys.
pub(crate) trait Section: Clone + Default {
    /// Shows each key to `visitor`: plain keys first, then the tables below (TOML wants this order).
    fn visit<V: Visitor>(&mut self, visitor: &mut V);
}

/// What can be done with every key.
pub(crate) trait Visitor {
    /// A plain key.
    fn field<T: Setting>(&mut self, key: &'static str, value: &mut T);
    /// A secret URL, which may also come from the file that `<key>_file` names.
    fn secret_url(&mut self, key: &'static str, value: &mut SecretString);
    /// A table that is always there.
    fn section<S: Section>(&mut self, key: &'static str, section: &mut S);
    /// A table that may be left out.
    fn optional_section<S: Section>(&mut self, key: &'static str, section: &mut Option<S>);
    /// Tables under names of the operator's choice. Each starts as a copy of the one named `base`, if any.
    fn named<S: Section>(&mut self, key: &'static str, sections: &mut BTreeMap<String, S>, base: Option<&'static str>);
}

/// The name in a schema path that stands for a name of the operator's choice.
pub(crate) const ANY_NAME: &str = "*";

/// Notes every key and table there is, as paths; a free name is [`ANY_NAME`].
#[derive(Debug, Default)]
pub(crate) struct Schema {
    at: Vec<String>,
    /// Paths of all keys.
    pub(crate) keys: Vec<Vec<String>>,
    /// Paths of all tables.
    pub(crate) tables: Vec<Vec<String>>,
}

impl Schema {
    /// Every key of `S`.
    pub(crate) fn of<S: Section>() -> Self {
        let mut schema = Self::default();
        S::default().visit(&mut schema);
        schema
    }

    fn path(&self, key: &str) -> Vec<String> {
        let mut path = self.at.clone();
        path.push(key.to_owned());
        path
    }

    fn below<S: Section>(&mut self, key: &str) {
        self.tables.push(self.path(key));
        self.at.push(key.to_owned());
        S::default().visit(self);
        self.at.pop();
    }
}

impl Visitor for Schema {
    fn field<T: Setting>(&mut self, key: &'static str, _: &mut T) {
        self.keys.push(self.path(key));
    }

    fn secret_url(&mut self, key: &'static str, _: &mut SecretString) {
        self.keys.push(self.path(key));
        self.keys.push(self.path(&format!("{key}_file")));
    }

    fn section<S: Section>(&mut self, key: &'static str, _: &mut S) {
        self.below::<S>(key);
    }

    fn optional_section<S: Section>(&mut self, key: &'static str, _: &mut Option<S>) {
        self.below::<S>(key);
    }

    fn named<S: Section>(&mut self, key: &'static str, _: &mut BTreeMap<String, S>, _: Option<&'static str>) {
        self.tables.push(self.path(key));
        self.at.push(key.to_owned());
        self.below::<S>(ANY_NAME);
        self.at.pop();
    }
}

/// A path as it is written in TOML: names that are no bare keys stand in quotes (`publishers."*".commands`).
pub(crate) fn join(path: &[impl AsRef<str>]) -> String {
    let quoted: Vec<String> = path.iter().map(|name| quote(name.as_ref())).collect();
    quoted.join(".")
}

/// One name of a path, quoted if TOML needs that.
pub(crate) fn quote(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { name.to_owned() } else { toml::Value::from(name).to_string() }
}
