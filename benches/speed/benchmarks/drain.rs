//! Reset requests that wait in the queue, until the last mail is accepted.

use std::time::Duration;

use crate::scene::{Kind, Scene};
use crate::support::chart::{self, Lines};
use crate::support::load::Requests;
use crate::support::options::{Known, Options};
use crate::support::processes;
use crate::support::report::{Report, Table};
use crate::support::statistics::{median, number, quantile};

pub const OPTIONS: &[Known] =
    &[("count", "30000", "requests that wait"), ("rounds", "3", "runs of each, taking turns")];

/// One run.
struct Run {
    /// Mails a second, from the first to the last.
    rate: f64,
    /// Microseconds of a core for each mail: the worker, PostgreSQL, RabbitMQ, the sink.
    cpu: [f64; 4],
    /// MiB of the worker at its highest.
    peak: f64,
    bytes: f64,
    repeated: usize,
    /// Mails accepted after so many seconds.
    progress: Vec<(f64, f64)>,
}

pub async fn run(options: &Options) {
    let (count, rounds) = (options.get("count"), options.get::<usize>("rounds"));
    let mut report = Report::begin("drain");
    let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        for (kind, runs) in Kind::BOTH.into_iter().zip(&mut runs) {
            let run = once(kind, count).await;
            eprintln!("round {round} of {rounds}: {} {:.0} mails/s", kind.as_str(), run.rate);
            runs.push(run);
        }
    }
    let rates: Vec<Vec<f64>> = runs.iter().map(|runs| runs.iter().map(|run| run.rate).collect()).collect();
    let ceiling = median(&rates[0]);
    let mut table = Table::new(
        format!("{count} reset requests from the queue to SMTP, {rounds} runs each: median (lowest to highest)"),
        &["mails/s", "of the ceiling", "peak MiB", "bytes a mail"],
    );
    let mut costs = Table::new(
        "Microseconds of a core for each mail",
        &["worker", "PostgreSQL", "RabbitMQ", "sink", "together", "cores busy"],
    );
    for ((kind, runs), rates) in Kind::BOTH.into_iter().zip(&runs).zip(&rates) {
        let of = |value: &dyn Fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<f64>>();
        let ratios = rates.iter().map(|rate| rate / ceiling).collect();
        table.row(kind.as_str(), vec![rates.clone(), ratios, of(&|run| run.peak), of(&|run| run.bytes)]);
        let mut cells: Vec<Vec<f64>> = (0..4).map(|who| of(&|run| run.cpu[who])).collect();
        cells.push(of(&|run| run.cpu.iter().sum()));
        cells.push(of(&|run| run.cpu.iter().sum::<f64>() * run.rate / 1e6));
        costs.row(kind.as_str(), cells);
    }
    report.table(table);
    report.table(costs);
    let repeated: usize = runs.iter().flatten().map(|run| run.repeated).sum();
    report.note(format!("Mails that came twice: {repeated}."));
    let series = Kind::BOTH.into_iter().zip(&runs).flat_map(|(kind, runs)| {
        runs.iter().enumerate().map(move |(n, run)| (format!("{} {}", kind.as_str(), n + 1), run.progress.clone()))
    });
    let picture =
        Lines { title: format!("{count} reset requests: mails accepted"), unit: "", series: series.collect() };
    report.finish(&chart::lines(&[picture]), options);
}

async fn once(kind: Kind, count: usize) -> Run {
    let scene = Scene::set(count).await;
    let requests = Requests::connect(&scene.place.prefix, true).await;
    requests.publish_all(0..count).await;
    // The broker still tidies up after that many messages.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = scene.cpu();
    let worker = scene.launch(kind);
    scene.everybody(count).await;
    scene.settled(kind).await;
    let after = scene.cpu();
    let mails = number(count);
    let mut cpu = [worker.cpu() / mails * 1e6; 4];
    for (cost, (after, before)) in cpu[1..].iter_mut().zip(after.into_iter().zip(before)) {
        *cost = (after - before) / mails * 1e6;
    }
    let peak = processes::peak(worker.pid());
    worker.stop().await;
    let arrivals = scene.sink.all();
    let (first, last) = (quantile(&arrivals, 0.0), quantile(&arrivals, 1.0));
    let progress = arrivals.iter().enumerate().step_by((count / 200).max(1));
    let progress = progress.map(|(n, at)| (at - first, number(n + 1))).collect();
    Run {
        rate: (mails - 1.0) / (last - first),
        cpu,
        peak,
        bytes: number(scene.sink.bytes()) / number(scene.sink.messages()),
        repeated: scene.sink.messages() - count,
        progress,
    }
}
