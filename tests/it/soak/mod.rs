//! Many people, several daemons, and everything around them failing at random; afterwards nothing is lost and nothing
//! happened twice. What has to be true of each person is what was true of one who came before the faults.

mod chaos;
mod people;
mod tally;

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::broker::proxy::Proxy;
use crate::harness::{Plan, address, server, until_within};
use crate::smtp_server::SmtpServer;
use chaos::Chaos;
use people::{FOR_MAIL, People};

/// Daemons that run at once.
const REPLICAS: usize = 3;
/// People who are at it at once.
const AT_ONCE: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_everything_fails_nothing_is_lost_and_nothing_happens_twice() {
    soak(Duration::from_secs(20), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "script/soak runs it, for as long as it is asked to"]
async fn for_a_while() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let minutes = number("SOAK_MINUTES").expect("SOAK_MINUTES: a number of minutes");
    soak(Duration::from_secs(60 * minutes), number("SOAK_SEED").unwrap_or(1)).await;
}

async fn soak(length: Duration, seed: u64) {
    let database = Proxy::start(address(&server("DATABASE_URL"), 5432)).await;
    let broker = Proxy::before_the_broker().await;
    let plan = Plan::default()
        .database_address(&database.address)
        .broker_url(broker.url(""))
        .set("mail.smtp.timeout", "2s")
        // Cheap: it is not about hashing.
        .set("password.hashing.memory_kib", 8192)
        .set("password.hashing.time_cost", 1);
    let place = Arc::new(plan.prepare_with(SmtpServer::start().await).await);
    let mut chaos = Chaos::new(Arc::clone(&place), database, broker, seed);
    chaos.start_daemons(REPLICAS).await;
    let people = Arc::new(People::new(Arc::clone(&place)).await);
    let listening = people.listen().await;

    // Before anything fails.
    people.one(0).await;
    let (next, over) = (AtomicUsize::new(1), AtomicBool::new(false));
    let started = Instant::now();
    let crowd = (0..AT_ONCE).map(async |_| {
        while !over.load(Ordering::Relaxed) {
            people.one(next.fetch_add(1, Ordering::Relaxed)).await;
        }
    });
    let faults = async {
        chaos.rage(length).await;
        over.store(true, Ordering::Relaxed);
        chaos.calm().await
    };
    let (faults, _) = tokio::join!(faults, join_all(crowd));
    until_within(FOR_MAIL, "the last mails and events", async || {
        let waiting = place.count("emails where state = 'queued'").await + place.count("event_outbox").await;
        (waiting == 0).then_some(())
    })
    .await;
    let events = people.heard(listening).await;
    let count = next.load(Ordering::Relaxed);
    let tally = tally::take(&place, &people, &events, count).await;
    let mut report = format!("soak of {} s, seed {seed}, {REPLICAS} daemons\n", started.elapsed().as_secs());
    for (what, count) in faults.iter().chain(&tally.counts) {
        let _ = writeln!(report, "{count:>9} {what}");
    }
    for (what, of_whom) in [("LOST", &tally.lost), ("WRONG", &tally.wrong)] {
        let _ = writeln!(report, "{what}: {}", of_whom.len());
        for line in of_whom.iter().take(20) {
            let _ = writeln!(report, "  {line}");
        }
    }
    std::io::stdout().write_all(report.as_bytes()).unwrap();
    if !(tally.lost.is_empty() && tally.wrong.is_empty()) {
        let kept = format!("{}/soak-{seed}.log", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&kept, place.logs()).unwrap();
        panic!("lost or wrong, see above; what the daemons logged is in {kept}");
    }
    assert!(faults.values().sum::<usize>() > 5, "too quiet a time to say anything");
    assert!(count > AT_ONCE, "too few people to say anything");
}
