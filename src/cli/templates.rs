//! `regrant templates list|check|preview|send`.

use std::process::ExitCode;

use crate::config::Config;
use crate::mail::render::Loaded;
use crate::mail::report;

use super::{Outcome, print};

pub mod check;
pub mod preview;
pub mod send;

fn read(config: &Config) -> Result<Loaded, String> {
    let sites: Vec<&str> = config.sites.keys().map(String::as_str).collect();
    Loaded::read(&config.templates.directory, &sites).map_err(|e| e.to_string())
}

/// Prints what there is.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(config: &Config) -> Outcome {
    print(&report::list(&read(config)?.set));
    Ok(ExitCode::SUCCESS)
}
