//! A daemon without work: its share of a core, and its memory.

use std::time::Duration;

use crate::scene::{Kind, Scene};
use crate::support::chart::{self, Lines};
use crate::support::load::Requests;
use crate::support::options::{Known, Options};
use crate::support::processes;
use crate::support::report::{Report, Table};
use crate::support::statistics::number;

pub const OPTIONS: &[Known] = &[("seconds", "30", "how long")];

/// Requests before it is left alone: a daemon that never worked is smaller than one that did.
const BEFORE: usize = 1000;

pub async fn run(options: &Options) {
    let seconds: usize = options.get("seconds");
    let mut report = Report::begin("idle");
    let scene = Scene::set(BEFORE).await;
    let requests = Requests::connect(&scene.place.prefix, true).await;
    let fresh = scene.launch(Kind::Daemon);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after_start = watch(fresh.pid(), seconds).await;
    fresh.stop().await;
    let worked = scene.warm_up(Kind::Daemon, &requests, BEFORE).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after_work = watch(worked.pid(), seconds).await;
    worked.stop().await;
    let mut table = Table::new(
        format!("{seconds} s without work: median (lowest to highest) of what was seen each second"),
        &["% of a core, on average", "% of a core", "MiB"],
    );
    let mut pictures = [("a daemon without work: time", "% of a core"), ("a daemon without work: memory", "MiB")]
        .map(|(title, unit)| Lines { title: title.to_owned(), unit, series: Vec::new() });
    for (when, watched) in [("after its start", after_start), (&*format!("after {BEFORE} requests"), after_work)] {
        let shares: Vec<f64> = watched.iter().map(|(share, _)| *share).collect();
        let average = shares.iter().sum::<f64>() / number(shares.len());
        let memory: Vec<f64> = watched.iter().map(|(_, memory)| *memory).collect();
        table.row(when, vec![vec![average], shares.clone(), memory.clone()]);
        for (picture, values) in pictures.iter_mut().zip([shares, memory]) {
            let points = values.into_iter().enumerate().map(|(second, value)| (number(second + 1), value));
            picture.series.push((when.to_owned(), points.collect()));
        }
    }
    report.table(table);
    report.finish(&chart::lines(&pictures), options);
}

/// Each second: percent of a core, and MiB.
async fn watch(pid: u32, seconds: usize) -> Vec<(f64, f64)> {
    let mut watched = Vec::with_capacity(seconds);
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.tick().await;
    let mut before = processes::fine_cpu(pid);
    for _ in 0..seconds {
        tick.tick().await;
        let now = processes::fine_cpu(pid);
        watched.push(((now - before) * 100.0, processes::resident(pid)));
        before = now;
    }
    watched
}
