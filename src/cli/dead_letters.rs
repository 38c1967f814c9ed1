//! `regrant dead-letters`: what could not be understood or done, and what becomes of it.
//!
//! A queue cannot be searched. So all that waits is taken, one part after the other, and what is neither replayed nor dropped
//! goes back to its place when the tool ends, however it ends: nothing leaves the queue but by an acknowledgement, which follows
//! the broker's confirm of the replay, or the operator's word.

mod choice;
mod discard;
mod reader;
mod replay;

use std::fmt::Write;
use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use crate::broker::{Client, Delivery, Options};
use crate::config::Config;
use crate::lane::dead_letter::{self, Letter};

use super::ask::{self, Columns, word};
use super::{Outcome, print};

use choice::{Choice, Filter, Newest};
use reader::{Place, Reader};

/// List, replay or delete commands that were put aside because they could not be understood or carried out.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// List dead letters, newest first.
    List {
        /// Which ones.
        #[command(flatten)]
        filter: Filter,
        /// Show at most this many, from 1.
        #[arg(long, default_value_t = 50, value_parser = at_least_one())]
        limit: usize,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print dead letters with their headers and bodies.
    Show {
        /// Ids as `list` shows them (the first four characters are enough while they are unique), or message ids.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Which ones.
        #[command(flatten)]
        filter: Filter,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send the original commands again, with their message ids and the rights of their publishers.
    Replay(Act),
    /// Delete dead letters for good. Asks first, unless ids are given.
    Drop {
        /// Which ones.
        #[command(flatten)]
        act: Act,
        /// Do not ask for confirmation. Needed with --all where there is no terminal to ask on.
        #[arg(long)]
        yes: bool,
    },
}

/// Which letters something is done to.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["ids", "all"]))]
pub struct Act {
    /// Ids as `list` shows them (the first four characters are enough while they are unique), or message ids.
    ids: Vec<String>,
    /// Every dead letter that the filters match.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// With --all, at most this many, oldest first. Default: no limit.
    #[arg(long, conflicts_with = "ids", value_parser = at_least_one())]
    limit: Option<usize>,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

const LISTED: &Columns = &[
    ("ID", "id"),
    ("BURIED", "failed_at"),
    ("REASON", "reason"),
    ("COMMAND", "command"),
    ("PUBLISHER", "publisher"),
    ("TRIES", "attempts"),
    ("REDACTED", "redacted"),
    ("MESSAGE ID", "message_id"),
    ("DETAIL", "detail"),
];

/// Characters of a detail in a table; `show` prints it whole.
const DETAIL: usize = 60;

/// Runs the subcommand.
///
/// # Errors
/// When the broker cannot be asked, or somebody else is at the dead letters.
pub async fn run(command: &DeadLetters, config: &Config) -> Outcome {
    let options = Options { url: config.broker.url.clone(), connection_name: "regrant dead-letters".to_owned() };
    let client = Client::connect(&options).await.map_err(|e| format!("broker.url: {e}"))?;
    let outcome = at_letters(&client, command, config).await;
    client.close().await;
    outcome
}

async fn at_letters(client: &Client, command: &DeadLetters, config: &Config) -> Outcome {
    let mut reader = Reader::open(client, config).await?;
    let work = async {
        match command {
            DeadLetters::List { filter, limit, json } => list(&mut reader, filter, *limit, *json).await,
            DeadLetters::Show { ids, filter, json } => show(&mut reader, ids, filter, *json).await,
            DeadLetters::Replay(act) => replay::run(&mut reader, act, config).await,
            DeadLetters::Drop { act, yes } => discard::run(&mut reader, act, *yes).await,
        }
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted; what was not done stays in its queue".to_owned()),
    };
    let closed = reader.close().await;
    outcome.and_then(|code| closed.map(|()| code))
}

async fn list(reader: &mut Reader<'_>, filter: &Filter, limit: usize, json: bool) -> Outcome {
    let filter = filter.at(crate::clock::now());
    let mut newest = Newest::new(limit);
    let mut matching = 0_usize;
    while let Some((_, delivery)) = reader.next().await? {
        let letter = Letter::of(&delivery);
        if filter.lets_through(&letter) {
            matching += 1;
            newest.add(letter);
        }
    }
    let letters = newest.into_sorted();
    if json {
        let letters: Vec<Value> = letters.iter().map(fields).collect();
        let report = json!({ "waiting": reader.seen(), "matching": matching, "letters": letters });
        print(&format!("{report:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = match (letters.len(), reader.seen()) {
        (0, 0) => "there are no dead letters\n".to_owned(),
        (0, waiting) => format!("none of the {waiting} dead letters matches\n"),
        _ => ask::table(&letters.iter().map(row).collect(), LISTED),
    };
    if letters.len() < matching {
        let _ = writeln!(text, "the newest {} of {matching}; --limit shows more", letters.len());
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn show(reader: &mut Reader<'_>, ids: &[String], filter: &Filter, json: bool) -> Outcome {
    let found = named(reader, ids, filter).await?;
    let letters: Vec<Value> = found.iter().map(|(_, delivery)| whole(delivery)).collect();
    if json {
        print(&format!("{:#}\n", Value::from(letters)))?;
    } else {
        print(&letters.iter().map(paper).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The letters that were named; every name must stand for one letter, or for one message id.
async fn named(reader: &mut Reader<'_>, ids: &[String], filter: &Filter) -> Result<Vec<(Place, Delivery)>, String> {
    let filter = filter.at(crate::clock::now());
    let mut choice = Choice::new(ids)?;
    let mut found = Vec::new();
    while let Some((place, delivery)) = reader.next().await? {
        let letter = Letter::of(&delivery);
        if filter.lets_through(&letter) && choice.takes(&letter) {
            found.push((place, delivery));
        }
    }
    choice.finish()?;
    Ok(found)
}

/// As JSON, for programs.
fn fields(letter: &Letter) -> Value {
    json!({
        "id": letter.id, "message_id": letter.message_id, "command": letter.command, "publisher": letter.publisher,
        "reason": letter.reason, "detail": letter.detail,
        "failed_at": letter.failed_at.map(crate::domain::ticket::timestamp),
        "attempts": letter.attempts, "redacted": letter.redacted, "bytes": letter.bytes,
    })
}

/// As a line for people.
fn row(letter: &Letter) -> Value {
    let mut row = fields(letter);
    if letter.detail.chars().count() > DETAIL {
        row["detail"] = format!("{}…", letter.detail.chars().take(DETAIL - 1).collect::<String>()).into();
    }
    if !letter.redacted {
        row["redacted"] = Value::Null;
    }
    row
}

/// Everything that may be shown.
fn whole(delivery: &Delivery) -> Value {
    let mut shown = fields(&Letter::of(delivery));
    let properties = &delivery.properties;
    shown["properties"] = json!({
        "content_type": properties.content_type, "correlation_id": properties.correlation_id,
        "reply_to": properties.reply_to, "timestamp": properties.timestamp, "user_id": properties.user_id,
        "app_id": properties.app_id, "type": properties.kind,
    });
    let headers = dead_letter::shown_headers(delivery).map(|(name, value)| (name.to_owned(), Value::String(value)));
    shown["headers"] = Value::Object(headers.collect());
    let body = dead_letter::shown_body(delivery);
    shown["body"] = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
    shown
}

/// [`whole`] for people.
fn paper(letter: &Value) -> String {
    let mut text = String::new();
    for (title, field) in [
        ("id", "id"),
        ("command", "command"),
        ("message id", "message_id"),
        ("publisher", "publisher"),
        ("buried", "failed_at"),
        ("reason", "reason"),
        ("detail", "detail"),
        ("tries", "attempts"),
    ] {
        let _ = writeln!(text, "{title:<12}{}", word(&letter[field]));
    }
    if letter["redacted"] == true {
        text.push_str("redacted    yes: its plain secrets were taken out; it cannot be replayed\n");
    }
    for part in ["properties", "headers"] {
        for (name, value) in letter[part].as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            let _ = writeln!(text, "  {}: {}", ask::plain(name), word(value));
        }
    }
    match &letter["body"] {
        Value::String(body) => {
            let _ = writeln!(text, "{}", word(&body.as_str().into()));
        }
        body => {
            // JSON spells control characters out, but not all that a terminal obeys.
            for line in format!("{body:#}").lines() {
                let _ = writeln!(text, "{}", ask::plain(line));
            }
        }
    }
    text
}

/// A letter in a few words, for reports.
fn called(letter: &Letter) -> String {
    let message_id = letter.message_id.as_deref().unwrap_or("without message_id");
    word(&format!("{}  {} {message_id}", letter.id, letter.command).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{HeaderValue, Properties};

    fn delivery(body: &[u8]) -> Delivery {
        let headers = [
            ("x-regrant-reason", HeaderValue::from("invalid_body")),
            ("x-regrant-detail", HeaderValue::from("d".repeat(80).as_str())),
            ("x-regrant-failed-at", HeaderValue::from("2026-11-22T09:30:00.000Z")),
            ("note", HeaderValue::from("\u{1b}[2Jclear")),
            ("\u{1b}]0;title\u{7}", HeaderValue::from("named")),
        ];
        Delivery {
            tag: 1,
            routing_key: "user.put".into(),
            exchange: String::new(),
            body: body.to_vec(),
            properties: Properties {
                message_id: Some("m1".into()),
                user_id: Some("shop".into()),
                timestamp: Some(1_800_000_000),
                headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
                ..Properties::default()
            },
            redelivered: true,
        }
    }

    #[test]
    fn a_list_is_one_line_a_letter() {
        let row = row(&Letter::of(&delivery(b"{}")));
        let table = ask::table(&vec![row].into(), LISTED);
        assert_eq!(table.lines().count(), 2, "{table}");
        assert!(table.contains(&format!("{}…", "d".repeat(59))) && !table.contains("REDACTED"), "{table}");
    }

    #[test]
    fn a_letter_on_paper_has_everything_and_moves_no_cursor() {
        let text = paper(&whole(&delivery(br#"{"user":{"id":"ada"}}"#)));
        for part in
            ["id ", "user.put", "m1", "shop", "2026-11-22T09:30:00.000Z", &"d".repeat(80), "user_id: shop", "\"ada\""]
        {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains("title\u{fffd}: named"), "{text}");
        let text = paper(&whole(&delivery("{\"\u{9b}2Jkey\":\"\u{9b}31m\u{202e}red\"}".as_bytes())));
        assert!(text.contains("2Jkey") && !text.contains(['\u{9b}', '\u{202e}']), "{text}");
        let text = paper(&whole(&delivery(b"not\x1b[2Jjson")));
        assert!(text.contains("not") && !text.contains('\u{1b}'), "{text}");
    }
}
