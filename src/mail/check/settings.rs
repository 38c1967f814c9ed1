//! `template.toml`.

use serde::{Deserialize, Deserializer};

use crate::mail::locate::{Locale, SourceFile};
use crate::mail::problem::{Problem, Rule};
use crate::spelling::nearest;

/// What `template.toml` says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::mail) struct Settings {
    /// Whether the email is sent at all.
    pub enabled: bool,
    /// What it is for, for the people who edit it.
    pub description: Option<String>,
    /// The language of files that lie outside of a language directory, for dates and durations; English if not said.
    #[serde(deserialize_with = "language")]
    pub language: Option<Locale>,
}

fn language<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Locale>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: true, description: None, language: None }
    }
}

pub(super) fn parse(file: &SourceFile) -> Result<Settings, Box<Problem>> {
    if let Some(fault) = &file.fault {
        return Err(Box::new(fault.clone()));
    }
    toml::from_str(&file.text).map_err(|error| {
        let message = error.message().to_owned();
        let at = error.span().map_or(0, |span| span.start);
        let length = error.span().map_or(0, |span| file.text.get(span).map_or(0, |s| s.chars().count()));
        let (line, column) = super::expand::line_column(&file.text, at);
        let problem = Problem::of(Rule::Settings, &file.path, message).at(&file.text, line, column, length);
        let key = file.text.get(at..).unwrap_or_default();
        let key = key.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        Box::new(match nearest(key, ["enabled", "description", "language"]) {
            Some(meant) if meant != key => problem.help(format!("did you mean `{meant}`?")),
            _ => problem
                .help("the keys are `enabled` (true or false), `description` (text) and `language` (such as `en`)"),
        })
    })
}
