//! `regrant dead-letters replay`: letters become commands again.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::app;
use crate::broker::Delivery;
use crate::cli::{Outcome, print};
use crate::config::Config;
use crate::keys::KeyRing;
use crate::lane::dead_letter::{self, Letter};

use super::reader::{Place, Reader};
use super::{Act, called, named};

/// Letters published together.
const TOGETHER: usize = 200;
/// Letters that stay and that a report names; the others are counted.
const NAMED: usize = 1000;

/// What turns letters into commands.
struct Replay {
    exchange: String,
    keys: Result<KeyRing, String>,
    dry_run: bool,
}

/// What became of letters.
#[derive(Default)]
struct Report {
    replayed: usize,
    /// Letters that cannot be replayed.
    refused: Stay,
    /// Letters that the broker did not take.
    failed: Stay,
}

/// Letters that stay, each with the reason.
#[derive(Default)]
struct Stay {
    count: usize,
    named: Vec<(Letter, String)>,
}

impl Stay {
    fn add(&mut self, letter: Letter, why: String) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push((letter, why));
        }
    }

    fn json(&self) -> Vec<Value> {
        let one = |(letter, why): &(Letter, String)| json!({ "id": letter.id, "message_id": letter.message_id, "command": letter.command, "why": why });
        self.named.iter().map(one).collect()
    }
}

/// Replays the letters that were named, or all that match.
///
/// # Errors
/// When the broker cannot be asked. What could not be replayed is in the report, and in the exit code.
pub async fn run(reader: &mut Reader<'_>, act: &Act, config: &Config) -> Outcome {
    let replay = Replay {
        exchange: app::topology(config).commands_exchange(),
        keys: KeyRing::load(&config.keys.file).map_err(|e| e.to_string()),
        dry_run: act.dry_run,
    };
    let mut report = Report::default();
    if act.all {
        let filter = act.filter.at(crate::clock::now());
        let limit = act.limit.unwrap_or(usize::MAX);
        let (mut chunk, mut chosen) = (Vec::with_capacity(TOGETHER), 0);
        while chosen < limit
            && let Some((place, delivery)) = reader.next().await?
        {
            if filter.lets_through(&Letter::of(&delivery)) {
                chosen += 1;
                chunk.push((place, delivery));
            }
            if chunk.len() == TOGETHER {
                replay.send(reader, &chunk, &mut report).await?;
                chunk.clear();
            }
        }
        replay.send(reader, &chunk, &mut report).await?;
    } else {
        let found = named(reader, &act.ids, &act.filter).await?;
        for chunk in found.chunks(TOGETHER) {
            replay.send(reader, chunk, &mut report).await?;
        }
    }
    finish(&report, act)
}

impl Replay {
    /// Publishes, and removes from the queue what the broker has confirmed. Killed in between, a letter stays although its
    /// command is on its way: replayed once more, it is answered as the duplicate that it is.
    async fn send(
        &self,
        reader: &mut Reader<'_>,
        chunk: &[(Place, Delivery)],
        report: &mut Report,
    ) -> Result<(), String> {
        let (mut messages, mut of) = (Vec::with_capacity(chunk.len()), Vec::with_capacity(chunk.len()));
        for (place, delivery) in chunk {
            let speaks = match delivery.properties.user_id.as_deref() {
                Some(user) => reader.client.may_speak_for(user).await,
                None => true,
            };
            let keys = self.keys.as_ref().map_err(String::as_str);
            match dead_letter::replay(delivery, &self.exchange, keys, speaks) {
                Ok(message) => {
                    messages.push(message);
                    of.push((*place, delivery));
                }
                Err(why) => report.refused.add(Letter::of(delivery), why.to_string()),
            }
        }
        if self.dry_run {
            report.replayed += messages.len();
            return Ok(());
        }
        for ((place, delivery), sent) in of.into_iter().zip(reader.client.publish_all(&messages).await) {
            match sent {
                Ok(()) => {
                    reader.remove(place, Letter::of(delivery).id).await?;
                    report.replayed += 1;
                }
                Err(error) => report.failed.add(Letter::of(delivery), error.to_string()),
            }
        }
        Ok(())
    }
}

fn finish(report: &Report, act: &Act) -> Outcome {
    if act.json {
        let report = json!({
            "dry_run": act.dry_run, "replayed": report.replayed,
            "refused": report.refused.count, "failed": report.failed.count,
            "not_replayed": report.refused.json().into_iter().chain(report.failed.json()).collect::<Vec<_>>(),
        });
        print(&format!("{report:#}\n"))?;
    } else {
        print(&said(report, act.dry_run))?;
    }
    // With --all, letters whose secrets were taken out are expected and skipped; one that was named is a failure.
    let bad = report.failed.count > 0 || !act.all && report.refused.count > 0;
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn said(report: &Report, dry_run: bool) -> String {
    let mut text = String::new();
    for (letter, why) in report.refused.named.iter().chain(&report.failed.named) {
        let _ = writeln!(text, "{}: {why}", called(letter));
    }
    let done = if dry_run { "would be replayed" } else { "replayed" };
    let _ = write!(text, "{} {done}", report.replayed);
    for (stay, what) in [(&report.refused, "cannot be replayed"), (&report.failed, "not taken by the broker, kept")] {
        if stay.count > 0 {
            let _ = write!(text, ", {} {what}", stay.count);
        }
    }
    text.push('\n');
    text
}
