//! `regrant history`: what happened to a person, and why no email came; asks the running daemon.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::config::Config;

use super::Outcome;
use super::ask::{self, Asker, Asking, Columns, word};

/// Print what happened to a person.
#[derive(Debug, Args)]
pub struct History {
    /// An id, a username or an email address; write `id=…`, `username=…` or `email=…` where it is ambiguous.
    user: String,
    /// What to print.
    #[arg(value_enum, default_value_t = Which::Activity)]
    which: Which,
    /// Show at most this many rows, 1 to 200; 50 unless told. Not for `explain`, which shows everything.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=200))]
    limit: Option<u8>,
    /// Continue after an earlier page; that page prints the value.
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Every command about the person, including refused ones.
    Activity,
    /// Password requests, invitations and direct changes.
    Passwords,
    /// The emails to the person.
    Emails,
    /// Why no email arrived: the verdict and the timeline.
    Explain,
}

const ACTIVITY: &Columns = &[
    ("WHEN", "at"),
    ("WHAT", "kind"),
    ("OUTCOME", "outcome"),
    ("BY", "actor"),
    ("PUBLISHER", "publisher"),
    ("FROM", "ip"),
    ("DETAILS", "details"),
];

const PASSWORDS: &Columns = &[
    ("ASKED", "requested_at"),
    ("WHAT", "kind"),
    ("METHOD", "method"),
    ("BY", "requested_by"),
    ("OUTCOME", "outcome"),
    ("COMPLETED", "completed_at"),
    ("EXPIRES", "expires_at"),
];

const EMAILS: &Columns = &[
    ("QUEUED", "queued_at"),
    ("TEMPLATE", "template"),
    ("TO", "to"),
    ("STATE", "state"),
    ("ATTEMPTS", "attempts"),
    ("SENT", "sent_at"),
    ("EMAIL ID", "email_id"),
    ("REPLY", "smtp_reply"),
];

const STEPS: &Columns = &[("WHEN", "at"), ("WHAT", "what"), ("DETAILS", "details")];

/// Asks and prints.
///
/// # Errors
/// When the daemon refuses, or cannot be asked.
pub async fn run(history: &History, config: &Config) -> Outcome {
    let (query, table): (_, fn(&Value) -> String) = match history.which {
        Which::Activity => ("history.activity", |found| ask::page(found, "rows", ACTIVITY)),
        Which::Passwords => ("history.passwords", |found| ask::page(found, "rows", PASSWORDS)),
        Which::Emails => ("history.emails", |found| ask::page(found, "rows", EMAILS)),
        Which::Explain => ("email.explain", explained),
    };
    let mut body = json!({});
    if history.which == Which::Explain {
        if history.limit.is_some() || history.cursor.is_some() {
            return Err(
                "`explain` shows everything at once; --limit and --cursor are for the other histories".to_owned()
            );
        }
    } else {
        body["limit"] = history.limit.unwrap_or(50).into();
        if let Some(cursor) = &history.cursor {
            body["cursor"] = cursor.as_str().into();
        }
    }
    let asker = Asker::connect(&history.asking, config).await?;
    // `email.explain` takes an address as it is, whether or not somebody has it.
    let found = match address(&history.user) {
        Some(address) if history.which == Which::Explain => asker.ask(query, json!({ "email": address })).await,
        _ => asker.about(query, &history.user, body).await,
    };
    asker.close().await;
    ask::show(&history.asking, &found?, table)?;
    Ok(ExitCode::SUCCESS)
}

/// The email address that somebody typed, if it is one.
fn address(user: &str) -> Option<&str> {
    match user.split_once('=') {
        Some(("email", address)) => Some(address),
        Some(("id" | "username", _)) => None,
        _ => Some(user).filter(|user| user.contains('@')),
    }
}

fn explained(found: &Value) -> String {
    let since = found["since"].as_str().map(|since| format!(" since {since}")).unwrap_or_default();
    let steps = if found["steps"].as_array().is_some_and(Vec::is_empty) {
        String::new()
    } else {
        ask::table(&found["steps"], STEPS)
    };
    format!("{}{since}\n{steps}", word(&found["verdict"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_from_other_names() {
        for (user, expected) in [
            ("ada@example.com", Some("ada@example.com")),
            ("email=ada", Some("ada")),
            ("id=ada@example.com", None),
            ("username=ada@example.com", None),
            ("ada", None),
        ] {
            assert_eq!(address(user), expected);
        }
    }

    #[test]
    fn an_explanation_begins_with_the_verdict() {
        let found = json!({
            "verdict": "throttled", "since": "2026",
            "steps": [{ "at": "2026", "what": "throttled", "details": { "limit": "password_reset.min_interval" } }],
        });
        let shown = explained(&found);
        assert!(shown.starts_with("throttled since 2026\nWHEN"), "{shown}");
        assert!(shown.ends_with("2026  throttled  limit=password_reset.min_interval\n"), "{shown}");
        assert_eq!(
            explained(&json!({ "verdict": "never_requested", "since": null, "steps": [] })),
            "never_requested\n"
        );
    }
}
