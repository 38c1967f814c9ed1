//! `regrant emails retry`: mails that failed are queued again.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use serde_json::json;
use uuid::Uuid;

use crate::app;
use crate::cli::send::new_id;
use crate::cli::{Outcome, agreed, print};
use crate::config::Config;
use crate::domain::access::SYSTEM;
use crate::domain::email_address::email_key;
use crate::domain::email_state::EmailState;
use crate::mail::catalogue::Template;
use crate::mail::render::TemplateSet;
use crate::mail::retry::{Circumstances, again};
use crate::store::activity::{self, EMAILS_RETRY};
use crate::store::email_list::{self, Failed};
use crate::store::emails::{PersonOfMail, TicketOfMail};
use crate::store::{self, accounts};
use crate::world::NewActivity;

use super::{Filter, email_id, failed};

/// Mails per transaction.
const TOGETHER: usize = 200;
/// Stands for the publisher in the activity log.
const SHELL: &str = "shell";

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

/// What became of mails.
#[derive(Default)]
struct Report {
    queued: Vec<Uuid>,
    refused: Vec<(Uuid, String)>,
    resume: Option<Uuid>,
}

/// Queues the emails that were named, or that match.
///
/// # Errors
/// When the database cannot be asked. What does not make sense any more is in the report.
pub async fn run(retry: &Retry, connection: &mut AsyncPgConnection, config: &Config) -> Outcome {
    let templates = app::load_templates(config).map_err(|e| e.to_string())?.set;
    let mut report = Report::default();
    let by_name = !retry.ids.is_empty();
    let ids = if by_name {
        retry.ids.clone()
    } else {
        let page = retry.filter.page(connection, Some(EmailState::Failed), retry.limit).await.map_err(failed)?;
        report.resume = page.resume;
        page.rows.into_iter().map(|row| row.id).collect()
    };
    let sure = by_name || ids.is_empty() || retry.dry_run || retry.yes;
    if !sure && !confirmed(ids.len()).await {
        print("nothing was sent again\n")?;
        return Ok(ExitCode::FAILURE);
    }
    for chunk in ids.chunks(TOGETHER) {
        queue(connection, chunk, config, &templates, retry.dry_run, &mut report).await.map_err(failed)?;
    }
    if retry.json {
        let refused = report.refused.iter().map(|(id, why)| json!({ "email_id": id, "why": why }));
        let report = json!({
            "dry_run": retry.dry_run, "queued": report.queued, "refused": refused.collect::<Vec<_>>(),
            "next_cursor": report.resume,
        });
        print(&format!("{report:#}\n"))?;
    } else {
        print(&said(&report, retry.dry_run))?;
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

/// Queues those mails that still make sense, in one transaction.
async fn queue(
    connection: &mut AsyncPgConnection,
    ids: &[Uuid],
    config: &Config,
    templates: &TemplateSet,
    dry_run: bool,
    report: &mut Report,
) -> Result<(), store::Error> {
    let now = crate::clock::now();
    let (good, refused) = connection
        .transaction::<_, store::Error, _>(async |connection| {
            let (mails, tickets, people) = email_list::lock(connection, ids).await?;
            let keys: BTreeSet<String> = mails.iter().map(|failed| email_key(&failed.mail.to_address)).collect();
            let suppressed = accounts::suppressed(connection, &keys).await?;
            let tickets: HashMap<Uuid, TicketOfMail> = tickets.into_iter().map(|t| (t.id, t)).collect();
            let people: HashMap<String, PersonOfMail> = people.into_iter().map(|p| (p.id.clone(), p)).collect();
            let (mut good, mut refused) = (Vec::new(), Vec::new());
            for failed in &mails {
                let mail = &failed.mail;
                let template = mail.template.parse::<Template>();
                let around = Circumstances {
                    ticket: mail.ticket_id.and_then(|id| tickets.get(&id)),
                    person: people.get(&mail.user_id),
                    suppressed: suppressed.contains(&email_key(&mail.to_address)),
                    enabled: template.is_ok_and(|t| templates.enabled(t, &mail.site, mail.locale.as_deref())),
                    max_age: config.mail.max_age,
                    now,
                };
                match again(failed, around) {
                    Ok(until) => good.push((failed, until)),
                    Err(why) => refused.push((mail.id, why)),
                }
            }
            let missing = ids.iter().filter(|id| !mails.iter().any(|failed| failed.mail.id == **id));
            refused.extend(missing.map(|id| (*id, "there is no such email".to_owned())));
            if !dry_run {
                let until: Vec<(Uuid, DateTime<Utc>)> =
                    good.iter().map(|(failed, until)| (failed.mail.id, *until)).collect();
                email_list::requeue(connection, &until).await?;
                let rows: Vec<NewActivity> = good.iter().map(|(failed, _)| note(failed, now)).collect();
                activity::insert(connection, &rows).await?;
            }
            Ok((good.iter().map(|(failed, _)| failed.mail.id).collect::<Vec<_>>(), refused))
        })
        .await?;
    report.queued.extend(good);
    report.refused.extend(refused);
    Ok(())
}

/// The row of the person's activity log.
fn note(failed: &Failed, now: DateTime<Utc>) -> NewActivity {
    let operator = ["SUDO_USER", "USER"].into_iter().find_map(|name| std::env::var(name).ok());
    NewActivity {
        id: new_id(),
        at: now,
        kind: EMAILS_RETRY.to_owned(),
        user_id: Some(failed.mail.user_id.clone()),
        actor: Some(SYSTEM.to_owned()),
        publisher: SHELL.to_owned(),
        command_id: None,
        outcome: "ok".to_owned(),
        ip: None,
        subject_key: None,
        details: json!({ "email_id": failed.mail.id, "operator": operator }),
    }
}

fn said(report: &Report, dry_run: bool) -> String {
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
    if let Some(cursor) = report.resume {
        let _ = writeln!(text, "there are more: --cursor {cursor}");
    }
    text
}
