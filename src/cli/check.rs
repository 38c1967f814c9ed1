//! `regrant check`: an operator's first aid: each dependency, what was found, how long it took.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::app;
use crate::broker::{Broker, Options};
use crate::config::Config;
use crate::keys::KeyRing;
use crate::mail::report;
use crate::store::{migrations, pool, search};
use crate::vitals::Vitals;

use super::{Outcome, print};

/// How long each server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One line of the report.
struct Line {
    what: &'static str,
    result: Result<String, String>,
    took: Duration,
}

/// Checks everything and prints a line each.
///
/// # Errors
/// Never; what fails is in the report, and in the exit code.
pub async fn run(config: Result<Config, String>, json: bool) -> Outcome {
    let mut lines = Vec::new();
    let config = match config.and_then(|c| c.validate_for_run().map_err(|e| e.to_string()).map(|()| c)) {
        Ok(config) => {
            let source = config
                .source
                .as_ref()
                .map_or_else(|| "defaults and environment".to_owned(), |p| p.display().to_string());
            lines.push(Line { what: "configuration", result: Ok(source), took: Duration::ZERO });
            config
        }
        Err(reason) => {
            lines.push(Line { what: "configuration", result: Err(reason), took: Duration::ZERO });
            return Ok(report(&lines, json));
        }
    };
    lines.push(timed("keys", async { keys(&config) }).await);
    lines.push(timed("database", database(&config)).await);
    lines.push(timed("broker", broker(&config)).await);
    lines.push(timed("mail", mail(&config)).await);
    lines.push(timed("templates", async { templates(&config) }).await);
    Ok(report(&lines, json))
}

async fn timed(what: &'static str, check: impl Future<Output = Result<String, String>>) -> Line {
    let started = Instant::now();
    let result = tokio::time::timeout(PATIENCE, check)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
    Line { what, result, took: started.elapsed() }
}

fn keys(config: &Config) -> Result<String, String> {
    let ring = KeyRing::load(&config.keys.file).map_err(|e| e.to_string())?;
    Ok(format!("{}, current token key {}", config.keys.file.display(), ring.token_key_id()))
}

async fn database(config: &Config) -> Result<String, String> {
    let pending = migrations::pending(&config.database.url).await.map_err(|e| format!("database.url: {e}"))?;
    if pending.is_empty() {
        let good = "answers, the schema is up to date";
        return Ok(if searches_by_index(config).await? { good.to_owned() } else { format!("{good}; {NO_TRIGRAMS}") });
    }
    let missing = format!("the schema lacks {}", pending.join(", "));
    if config.database.migrate_on_start {
        Ok(format!("answers; {missing}: the next start brings it up to date (database.migrate_on_start)"))
    } else {
        Err(format!("{missing}; run `regrant migrate`"))
    }
}

/// What to do where the migration could not make the index.
const NO_TRIGRAMS: &str = "warning: user.search reads everybody, for want of an index. As a superuser `create extension pg_trgm`, \
                           then `create index concurrently users_search on users using gin \
                           (users_search_text(username_key, email_key, display_name) gin_trgm_ops)`";

async fn searches_by_index(config: &Config) -> Result<bool, String> {
    let wrong = |error: crate::store::Error| format!("database.url: {error}");
    let mut connection = pool::connect(&config.database.url).await.map_err(wrong)?;
    search::is_indexed(&mut connection).await.map_err(wrong)
}

async fn broker(config: &Config) -> Result<String, String> {
    let options = Options { url: config.broker.url.clone(), connection_name: "regrant check".to_owned() };
    let broker =
        Broker::start(&options, app::topology(config), &Vitals::default(), |_, _| {}).map_err(|e| e.to_string())?;
    let started = Instant::now();
    while !broker.is_connected() && started.elapsed() < PATIENCE / 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let problem = broker.problem();
    broker.close().await;
    problem.map_or_else(
        || Ok(format!("answers, exchanges and queues of `{}` are declared", config.broker.prefix)),
        |problem| Err(format!("broker.url: {problem}")),
    )
}

async fn mail(config: &Config) -> Result<String, String> {
    let (transport, _) = app::transport(config).map_err(|e| e.to_string())?;
    let found = transport.check().await.map_err(|e| e.to_string());
    transport.close().await;
    found
}

fn templates(config: &Config) -> Result<String, String> {
    let set = app::load_templates(config).map_err(|e| e.to_string())?;
    let off = report::disabled_but_awaited(&set);
    let mut said = format!("{}: {} variants, all good", config.templates.directory.display(), set.variants().len());
    for variant in off {
        let _ = write!(said, "; warning: `{}` is switched off, but people wait for it", variant.template);
    }
    Ok(said)
}

fn report(lines: &[Line], json: bool) -> ExitCode {
    let good = lines.iter().all(|line| line.result.is_ok());
    if json {
        let checks: Vec<_> = lines
            .iter()
            .map(|line| {
                let (Ok(said) | Err(said)) = &line.result;
                json!({ "what": line.what, "ok": line.result.is_ok(), "said": said, "seconds": line.took.as_secs_f64() })
            })
            .collect();
        print(&format!("{:#}\n", json!({ "ok": good, "checks": checks })));
    } else {
        for line in lines {
            let mark = if line.result.is_ok() { "ok  " } else { "FAIL" };
            let (Ok(said) | Err(said)) = &line.result;
            print(&format!("{mark} {:<14}{said} ({} ms)\n", line.what, line.took.as_millis()));
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
