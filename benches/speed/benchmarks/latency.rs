//! Reset requests that come at a rate: the time from publishing until the mail is accepted.

use crate::scene::{Kind, Scene};
use crate::support::chart::{self, Panel};
use crate::support::load::Requests;
use crate::support::options::{Known, Options};
use crate::support::report::{Report, Table};
use crate::support::statistics::{median, number, quantile};

pub const OPTIONS: &[Known] = &[
    ("rates", "50,200,500,2000", "requests a second"),
    ("seconds", "8", "how long at each rate"),
    ("rounds", "3", "runs of each, taking turns"),
];

/// Requests that prepare statements and fill caches.
const WARM_UP: usize = 500;

/// A worker at a rate, over all rounds.
#[derive(Default)]
struct Found {
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// How long after the last request the last mail was accepted: large where the worker does not keep up.
    behind: Vec<f64>,
    all: Vec<f64>,
}

pub async fn run(options: &Options) {
    let rates: Vec<f64> = options.list("rates");
    let (seconds, rounds) = (options.get::<f64>("seconds"), options.get::<usize>("rounds"));
    let mut report = Report::begin("latency");
    let mut found: [Vec<Found>; 2] = [(); 2].map(|()| rates.iter().map(|_| Found::default()).collect());
    for round in 1..=rounds {
        for (kind, found) in Kind::BOTH.into_iter().zip(&mut found) {
            eprintln!("round {round} of {rounds}: {}", kind.as_str());
            once(kind, &rates, seconds, found).await;
        }
    }
    let [ceiling, daemon] = &found;
    for (n, rate) in rates.iter().enumerate() {
        let mut table = Table::new(
            format!("{rate} requests a second for {seconds} s, {rounds} runs each: milliseconds to SMTP acceptance"),
            &["p50", "p99", "p50 ratio", "p99 ratio", "last mail after last request"],
        );
        for (kind, found) in [(Kind::Ceiling, &ceiling[n]), (Kind::Daemon, &daemon[n])] {
            let against = |times: &[f64], reference: &[f64]| vec![median(times) / median(reference)];
            let ratios = [against(&found.p50, &ceiling[n].p50), against(&found.p99, &ceiling[n].p99)];
            let [p50, p99] = ratios;
            table.row(kind.as_str(), vec![found.p50.clone(), found.p99.clone(), p50, p99, found.behind.clone()]);
        }
        report.table(table);
    }
    let panels: Vec<Panel> = rates
        .iter()
        .enumerate()
        .map(|(n, rate)| Panel {
            title: format!("{rate} requests a second: to SMTP acceptance"),
            unit: "ms",
            rows: vec![("ceiling".to_owned(), ceiling[n].all.clone()), ("daemon".to_owned(), daemon[n].all.clone())],
        })
        .collect();
    report.finish(&chart::distributions(&panels), options);
}

async fn once(kind: Kind, rates: &[f64], seconds: f64, found: &mut [Found]) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "thousands")]
    let counts: Vec<usize> = rates.iter().map(|rate| (rate * seconds) as usize).collect();
    let scene = Scene::set(WARM_UP + counts.iter().sum::<usize>()).await;
    let mut requests = Requests::connect(&scene.place.prefix, false).await;
    let worker = scene.warm_up(kind, &requests, WARM_UP).await;
    let mut from = WARM_UP;
    for ((rate, count), found) in rates.iter().zip(counts).zip(found) {
        let people = from..from + count;
        from += count;
        let moments;
        (requests, moments) = requests.arrive(people.clone(), *rate, &scene.sink).await;
        scene.everybody(people.end).await;
        scene.settled(kind).await;
        let arrivals: Vec<f64> = people.map(|person| scene.sink.at(person).unwrap()).collect();
        let times: Vec<f64> = arrivals.iter().zip(&moments).map(|(came, asked)| (came - asked) * 1e3).collect();
        found.p50.push(quantile(&times, 0.5));
        found.p99.push(quantile(&times, 0.99));
        found.behind.push((quantile(&arrivals, 1.0) - quantile(&moments, 1.0)) * 1e3);
        assert!((number(times.len()) - number(count)).abs() < 1.0);
        found.all.extend(times);
    }
    worker.stop().await;
}
