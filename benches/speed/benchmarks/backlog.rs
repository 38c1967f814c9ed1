//! Many reset requests wait: how fast and in how much memory they are worked off, and how long a sign-in takes meanwhile.

use std::time::Duration;

use serde_json::json;

use crate::harness::PASSWORD;
use crate::scene::{Kind, Scene, Worker};
use crate::support::asker::Asker;
use crate::support::chart::{self, Lines};
use crate::support::load::{self, Requests};
use crate::support::options::{Known, Options};
use crate::support::processes;
use crate::support::report::{Report, Table};
use crate::support::statistics::{number, quantile};

pub const OPTIONS: &[Known] = &[("count", "200000", "requests that wait")];

/// What is looked at once a second.
struct Moment {
    /// Seconds since the start.
    at: f64,
    resident: f64,
    mails: f64,
    /// Milliseconds of a sign-in.
    login: f64,
}

pub async fn run(options: &Options) {
    let count: usize = options.get("count");
    let mut report = Report::begin("backlog");
    let scene = Scene::set(count).await;
    allow_sign_in(&scene).await;
    eprintln!("loading {count} requests");
    Requests::connect(&scene.place.prefix, true).await.publish_all(0..count).await;
    let asker = Asker::connect(&scene.place.prefix).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let worker = scene.launch(Kind::Daemon);
    let moments = watch(&scene, &worker, &asker, count).await;
    scene.settled(Kind::Daemon).await;
    let peak = processes::peak(worker.pid());
    let idle: Vec<f64> = {
        let mut idle = Vec::new();
        for _ in 0..10 {
            idle.push(sign_in(&asker, 0).await);
        }
        idle
    };
    worker.stop().await;

    let arrivals = scene.sink.all();
    let rate = (number(count) - 1.0) / (quantile(&arrivals, 1.0) - quantile(&arrivals, 0.0));
    let mut table = Table::new(format!("{count} reset requests wait"), &["mails/s", "peak MiB"]);
    table.row("daemon", vec![vec![rate], vec![peak]]);
    report.table(table);
    let (early, late) = moments.split_at(moments.len() / 2);
    let memory = |moments: &[Moment]| moments.iter().map(|moment| moment.resident).collect::<Vec<f64>>();
    let mut table = Table::new("MiB of memory, looked at once a second: median (lowest to highest)", &["MiB"]);
    for (part, moments) in [("first half", early), ("second half", late)] {
        table.row(part, vec![memory(moments)]);
    }
    report.table(table);
    let mut table = Table::new("A sign-in once a second, in milliseconds", &["median", "highest"]);
    let during: Vec<f64> = moments.iter().map(|moment| moment.login).collect();
    for (when, times) in [("meanwhile", &during), ("afterwards", &idle)] {
        table.row(when, vec![vec![quantile(times, 0.5)], vec![quantile(times, 1.0)]]);
    }
    report.table(table);
    let line = |title: &str, unit, value: &dyn Fn(&Moment) -> f64| Lines {
        title: title.to_owned(),
        unit,
        series: vec![("daemon".to_owned(), moments.iter().map(|moment| (moment.at, value(moment))).collect())],
    };
    let pictures = [
        line("memory of the daemon", "MiB", &|moment| moment.resident),
        line("mails accepted", "", &|moment| moment.mails),
        line("a sign-in", "ms", &|moment| moment.login),
    ];
    report.finish(&chart::lines(&pictures), options);
}

async fn watch(scene: &Scene, worker: &Worker, asker: &Asker, count: usize) -> Vec<Moment> {
    let start = scene.sink.now();
    let mut moments: Vec<Moment> = Vec::new();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    // The first tick is at once.
    second.tick().await;
    while scene.sink.people() < count {
        second.tick().await;
        let moment = Moment {
            at: scene.sink.now() - start,
            resident: processes::resident(worker.pid()),
            mails: number(scene.sink.people()),
            login: sign_in(asker, moments.len()).await,
        };
        let stuck = moments.iter().rev().nth(30).is_some_and(|before| before.mails >= moment.mails);
        assert!(!stuck, "{} of {count} mails, and no more come", moment.mails);
        moments.push(moment);
    }
    moments
}

/// People who can sign in, so many that none has too many sessions.
const WITH_PASSWORD: usize = 100;

async fn allow_sign_in(scene: &Scene) {
    let hash = load::password_hash().await;
    let statement = format!(
        "insert into users (id, username, username_key, email, email_key, site, password_hash, created_at, updated_at) \
         select name, name, name, name || '@login.example', name || '@login.example', 'default', '{hash}', now(), now() \
         from (select 'login' || n as name from generate_series(0, {WITH_PASSWORD} - 1) as n) as people"
    );
    scene.place.run(&statement).await;
}

/// How long it takes, in milliseconds.
async fn sign_in(asker: &Asker, n: usize) -> f64 {
    let user = json!({ "username": format!("login{}", n % WITH_PASSWORD) });
    let (answer, took) = asker.ask("session.login", &json!({ "user": user, "password": PASSWORD })).await;
    assert_eq!(answer["ok"], true, "{answer}");
    took
}
