//! `regrant config show`: the effective configuration, secrets hidden.

use crate::config::Config;

/// The text to print: TOML, each line with where its value came from.
pub fn text(config: &Config) -> String {
    config.to_toml()
}
