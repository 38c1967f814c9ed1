//! `regrant emails retry`: mails that failed are queued again.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use diesel_async::AsyncPgConnection;
use serde_json::json;
use uuid::Uuid;

use crate::app;
use crate::cli::send::new_id;
use crate::cli::{Outcome, agreed, print};
use crate::config::Config;
use crate::domain::email_state::EmailState;
use crate::mail::retry::{self, Order, Report};

use super::{Filter, email_id, failed};

/// Which emails are sent again.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags")]
pub struct Retry {
    /// Ids as `regrant emails list` shows them.
    #[arg(value_parser = email_id, conflicts_with_all = ["all", "state", "template", "user", "since", "until", "cursor"])]
    ids: Vec<Uuid>,
    /// Every failed email that the filters match. The default without ids.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// Only failed emails can be sent again, so `failed` is the only value.
    #[arg(long, value_enum)]
    state: Option<Retried>,
    /// At most this many, newest first.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
    /// Do not ask for confirmation. Without a terminal, or with ids, nothing is asked anyway.
    #[arg(long)]
    yes: bool,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Retried {
    /// Refused for good, or given up after the last attempt that was allowed.
    Failed,
}

/// Queues the emails that were named, or that match.
///
/// # Errors
/// When the database cannot be asked. What does not make sense any more is in the report.
pub async fn run(retry: &Retry, connection: &mut AsyncPgConnection, config: &Config) -> Outcome {
    let templates = app::load_templates(config).map_err(|e| e.to_string())?.set;
    let by_name = !retry.ids.is_empty();
    let (ids, resume) = if by_name {
        (retry.ids.clone(), None)
    } else {
        let page = retry.filter.page(connection, Some(EmailState::Failed), retry.limit).await.map_err(failed)?;
        (page.rows.into_iter().map(|row| row.id).collect(), page.resume)
    };
    let sure = by_name || ids.is_empty() || retry.dry_run || retry.yes;
    if !sure && !confirmed(ids.len()).await {
        print("nothing was sent again\n")?;
        return Ok(ExitCode::FAILURE);
    }
    let operator = ["SUDO_USER", "USER"].into_iter().find_map(|name| std::env::var(name).ok());
    let order = Order {
        templates: &templates,
        max_age: config.mail.max_age,
        operator: operator.as_deref(),
        new_id,
        dry_run: retry.dry_run,
    };
    let report = retry::queue(connection, &ids, &order).await.map_err(failed)?;
    if retry.json {
        let refused = report.refused.iter().map(|(id, why)| json!({ "email_id": id, "why": why }));
        let report = json!({
            "dry_run": retry.dry_run, "queued": report.queued, "refused": refused.collect::<Vec<_>>(),
            "next_cursor": resume,
        });
        print(&format!("{report:#}\n"))?;
    } else {
        print(&said(&report, resume, retry.dry_run))?;
    }
    Ok(if by_name && !report.refused.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Asks at the terminal. Without one nothing is asked: having typed the command is enough, since a mail that is sent again does
/// no harm.
async fn confirmed(count: usize) -> bool {
    if !std::io::stdin().is_terminal() {
        return true;
    }
    let _ = writeln!(std::io::stderr(), "{count} emails failed; those that still make sense are sent again.");
    agreed("Go on?".to_owned()).await
}

fn said(report: &Report, resume: Option<Uuid>, dry_run: bool) -> String {
    let mut text = String::new();
    for (id, why) in &report.refused {
        let _ = writeln!(text, "{id}: not sent again: {why}");
    }
    let (done, when) =
        if dry_run { ("would be queued", "") } else { ("queued", "; a daemon sends them within seconds") };
    let _ = write!(text, "{} {done}{when}", report.queued.len());
    if !report.refused.is_empty() {
        let _ = write!(text, ", {} not", report.refused.len());
    }
    text.push('\n');
    if let Some(cursor) = resume {
        let _ = writeln!(text, "there are more: --cursor {cursor}");
    }
    text
}
