//! Sign-ins and passwords set by support: hashes a second, against nothing but Argon2 on all cores.

use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Command, NEW_PASSWORD, PASSWORD};
use crate::scene::{Kind, Scene, Worker};
use crate::support::chart::{self, Panel};
use crate::support::load;
use crate::support::options::{Known, Options};
use crate::support::report::{Report, Table};
use crate::support::statistics::{median, number};

pub const OPTIONS: &[Known] =
    &[("count", "600", "commands of each kind"), ("rounds", "3", "runs of each, taking turns")];

const COMMANDS: [&str; 2] = ["session.login", "password.set"];

pub async fn run(options: &Options) {
    let (count, rounds) = (options.get::<usize>("count"), options.get::<usize>("rounds"));
    let mut report = Report::begin("hash");
    let (mut bare, mut hashes, mut commands) = (Vec::new(), [const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    for round in 1..=rounds {
        bare.push(loop_without_anything(count));
        eprintln!("round {round} of {rounds}: nothing but Argon2: {:.0} hashes/s", bare[round - 1]);
        let scene = Scene::set(count).await;
        load::passwords(&scene.place).await;
        let worker = scene.launch(Kind::Daemon);
        for (n, command) in COMMANDS.into_iter().enumerate() {
            let (hashes_a_second, commands_a_second) = once(&scene, &worker, command, count).await;
            eprintln!("round {round} of {rounds}: {command}: {hashes_a_second:.0} hashes/s");
            hashes[n].push(hashes_a_second);
            commands[n].push(commands_a_second);
        }
        worker.stop().await;
    }
    let mut table = Table::new(
        format!("{count} commands waiting, {rounds} runs each: median (lowest to highest)"),
        &["hashes/s", "of the bare loop", "commands/s"],
    );
    let reference = median(&bare);
    let against = |rates: &[f64]| rates.iter().map(|rate| rate / reference).collect::<Vec<f64>>();
    table.row("nothing but Argon2", vec![bare.clone(), against(&bare), Vec::new()]);
    let mut rows = vec![("nothing but Argon2".to_owned(), bare)];
    for ((command, hashes), commands) in COMMANDS.into_iter().zip(hashes).zip(commands) {
        table.row(command, vec![hashes.clone(), against(&hashes), commands]);
        rows.push((command.to_owned(), hashes));
    }
    report.table(table);
    let panel = Panel { title: "hashes a second".to_owned(), unit: "", rows };
    report.finish(&chart::distributions(&[panel]), options);
}

/// Hashes a second with a thread for each core and today's default parameters.
fn loop_without_anything(count: usize) -> f64 {
    use argon2::{Algorithm, Argon2, Params, Version};
    let threads = available_parallelism().map_or(1, std::num::NonZero::get);
    let each = count.div_ceil(threads);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let params = Params::new(19_456, 2, 1, Some(32)).unwrap();
                let mut blocks = vec![argon2::Block::default(); params.block_count()];
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                let mut out = [0; 32];
                for _ in 0..each {
                    argon2
                        .hash_password_into_with_memory(b"password", b"some salt 16 byt", &mut out, &mut blocks)
                        .unwrap();
                }
            });
        }
    });
    number(each * threads) / start.elapsed().as_secs_f64()
}

/// Hashes and commands a second, from the first publish to the last reply.
async fn once(scene: &Scene, worker: &Worker, command: &str, count: usize) -> (f64, f64) {
    let Worker::Daemon(daemon) = worker else { unreachable!("only daemons hash") };
    let counter = async || daemon.metric("regrant_password_hash_seconds_count", &[]).await;
    let client = scene.place.client().await;
    let body = |n: usize| match command {
        "session.login" => json!({ "user": { "id": format!("p{n}") }, "password": PASSWORD }),
        _ => json!({ "user": { "id": format!("p{n}") }, "new_password": NEW_PASSWORD }),
    };
    let commands: Vec<Command> = (0..count).map(|n| Command::new(command, body(n))).collect();
    let before = counter().await;
    let start = Instant::now();
    let waiting = client.begin_all(&commands).await;
    for correlation in &waiting {
        // Asking after each costs nothing: the replies are noted as they come, in the order of the commands.
        while !client.has_reply(correlation) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let took = start.elapsed().as_secs_f64();
    for reply in join_all(waiting.iter().map(|correlation| client.reply(correlation))).await {
        assert_eq!(reply["ok"], true, "{reply}");
    }
    let hashes = usize::try_from(counter().await - before).unwrap();
    (number(hashes) / took, number(count) / took)
}
