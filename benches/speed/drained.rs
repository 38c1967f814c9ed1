//! A queue that is emptied, and what that took.

use std::time::Duration;

use crate::scene::{Kind, Scene};
use crate::support::load::Requests;
use crate::support::processes;
use crate::support::statistics::{number, quantile};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub kind: Kind,
    /// How many of the kind work side by side.
    pub workers: usize,
    /// Requests that wait.
    pub count: usize,
    /// People in the database.
    pub population: usize,
}

/// One run.
pub struct Run {
    /// Mails a second, from the first to the last.
    pub rate: f64,
    /// Microseconds of a core for each mail: the worker, PostgreSQL, RabbitMQ, the sink.
    pub cpu: [f64; 4],
    /// MiB of a worker at its highest.
    pub peak: f64,
    /// Of a mail.
    pub bytes: f64,
    /// Mails that came twice.
    pub repeated: usize,
    /// Mails accepted after so many seconds.
    pub progress: Vec<(f64, f64)>,
}

impl Run {
    /// Runs a case.
    pub async fn of(case: Case) -> Self {
        let Case { kind, workers, count, population } = case;
        let scene = Scene::set(population).await;
        let requests = Requests::connect(&scene.place.prefix, true).await;
        // Those who ask are all over the table, as in life.
        requests.publish_all((0..count).map(|n| n * (population / count))).await;
        // The broker still tidies up after that many messages.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = scene.cpu();
        let workers: Vec<_> = (0..workers).map(|_| scene.launch(kind)).collect();
        scene.everybody(count).await;
        scene.settled(kind).await;
        let after = scene.cpu();
        let mails = number(count);
        let own: f64 = workers.iter().map(crate::scene::Worker::cpu).sum();
        let mut cpu = [own / mails * 1e6; 4];
        for (cost, (after, before)) in cpu[1..].iter_mut().zip(after.into_iter().zip(before)) {
            *cost = (after - before) / mails * 1e6;
        }
        let peak = workers.iter().map(|worker| processes::peak(worker.pid())).fold(0.0, f64::max);
        for worker in workers {
            worker.stop().await;
        }
        let arrivals = scene.sink.all();
        let (first, last) = (quantile(&arrivals, 0.0), quantile(&arrivals, 1.0));
        let progress = arrivals.iter().enumerate().step_by((count / 200).max(1));
        let progress = progress.map(|(n, at)| (at - first, number(n + 1))).collect();
        Self {
            rate: (mails - 1.0) / (last - first),
            cpu,
            peak,
            bytes: number(scene.sink.bytes()) / number(scene.sink.messages()),
            repeated: scene.sink.messages() - count,
            progress,
        }
    }

    /// Runs several cases, each so often, taking turns.
    pub async fn of_all(cases: &[(String, Case)], rounds: usize) -> Vec<Vec<Self>> {
        let mut runs: Vec<Vec<Self>> = cases.iter().map(|_| Vec::new()).collect();
        for round in 1..=rounds {
            for ((label, case), runs) in cases.iter().zip(&mut runs) {
                let run = Self::of(*case).await;
                eprintln!("round {round} of {rounds}: {label} {:.0} mails/s", run.rate);
                runs.push(run);
            }
        }
        runs
    }
}
