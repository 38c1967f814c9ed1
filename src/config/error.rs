//! What can be wrong with a configuration, said all at once.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

use super::unknown_key::unknown_key;

/// Why there is no configuration. No message ever holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {} ({how}): {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// How it was chosen.
        how: &'static str,
        /// What the system says.
        reason: std::io::Error,
    },
    /// The file is not TOML. The faulty line is not quoted: it may hold a secret.
    #[error("{} is not valid TOML: line {line}, column {column}: {reason}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Where, from 1, in characters.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// Keys or values are wrong, or something needed is missing.
    #[error("{}", list(.0))]
    Invalid(Vec<String>),
}

impl ConfigError {
    /// The single faults, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        match self {
            Self::Invalid(problems) => problems.clone(),
            other => vec![other.to_string()],
        }
    }
}

fn list(problems: &[String]) -> String {
    let head = match problems.len() {
        1 => "the configuration has a problem:".to_owned(),
        n => format!("the configuration has {n} problems:"),
    };
    problems.iter().fold(head, |text, problem| format!("{text}\n  - {problem}"))
}

/// Where each given value came from, by its path: `FILE:LINE`, `environment variable NAME`, …
pub(crate) type Origins = BTreeMap<String, String>;

/// Collects everything that is wrong, so that one run tells all of it.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    unknown: Vec<Unknown>,
    found: Vec<String>,
    /// Where values came from: messages say it.
    pub(crate) origins: Origins,
}

#[derive(Debug)]
struct Unknown {
    path: Vec<String>,
    origin: Option<String>,
}

impl Problems {
    /// Starts with known origins, for checks after loading.
    pub(crate) fn with_origins(origins: &Origins) -> Self {
        Self { origins: origins.clone(), ..Self::default() }
    }

    /// A fault that is a sentence of its own.
    pub(crate) fn say(&mut self, problem: impl Into<String>) {
        self.found.push(problem.into());
    }

    /// The value of the key at `path` is wrong. `reason` says what it is and what to write instead.
    pub(crate) fn wrong(&mut self, path: &str, reason: impl fmt::Display) {
        let place = place(self.origins.get(path));
        self.found.push(format!("wrong value for `{path}`{place}: {reason}"));
    }

    /// Says `reason` of the key at `path` unless `good`.
    pub(crate) fn check(&mut self, good: bool, path: &str, reason: impl fmt::Display) {
        if !good {
            self.wrong(path, reason);
        }
    }

    /// The duration at `path` must not be zero.
    pub(crate) fn positive(&mut self, duration: Duration, path: &str) {
        self.check(!duration.is_zero(), path, "it must be longer than 0s");
    }

    /// The number at `path` must be within `range`.
    pub(crate) fn range<T: Copy + PartialOrd + fmt::Display>(
        &mut self,
        number: T,
        range: RangeInclusive<T>,
        path: &str,
    ) {
        let reason = format!("{number} is not from {} to {}", range.start(), range.end());
        self.check(range.contains(&number), path, reason);
    }

    /// Nobody knows this key.
    pub(crate) fn unknown(&mut self, path: Vec<String>, origin: Option<String>) {
        self.unknown.push(Unknown { path, origin });
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.unknown.is_empty() && self.found.is_empty()
    }

    /// `Ok` if nothing was found.
    pub(crate) fn into_result(mut self) -> Result<(), ConfigError> {
        self.unknown.sort_by(|a, b| a.path.cmp(&b.path));
        let mut all: Vec<String> =
            self.unknown.iter().map(|unknown| unknown_key(&unknown.path, unknown.origin.as_deref())).collect();
        all.append(&mut self.found);
        if all.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(all)) }
    }
}

/// ` in regrant.toml:3`, or nothing for a built-in value.
pub(crate) fn place(origin: Option<impl AsRef<str>>) -> String {
    origin.map_or_else(String::new, |origin| format!(" in {}", origin.as_ref()))
}
