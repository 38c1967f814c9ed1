//! `regrant dead-letters drop`: letters are deleted.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde_json::json;

use crate::cli::{Outcome, print};
use crate::lane::dead_letter::Letter;

use super::reader::Reader;
use super::{Act, called, named};

/// How many letters the question names.
const SHOWN: usize = 10;

/// Drops the letters that were named. With --all it asks first, and drops exactly those that the question was about.
///
/// # Errors
/// When nobody can be asked, or the connection is lost: what was not dropped stays.
pub async fn run(reader: &mut Reader<'_>, act: &Act, yes: bool) -> Outcome {
    let (mut chosen, mut shown) = (Vec::new(), Vec::new());
    let mut choose = |place, letter: Letter| {
        chosen.push((place, letter.id.clone()));
        if shown.len() < SHOWN {
            shown.push(called(&letter));
        }
    };
    if act.all {
        let filter = act.filter.at(crate::clock::now());
        let limit = act.limit.unwrap_or(usize::MAX);
        let mut count = 0;
        while count < limit
            && let Some((place, delivery)) = reader.next().await?
        {
            let letter = Letter::of(&delivery);
            if filter.lets_through(&letter) {
                count += 1;
                choose(place, letter);
            }
        }
    } else {
        for (place, delivery) in named(reader, &act.ids, &act.filter).await? {
            choose(place, Letter::of(&delivery));
        }
    }
    let sure = !act.all || chosen.is_empty() || act.dry_run || yes || confirmed(&shown, chosen.len()).await?;
    if !sure {
        print("nothing was dropped\n")?;
        return Ok(ExitCode::FAILURE);
    }
    if !act.dry_run {
        for (place, id) in &chosen {
            reader.remove(*place, id.clone()).await?;
        }
    }
    if act.json {
        print(&format!("{:#}\n", json!({ "dry_run": act.dry_run, "dropped": chosen.len() })))?;
    } else {
        print(&format!("{} {}\n", chosen.len(), if act.dry_run { "would be dropped" } else { "dropped" }))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks at the terminal.
async fn confirmed(shown: &[String], count: usize) -> Result<bool, String> {
    if !std::io::stdin().is_terminal() {
        return Err(format!(
            "{count} dead letters would be deleted for good; nobody can be asked here, so say --yes (or --dry-run). Nothing was done"
        ));
    }
    let mut said = std::io::stderr();
    for letter in shown {
        let _ = writeln!(said, "{letter}");
    }
    if count > shown.len() {
        let _ = writeln!(said, "and {} more", count - shown.len());
    }
    Ok(crate::cli::agreed(format!("Delete {count} for good?")).await)
}
