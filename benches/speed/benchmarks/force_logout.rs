//! One command that signs a thousand people out everywhere, against nothing but the changes to their rows.

use std::time::Instant;

use serde_json::{Value, json};
use tokio_postgres::types::ToSql;

use crate::harness::connect;
use crate::scene::{Kind, Scene};
use crate::support::asker::Asker;
use crate::support::chart::{self, Panel};
use crate::support::load;
use crate::support::options::{Known, Options};
use crate::support::report::{Report, Table};
use crate::support::statistics::{median, number};

pub const OPTIONS: &[Known] = &[
    ("people", "1000", "people that one command names, at most 1000"),
    ("sessions", "5", "open sessions of each"),
    ("commands", "4", "commands in each run, one after another"),
    ("rounds", "5", "runs of each, taking turns"),
];

/// What must happen to the rows, whoever does it.
const ROWS: [&str; 2] = [
    "update sessions set ended_at = now(), end_reason = 'forced' where user_id = any($1) and ended_at is null",
    "update users set session_epoch = session_epoch + 1, updated_at = now() where id = any($1)",
];

/// Who does it, in the order in which they take turns.
const WHO: [&str; 2] = ["rows only", "daemon"];

/// Commands of each that prepare statements and fill caches.
const WARM_UP: usize = 1;

/// What one of them needed, a value for each run.
#[derive(Default)]
struct Found {
    /// Sessions a second, from the first command to the last answer.
    rate: Vec<f64>,
    /// Microseconds of a core for each session: the daemon, PostgreSQL, RabbitMQ.
    cpu: [Vec<f64>; 3],
    /// Milliseconds of each command.
    times: Vec<f64>,
    medians: Vec<f64>,
}

pub async fn run(options: &Options) {
    let [people, sessions, commands, rounds] =
        ["people", "sessions", "commands", "rounds"].map(|name| options.get::<usize>(name));
    let mut report = Report::begin("force-logout");
    // Nobody is signed out twice.
    let groups = WHO.len() * (WARM_UP + rounds * commands);
    let scene = Scene::set(people * groups).await;
    load::sessions(&scene.place, sessions).await;
    let daemon = scene.launch(Kind::Daemon);
    let workers = [Worker::rows(&scene).await, Worker::Daemon(Asker::connect(&scene.place.prefix).await.into())];
    // Those who are named together are all over the table, as in life.
    let mut groups = (0..groups)
        .map(|group| Group { people: (0..people).map(|n| format!("p{}", n * groups + group)).collect(), sessions });
    for worker in &workers {
        for group in groups.by_ref().take(WARM_UP) {
            worker.sign_out(&group).await;
        }
    }
    let mut found: [Found; 2] = Default::default();
    for round in 1..=rounds {
        for ((worker, found), who) in workers.iter().zip(&mut found).zip(WHO) {
            scene.settled(Kind::Daemon).await;
            let cpu = || [daemon.cpu(), scene.servers.postgres(), scene.servers.broker()];
            let before = cpu();
            let mut times = Vec::with_capacity(commands);
            for group in groups.by_ref().take(commands) {
                times.push(worker.sign_out(&group).await);
            }
            scene.settled(Kind::Daemon).await;
            let all = number(commands * people * sessions);
            for (found, (after, before)) in found.cpu.iter_mut().zip(cpu().into_iter().zip(before)) {
                found.push((after - before) / all * 1e6);
            }
            eprintln!("round {round} of {rounds}: {who}: {:.0} ms a command", median(&times));
            found.rate.push(all / times.iter().sum::<f64>() * 1e3);
            found.medians.push(median(&times));
            found.times.extend(times);
        }
    }
    daemon.stop().await;
    tell(&mut report, &found, people, sessions, rounds);
    report.note(
        "The daemon's times are from publishing to the reply, those of the rows from `begin` to the end of `commit`.",
    );
    let rows = WHO.iter().zip(found).map(|(who, found)| ((*who).to_owned(), found.times)).collect();
    let title = format!("{people} people with {sessions} sessions each signed out by one command");
    report.finish(&chart::distributions(&[Panel { title, unit: "ms", rows }]), options);
}

fn tell(report: &mut Report, found: &[Found; 2], people: usize, sessions: usize, rounds: usize) {
    let mut rates = Table::new(
        format!(
            "One command for {people} people with {sessions} sessions each, {rounds} runs each: median (lowest to highest)"
        ),
        &["milliseconds", "sessions/s", "of rows only"],
    );
    let mut costs =
        Table::new("Microseconds of a core for each session", &["daemon", "PostgreSQL", "RabbitMQ", "together"]);
    for (who, of) in WHO.iter().zip(found) {
        // Each run against the one right before it.
        let ratio = of.rate.iter().zip(&found[0].rate).map(|(rate, reference)| rate / reference).collect();
        rates.row(*who, vec![of.medians.clone(), of.rate.clone(), ratio]);
        let together = (0..rounds).map(|round| of.cpu.iter().map(|cpu| cpu[round]).sum()).collect();
        let mut cells = of.cpu.to_vec();
        cells.push(together);
        costs.row(*who, cells);
    }
    report.table(rates);
    report.table(costs);
}

/// People who are signed out together.
struct Group {
    people: Vec<String>,
    /// Open ones of each.
    sessions: usize,
}

enum Worker {
    Rows { sql: tokio_postgres::Client, statements: Vec<tokio_postgres::Statement> },
    Daemon(Box<Asker>),
}

impl Worker {
    async fn rows(scene: &Scene) -> Self {
        let sql = connect(&scene.place.database_url()).await;
        let mut statements = Vec::new();
        for statement in ROWS {
            statements.push(sql.prepare(statement).await.unwrap());
        }
        Self::Rows { sql, statements }
    }

    /// Signs them out everywhere; the milliseconds that took.
    async fn sign_out(&self, group: &Group) -> f64 {
        match self {
            Self::Daemon(asker) => {
                let users: Vec<Value> = group.people.iter().map(|id| json!({ "id": id })).collect();
                let (answer, took) = asker.ask("session.force_logout", &json!({ "users": users })).await;
                let ended = answer["result"]["ended"].as_array().unwrap_or_else(|| panic!("refused: {answer}"));
                assert_eq!(ended.len(), group.people.len());
                assert!(ended.iter().all(|ended| ended["sessions"] == group.sessions), "{answer}");
                took
            }
            Self::Rows { sql, statements } => {
                let people: [&(dyn ToSql + Sync); 1] = [&group.people];
                let start = Instant::now();
                // One round trip: futures of one connection leave in the order in which they are first polled.
                let (begun, ended, raised, committed) = tokio::join!(
                    biased;
                    sql.batch_execute("begin"),
                    sql.execute(&statements[0], &people),
                    sql.execute(&statements[1], &people),
                    sql.batch_execute("commit"),
                );
                let took = start.elapsed().as_secs_f64() * 1e3;
                begun.unwrap();
                committed.unwrap();
                assert_eq!(ended.unwrap(), (group.people.len() * group.sessions) as u64);
                assert_eq!(raised.unwrap(), group.people.len() as u64);
                took
            }
        }
    }
}
