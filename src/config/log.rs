//! `[log]`: what the daemon says.

use tracing_subscriber::filter::EnvFilter;

use crate::spelling::nearest;

use super::{
    Problems,
    setting::words,
    visit::{Section, Visitor},
};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// `[log]`: logs, on standard error.
#[derive(Clone, Debug)]
pub struct Log {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`, for single modules `info,regrant::mail=debug`. The variable
    /// `REGRANT_LOG` goes over it. Default `info`.
    pub level: String,
    /// How a line looks. Default `text`.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

words!(LogFormat { "text" => Text, "json" => Json });

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Section for Log {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("level", &mut self.level);
        visitor.field("format", &mut self.format);
    }
}

impl Log {
    pub(super) fn validate(&self, problems: &mut Problems) {
        if let Some(fault) = level_fault(&self.level) {
            problems.wrong("log.level", fault);
        }
    }
}

/// Why a text is no log level; `None` if it is one.
///
/// Stricter than [`EnvFilter`], which takes a lone misspelt level (`debgu`) for a module's name.
pub(crate) fn level_fault(level: &str) -> Option<String> {
    let form = r#"write one of off, error, warn, info, debug, trace, or for single modules "info,regrant::mail=debug""#;
    for part in level.split(',').map(str::trim) {
        let word = part.to_ascii_lowercase();
        if part.contains(['=', '[']) || LEVELS.contains(&word.as_str()) {
            continue;
        }
        return Some(match nearest(&word, LEVELS) {
            Some(right) => format!("{part:?} is not a level; did you mean {right:?}?"),
            None => format!("{part:?} is not a level; {form}"),
        });
    }
    EnvFilter::builder().parse(level).is_err().then(|| format!("{level:?} is not a level; {form}"))
}
