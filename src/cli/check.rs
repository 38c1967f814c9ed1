//! `regrant check`: an operator's first aid: each dependency, what was tried, what was found, how long it took, what to do.

mod advice;
mod broker;
mod database;
mod mail;

use std::fmt::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::app;
use crate::config::Config;
use crate::hashing::blocklist;
use crate::keys::KeyRing;
use crate::mail::report;
use crate::telemetry;

use super::{Outcome, print};

/// How long each server may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found where something works: a few words, and warnings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Found {
    said: String,
    warnings: Vec<String>,
}

type Finding = Result<Found, Fault>;

impl Found {
    fn new(said: impl Into<String>) -> Self {
        Self { said: said.into(), warnings: Vec::new() }
    }
}

/// What was found where something does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    /// The error, as the server or file system gave it.
    answer: String,
    /// What the operator can do.
    advice: String,
}

impl Fault {
    fn new(answer: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { answer: answer.into(), advice: advice.into() }
    }
}

/// One line of the report.
struct Line {
    what: &'static str,
    /// What was tried: host, port, user, file; never a password.
    tried: String,
    finding: Finding,
    took: Duration,
}

/// Checks everything and prints a line each.
///
/// # Errors
/// Never; what fails is in the report, and in the exit code.
pub async fn run(config: Result<Config, String>, json: bool) -> Outcome {
    let config = config.and_then(|c| c.validate_for_run().map_err(|e| e.to_string()).map(|()| c));
    let mut lines = Vec::new();
    match &config {
        Err(reason) => {
            let wrong = async { Err(Fault::new(reason, advice::CONFIGURATION)) };
            lines.push(timed("configuration", String::new(), wrong).await);
        }
        Ok(config) => {
            let source = config.source.as_ref().map(|path| path.display().to_string());
            let source = source.unwrap_or_else(|| "defaults and environment".to_owned());
            lines.push(timed("configuration", source.clone(), async { configuration(config, source) }).await);
            lines.push(timed("keys", config.keys.file.display().to_string(), async { keys(config) }).await);
            let (database, broker, mail) = tokio::join!(
                timed("database", database::tried(config), database::check(config)),
                timed("broker", broker::tried(config), broker::check(config)),
                timed("mail", mail::tried(config), mail::check(config)),
            );
            lines.extend([database, broker, mail]);
            let directory = config.templates.directory.display().to_string();
            lines.push(timed("templates", directory, async { templates(config) }).await);
        }
    }
    print(&if json { as_json(&lines) } else { as_text(&lines) })?;
    Ok(if lines.iter().all(|line| line.finding.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn timed(what: &'static str, tried: String, check: impl Future<Output = Finding>) -> Line {
    let started = Instant::now();
    let late = || Err(Fault::new(format!("no answer within {} s", PATIENCE.as_secs()), advice::SILENT));
    let finding = tokio::time::timeout(PATIENCE, check).await.unwrap_or_else(|_| late());
    Line { what, tried, finding, took: started.elapsed() }
}

/// What the configuration alone does not tell, and the daemon would not start with or work without.
fn configuration(config: &Config, source: String) -> Finding {
    telemetry::check(&config.log).map_err(|error| Fault::new(error.to_string(), advice::CONFIGURATION))?;
    let mut listen = config.http.listen;
    // Any port: a daemon may be running that has the configured one.
    listen.set_port(0);
    TcpListener::bind(listen).map_err(|error| {
        Fault::new(
            format!("http.listen {}: {error}", listen.ip()),
            "Write an address of this machine: `ip address` shows them.",
        )
    })?;
    let list = &config.password.policy.blocklist_file;
    if let Some(list) = list {
        let fault = |error| {
            Fault::new(format!("password.policy.blocklist_file {}: {error}", list.display()), advice::CONFIGURATION)
        };
        blocklist::check(list).map_err(fault)?;
    }
    Ok(Found::new(source))
}

fn keys(config: &Config) -> Finding {
    let path = &config.keys.file;
    let ring = KeyRing::load(path).map_err(|error| Fault::new(error.to_string(), advice::keys(&error)))?;
    let mut found = Found::new(format!("{}, current token key {}", path.display(), ring.token_key_id()));
    let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
    if mode & 0o020 != 0 {
        found.warnings.push(format!("its group can change it: chmod 640 {}", path.display()));
    }
    Ok(found)
}

fn templates(config: &Config) -> Finding {
    let loaded = app::load_templates(config).map_err(|error| Fault::new(error.to_string(), advice::TEMPLATES))?;
    let set = loaded.set;
    let said = format!("{}: {} variants, all good", config.templates.directory.display(), set.variants().len());
    let off = report::switched_off_but_awaited(&set).into_iter();
    let warnings = loaded.warnings.iter().map(ToString::to_string);
    Ok(Found { said, warnings: off.chain(warnings).collect() })
}

fn as_json(lines: &[Line]) -> String {
    let checks: Vec<_> = lines
        .iter()
        .map(|Line { what, tried, finding, took }| {
            let (said, advice, warnings) = match finding {
                Ok(found) => (&found.said, None, found.warnings.as_slice()),
                Err(fault) => (&fault.answer, Some(&fault.advice), &[][..]),
            };
            json!({
                "what": what, "ok": finding.is_ok(), "said": said, "seconds": took.as_secs_f64(),
                "tried": tried, "advice": advice, "warnings": warnings,
            })
        })
        .collect();
    format!("{:#}\n", json!({ "ok": lines.iter().all(|line| line.finding.is_ok()), "checks": checks }))
}

fn as_text(lines: &[Line]) -> String {
    let mut text = String::new();
    for Line { what, tried, finding, took } in lines {
        let took = took.as_millis();
        match finding {
            Ok(Found { said, warnings }) => {
                let _ = writeln!(text, "ok   {what:<14}{said} ({took} ms)");
                for warning in warnings {
                    let _ = writeln!(text, "     warning:      {warning}");
                }
            }
            Err(Fault { answer, advice }) => {
                let _ = writeln!(text, "FAIL {what:<14}{} ({took} ms)", answer.trim_end());
                if !tried.is_empty() {
                    let _ = writeln!(text, "     tried:        {tried}");
                }
                let _ = writeln!(text, "     what to do:   {advice}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<Line> {
        let good = Ok(Found { said: "all good".into(), warnings: vec!["but".into()] });
        let bad = Err(Fault::new("refused", "Start it."));
        let took = Duration::from_millis(7);
        vec![
            Line { what: "keys", tried: "file".into(), finding: good, took },
            Line { what: "broker", tried: "host:1".into(), finding: bad, took },
        ]
    }

    #[test]
    fn what_fails_says_what_was_tried_and_what_to_do() {
        let expected = "ok   keys          all good (7 ms)\n     warning:      but\nFAIL broker        refused (7 ms)\n     \
                        tried:        host:1\n     what to do:   Start it.\n";
        assert_eq!(as_text(&lines()), expected);
    }

    #[test]
    fn the_report_for_programs_has_every_field_each_time() {
        let report: serde_json::Value = serde_json::from_str(&as_json(&lines())).unwrap();
        assert_eq!(report["ok"], false);
        assert_eq!(
            report["checks"],
            json!([
                {
                    "what": "keys", "ok": true, "said": "all good", "seconds": 0.007, "tried": "file", "advice": null,
                    "warnings": ["but"],
                },
                {
                    "what": "broker", "ok": false, "said": "refused", "seconds": 0.007, "tried": "host:1",
                    "advice": "Start it.", "warnings": [],
                },
            ])
        );
    }
}
