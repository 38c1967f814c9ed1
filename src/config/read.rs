//! Reads merged layers into the sections, noting everything that is wrong.

use std::{collections::BTreeMap, fs, path::PathBuf};

use config::{Map, Value, ValueKind};
use secrecy::SecretString;

use super::{
    error::{Problems, place},
    layers,
    setting::{Raw, Setting},
    visit::{Section, Visitor, join, quote},
};

/// Stands at one table and fills the section that belongs to it.
pub(crate) struct Reader<'a> {
    at: Vec<String>,
    table: Option<&'a Map<String, Value>>,
    problems: &'a mut Problems,
    /// Keys that the section has asked for: all others are unknown.
    known: Vec<String>,
}

/// Fills `section` from `table` and reports what is wrong with it.
pub(crate) fn fill<S: Section>(section: &mut S, table: &Map<String, Value>, problems: &mut Problems) {
    let mut reader = Reader { at: Vec::new(), table: Some(table), problems, known: Vec::new() };
    section.visit(&mut reader);
    reader.finish();
}

impl<'a> Reader<'a> {
    fn path(&self, key: &str) -> Vec<String> {
        let mut path = self.at.clone();
        path.push(key.to_owned());
        path
    }

    fn given(&mut self, key: &str) -> Option<&'a Value> {
        self.known.push(key.to_owned());
        self.table.and_then(|table| table.get(key))
    }

    /// Notes where a value came from and returns its path.
    fn note(&mut self, key: &str, value: &Value) -> String {
        let path = join(&self.path(key));
        if let Some(origin) = value.origin() {
            self.problems.origins.insert(path.clone(), origin.to_owned());
        }
        path
    }

    /// The table under `key`: `None` if there is none, or something else stands there.
    fn table(&mut self, key: &str) -> Option<&'a Map<String, Value>> {
        let value = self.given(key)?;
        if let ValueKind::Table(table) = &value.kind {
            return Some(table);
        }
        let path = self.note(key, value);
        self.problems.wrong(&path, format!("it is a section; write [{path}] and its keys below"));
        None
    }

    fn below<S: Section>(&mut self, key: &str, table: Option<&Map<String, Value>>, section: &mut S) {
        let mut reader = Reader { at: self.path(key), table, problems: &mut *self.problems, known: Vec::new() };
        section.visit(&mut reader);
        reader.finish();
    }

    fn finish(self) {
        for (key, value) in self.table.into_iter().flatten() {
            if !self.known.contains(key) {
                let path = self.path(key);
                self.problems.unknown(path, first_origin(value));
            }
        }
    }

    /// The content of a secret file, without its last line break. No message says anything of the content.
    fn secret_file(&mut self, key: &str, value: &Value) -> Option<SecretString> {
        let path = self.note(key, value);
        let raw = Raw::of(value);
        let file = match PathBuf::read(raw) {
            Ok(file) => file,
            Err(reason) => {
                self.problems.wrong(&path, format!("{} {reason}", raw.shown()));
                return None;
            }
        };
        match fs::read_to_string(&file) {
            Ok(content) => {
                let content = content.strip_suffix('\n').unwrap_or(&content);
                Some(content.strip_suffix('\r').unwrap_or(content).into())
            }
            Err(reason) => {
                self.problems.wrong(&path, format!("cannot read the file {}: {reason}", file.display()));
                None
            }
        }
    }
}

impl Visitor for Reader<'_> {
    fn field<T: Setting>(&mut self, key: &'static str, target: &mut T) {
        let Some(value) = self.given(key) else { return };
        let path = self.note(key, value);
        let raw = Raw::of(value);
        match T::read(raw) {
            Ok(read) => *target = read,
            Err(reason) => self.problems.wrong(&path, format!("{} {reason}", raw.shown())),
        }
    }

    fn secret_url(&mut self, key: &'static str, target: &mut SecretString) {
        let file_key = format!("{key}_file");
        let from_environment = |value: &Value| value.origin().is_some_and(layers::is_environment);
        match (self.given(key), self.given(&file_key)) {
            (Some(plain), Some(file)) if from_environment(plain) == from_environment(file) => {
                let path = self.note(key, plain);
                let other = self.note(&file_key, file);
                self.problems.say(format!(
                    "`{path}`{} and `{other}`{} are both given; remove one of them",
                    place(plain.origin()),
                    place(file.origin()),
                ));
            }
            // The environment goes over the file, whichever of the two keys it uses.
            (plain, Some(file)) if plain.is_none() || from_environment(file) => {
                let Some(secret) = self.secret_file(&file_key, file) else {
                    return;
                };
                *target = secret;
                let [path, file_path] = [key, &file_key].map(|key| join(&self.path(key)));
                let origin = format!("the file that `{file_path}`{} names", place(file.origin()));
                self.problems.origins.insert(path, origin);
            }
            (Some(plain), _) => {
                let path = self.note(key, plain);
                match Raw::of(plain).text() {
                    Ok(secret) => *target = secret.into(),
                    Err(reason) => self.problems.wrong(&path, format!("the value {reason}; write a URL in quotes")),
                }
            }
            (None, _) => {}
        }
    }

    fn section<S: Section>(&mut self, key: &'static str, section: &mut S) {
        let table = self.table(key);
        self.below(key, table, section);
    }

    fn optional_section<S: Section>(&mut self, key: &'static str, section: &mut Option<S>) {
        if let Some(table) = self.table(key) {
            self.below(key, Some(table), section.get_or_insert_default());
        }
    }

    fn named<S: Section>(&mut self, key: &'static str, sections: &mut BTreeMap<String, S>, base: Option<&'static str>) {
        let Some(table) = self.table(key) else { return };
        let mut names: Vec<&str> = table.keys().map(String::as_str).collect();
        // The base first: the others are copies of it.
        names.sort_by_key(|name| (Some(*name) != base, *name));
        let mut reader =
            Reader { at: self.path(key), table: Some(table), problems: &mut *self.problems, known: Vec::new() };
        for name in names {
            let start = base.and_then(|base| sections.get(base)).cloned();
            let Some(table) = reader.table(name) else {
                continue;
            };
            let section = sections.entry(name.to_owned()).or_insert_with(|| start.unwrap_or_default());
            reader.below(name, Some(table), section);
        }
    }
}

/// Where a value begins: a table has lost its own place in the merge, so the first of what is in it.
fn first_origin(value: &Value) -> Option<String> {
    match (value.origin(), &value.kind) {
        (Some(origin), _) => Some(origin.to_owned()),
        (None, ValueKind::Table(table)) => table
            .values()
            .filter_map(first_origin)
            // Shorter before longer: lines of one file in the order of their numbers.
            .min_by_key(|origin| (origin.len(), origin.clone())),
        _ => None,
    }
}

/// Whether the name of a site, role or publisher is one; the reason if not.
pub(crate) fn check_name(table: &str, name: &str, problems: &mut Problems) {
    if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
        problems.say(format!("[{table}.{}]: a name has 1 to 128 characters, and no control characters", quote(name)));
    }
}
