//! Whether the moment of an answer tells who has an account.
//!
//! Asks the running daemon for people who are known, unknown, throttled, blocked and so on, in random order, one at a time
//! and each person once, as an attacker would on a quiet night; and compares how long the answers took. Twice: with answers
//! that leave at once, as they would without `answer_after`, and with the defaults.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program to look at, with nobody to hand errors to")]

#[expect(dead_code, unused_imports, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/it/harness/mod.rs"]
mod harness;
mod measure;
mod people;
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/support/smtp_server/mod.rs"]
mod smtp_server;
mod statistics;
#[expect(dead_code, reason = "shared with the other benchmarks, which use the rest")]
#[path = "../support/mod.rs"]
mod support;

use serde_json::{Value, json};

use harness::{Place, Plan, until_true};
use measure::Sample;
use people::{Class, LOGIN, RESET};
use statistics::Comparison;
use support::asker::Asker;
use support::chart;
use support::options::{self, Options};
use support::processes;
use support::statistics::quantile;

/// One of the two ways of answering, and what came of it.
pub struct Panel {
    /// What was asked for.
    pub command: &'static str,
    /// How answers leave.
    pub mode: String,
    /// By class, the first of which the others are compared with.
    pub classes: Vec<(Class, Vec<f64>)>,
    /// The others against the first.
    pub comparisons: Vec<Comparison>,
}

#[tokio::main]
async fn main() {
    let known = [("samples", "300", "answers of each class that are measured, from 20")];
    let options = match Options::read("enumeration", &known, std::env::args().skip(1)) {
        Ok(options) if options::asked_for() => options,
        Ok(_) => return,
        Err(usage) => return eprint!("{usage}"),
    };
    let samples = options.get::<usize>("samples").max(20);
    let load = processes::load();
    let mut panels = Vec::new();
    for at_once in [true, false] {
        let mut plan = Plan::default().set("mail.transport", "file").set("password_reset.min_interval", "1h");
        if at_once {
            plan = plan.set("password_reset.answer_after", "0s").set("login.answer_after", "0s");
        }
        let mode = if at_once { "answered at once" } else { "answered after answer_after, the default" };
        panels.extend(run(plan.prepare().await, mode, samples).await);
    }
    // The same command's two panels beside each other.
    panels.sort_by_key(|panel| panel.command);
    let pictured: Vec<chart::Panel> = panels.iter().map(pictured).collect();
    std::fs::write(&options.plot, chart::distributions(&pictured)).unwrap();
    if options.json {
        println!("{:#}", shown(&panels, load));
    } else {
        print!("{}", statistics::table(&panels));
        println!("\n{}; load average before the first run: {load:.1}.", processes::machine());
        println!("The picture: {}", options.plot.display());
    }
}

async fn run(place: Place, mode: &str, samples: usize) -> Vec<Panel> {
    eprintln!("{mode}: making the people");
    let daemon = place.start().await;
    let client = place.client().await;
    // The first answers find caches cold and prepare statements: they do not count.
    let warm_up = samples / 10;
    for class in RESET.iter().chain(LOGIN) {
        people::make(&place, &client, *class, samples + warm_up).await;
    }
    until_true("mails and events to be out", async || {
        place.count("emails where state = 'queued'").await + place.count("event_outbox").await == 0
    })
    .await;
    place.run("analyze").await;
    let asker = Asker::connect(&place.prefix).await;
    let mut panels = Vec::new();
    for (command, classes) in [("password.reset.request", RESET), ("session.login", LOGIN)] {
        eprintln!("{mode}: {command}, {} answers", classes.len() * (samples + warm_up));
        let measured = measure::in_random_order(&asker, classes, samples + warm_up).await;
        panels.push(panel(command, mode, classes, &measured, warm_up));
    }
    assert_eq!(daemon.stop().await, 0);
    panels
}

fn panel(command: &'static str, mode: &str, classes: &[Class], measured: &[Sample], warm_up: usize) -> Panel {
    let of = |class: &Class| -> Vec<f64> {
        measured
            .iter()
            .filter(|sample| sample.class == *class)
            .skip(warm_up)
            .map(|sample| sample.milliseconds)
            .collect()
    };
    let classes: Vec<(Class, Vec<f64>)> = classes.iter().map(|class| (*class, of(class))).collect();
    let comparisons =
        classes.iter().skip(1).map(|(class, times)| statistics::compare(*class, times, &classes[0].1)).collect();
    Panel { command, mode: mode.to_owned(), classes, comparisons }
}

fn pictured(panel: &Panel) -> chart::Panel {
    let rows = panel.classes.iter().map(|(class, times)| (class.as_str().to_owned(), times.clone()));
    chart::Panel { title: format!("{}, {}", panel.command, panel.mode), unit: "ms", rows: rows.collect() }
}

fn shown(panels: &[Panel], load: f64) -> Value {
    let panels: Vec<Value> = panels
        .iter()
        .map(|panel| {
            let classes = panel.classes.iter().map(|(class, times)| {
                let [p25, p50, p75, p95] = [0.25, 0.5, 0.75, 0.95].map(|part| quantile(times, part));
                let comparison = panel.comparisons.iter().find(|comparison| comparison.class == *class);
                json!({
                    "class": class.as_str(), "samples": times.len(),
                    "p25_ms": p25, "median_ms": p50, "p75_ms": p75, "p95_ms": p95,
                    "later_than_reference": comparison.map(|c| c.later), "z": comparison.map(|c| c.z),
                })
            });
            json!({
                "command": panel.command, "mode": panel.mode, "reference": panel.classes[0].0.as_str(),
                "classes": classes.collect::<Vec<_>>(), "told_apart": statistics::told_apart(panel),
            })
        })
        .collect();
    json!({ "bench": "enumeration", "machine": processes::machine(), "load_before": load, "panels": panels })
}
