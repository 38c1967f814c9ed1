//! `regrant templates check`: everything that is wrong, for people, programs and code review.

use std::process::ExitCode;

use clap::Args;

use crate::cli::{Outcome, print};
use crate::config::Config;
use crate::mail::report;

/// Check all templates; exit 1 if anything is wrong.
#[derive(Debug, Args)]
pub struct Check {
    /// Print JSON, for programs.
    #[arg(long, conflicts_with = "sarif")]
    json: bool,
    /// Print SARIF 2.1.0, which code review shows beside the changed lines.
    #[arg(long)]
    sarif: bool,
}

/// Prints everything that is wrong.
///
/// # Errors
/// When the configuration or the directory cannot be read; a program gets its document all the same.
pub fn run(check: &Check, config: Result<Config, String>) -> Outcome {
    let found = config.and_then(|config| super::read(&config).map(|loaded| (config, loaded)));
    let (config, loaded) = match found {
        Ok(found) => found,
        Err(reason) => {
            if check.sarif {
                print(&format!("{:#}\n", report::unread_sarif(&reason)))?;
            } else if check.json {
                print(&format!("{:#}\n", report::unread_json(&reason)))?;
            }
            return Err(reason);
        }
    };
    let directory = &config.templates.directory;
    if check.sarif {
        print(&format!("{:#}\n", report::sarif(directory, &loaded)))?;
    } else if check.json {
        print(&format!("{:#}\n", report::json(directory, &loaded)))?;
    } else {
        print(&report::check(directory, &loaded))?;
    }
    Ok(if loaded.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
