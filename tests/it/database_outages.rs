//! PostgreSQL failing in every way that the tests can bring about: nothing is lost, nothing counts as a failure of a command,
//! the daemon says what is wrong and goes on by itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::broker::proxy::Proxy;
use crate::broker_outages::{flat, nothing_failed, publish};
use crate::harness::{
    Client, Command, Daemon, Load, Place, Plan, address, connect, nothing_was_blamed, server, until_true,
};

use crate::smtp_server::Step;

mod own_servers;

/// What `/readyz` says of the database.
async fn reason(daemon: &Daemon) -> String {
    let (_, body) = daemon.get("/readyz").await;
    let problems: Vec<Value> = serde_json::from_str(&body).unwrap();
    let of_database = problems.iter().find(|problem| problem["what"] == "database");
    of_database.and_then(|problem| problem["reason"].as_str()).unwrap_or_default().to_owned()
}

/// Waits until `/readyz` says so of the database.
async fn until_it_says(daemon: &Daemon, words: &str) {
    until_true(&format!("/readyz to say {words}"), async || reason(daemon).await.contains(words)).await;
}

/// Waits for good replies.
async fn answered(client: &Client, correlations: Vec<String>) {
    for correlation in correlations {
        let reply = client.reply(&correlation).await;
        assert_eq!(reply["ok"], true, "{reply}");
    }
}

/// Ends all of the daemon's sessions, and says how many there were.
async fn end_sessions(place: &Place) -> i64 {
    let ended = "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity \
                 where datname = current_database() and application_name = 'regrant'";
    place.value(ended).await
}

#[tokio::test]
async fn sessions_are_ended_under_load_again_and_again() {
    let (place, mut daemon) = Plan::default().start().await;
    let client = place.client().await;
    let load = Load::of(250, &client).await;
    for round in 0..5 {
        let asking = load.ask(&client, round * 50..(round + 1) * 50);
        let ending = async {
            let mut ended = 0;
            while ended == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                ended = end_sessions(&place).await;
            }
        };
        let (asked, ()) = tokio::join!(asking, ending);
        end_sessions(&place).await;
        let since = Instant::now();
        answered(&client, asked).await;
        eprintln!("sessions were ended: everything answered after {:?}", since.elapsed());
    }
    load.settle(&place, &mut daemon, &client).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_database_that_is_read_only_is_waited_for() {
    let (place, mut daemon) = Plan::default().start().await;
    let client = place.client().await;
    let load = Load::of(60, &client).await;
    let name: String = place.value("select current_database()::text").await;
    let set = |value: &str| format!("alter database {name} set default_transaction_read_only = {value}");
    for round in 0..3 {
        place.run(&set("on")).await;
        end_sessions(&place).await;
        let asked = load.ask(&client, round * 20..(round + 1) * 20).await;
        until_it_says(&daemon, "read-only").await;
        assert_eq!(daemon.get("/healthz").await.0, 200);
        place.run(&set("off")).await;
        // Sessions that began read-only stay so, unless the daemon replaces them.
        let since = Instant::now();
        answered(&client, asked).await;
        eprintln!("no longer read-only: everything answered after {:?}", since.elapsed());
    }
    load.settle(&place, &mut daemon, &client).await;
}

#[tokio::test]
async fn a_daemon_that_starts_on_a_read_only_database_waits() {
    let (place, daemon) = Plan::default().start().await;
    assert_eq!(daemon.stop().await, 0);
    let name: String = place.value("select current_database()::text").await;
    place.run(&format!("alter database {name} set default_transaction_read_only = on")).await;
    let mut daemon = place.launch();
    until_it_says(&daemon, "read-only").await;
    until_true("the log to say so", async || {
        daemon.log().lines().any(|line| line.contains("the database is away") && line.contains("read-only"))
    })
    .await;
    place.run(&format!("alter database {name} set default_transaction_read_only = off")).await;
    daemon.wait_until_ready().await;
    place.client().await.user("ada").await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_role_without_connections_is_waited_for() {
    let (place, mut daemon) = Plan::default().own_role().start().await;
    let client = place.client().await;
    let load = Load::of(60, &client).await;
    let role: String = place.value("select current_database()::text").await;
    for (round, limit) in [0, 3, 0].into_iter().enumerate() {
        place.run(&format!("alter role {role} connection limit {limit}")).await;
        end_sessions(&place).await;
        let asked = load.ask(&client, round * 20..(round + 1) * 20).await;
        if limit == 0 {
            until_it_says(&daemon, "too many connections").await;
            assert_eq!(daemon.get("/healthz").await.0, 200);
            place.run(&format!("alter role {role} connection limit -1")).await;
        }
        // With few it goes on, if slower.
        let since = Instant::now();
        answered(&client, asked).await;
        eprintln!("connection limit {limit}: everything answered after {:?}", since.elapsed());
        place.run(&format!("alter role {role} connection limit -1")).await;
    }
    load.settle(&place, &mut daemon, &client).await;
}

#[tokio::test]
async fn a_row_that_somebody_holds_delays_its_own_commands_and_no_others() {
    let (place, mut daemon) = Plan::default().start().await;
    let client = place.client().await;
    let load = Load::of(60, &client).await;
    let holder = connect(&place.database_url()).await;
    holder.batch_execute("begin; select 1 from users where id in ('u0', 'u1') for update").await.unwrap();
    let held = load.ask(&client, 0..2).await;
    let others = load.ask(&client, 2..60).await;
    answered(&client, others).await;
    // Longer than any statement waits for a lock, several times.
    until_true("several tries", async || place.logs().matches("outcome=\"postponed\"").count() >= 6).await;
    assert_eq!(daemon.get("/healthz").await.0, 200);
    assert_eq!(daemon.troubles().await, [""; 0], "the others are served");
    client.user("meanwhile").await;
    holder.batch_execute("commit").await.unwrap();
    let since = Instant::now();
    answered(&client, held).await;
    eprintln!("the rows are free: everything answered after {:?}", since.elapsed());
    load.settle(&place, &mut daemon, &client).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn commands_about_one_person_take_effect_in_their_order_although_their_batches_work_at_once() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.users(["held", "zoe"].map(str::to_owned)).await;
    let holder = connect(&place.database_url()).await;
    holder.batch_execute("begin; select 1 from users where id = 'held' for update").await.unwrap();
    // It waits for the first row, and has not locked the second yet.
    let users = [json!({ "id": "held" }), json!({ "id": "zoe" })];
    let first = client.begin(&Command::new("session.force_logout", json!({ "users": users }))).await;
    until_true("the batch to wait", async || place.waiting_for_locks().await > 0).await;
    let second = client.begin(&Command::new("user.block", json!({ "user": { "id": "zoe" } }))).await;
    // Long enough for a batch that does not wait for its turn.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let is_early = client.has_reply(&second);
    // What waited too long goes to the end of the lane.
    assert!(!is_early || daemon.log().contains("postponed"), "{}", daemon.log());
    // Others wait for nobody.
    client.user("stranger").await;
    holder.batch_execute("commit").await.unwrap();
    answered(&client, vec![first, second]).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_table_that_somebody_locks_stops_what_needs_it_and_is_named() {
    let (place, mut daemon) = Plan::default().start().await;
    let client = place.client().await;
    let load = Load::of(150, &client).await;
    let tables = ["users", "emails", "inbox"];
    for (round, table) in tables.into_iter().enumerate() {
        let holder = connect(&place.database_url()).await;
        holder.batch_execute(&format!("begin; lock table {table} in access exclusive mode")).await.unwrap();
        let asked = load.ask(&client, round * 50..(round + 1) * 50).await;
        until_it_says(&daemon, &format!("`{table}` is locked")).await;
        assert_eq!(daemon.get("/healthz").await.0, 200);
        tokio::time::sleep(Duration::from_secs(4)).await;
        holder.batch_execute("commit").await.unwrap();
        let since = Instant::now();
        answered(&client, asked).await;
        daemon.wait_until_ready().await;
        eprintln!("{table} is free: everything answered after {:?}", since.elapsed());
    }
    load.settle(&place, &mut daemon, &client).await;
}

#[tokio::test]
async fn results_of_mails_wait_for_a_locked_table_and_are_not_sent_again() {
    let (place, mut daemon) = Plan::default().set("log.level", "debug").start().await;
    let client = place.client().await;
    let load = Load::of(20, &client).await;
    place.mail.wait_at(Step::Content, Duration::from_secs(1));
    let asked = load.ask(&client, 0..20).await;
    until_true("a mail under way", async || place.count("emails where attempts > 0").await > 0).await;
    let holder = connect(&place.database_url()).await;
    holder.batch_execute("begin; lock table emails in access exclusive mode").await.unwrap();
    until_true("a result to wait", async || daemon.log().contains("the result of a mail waits")).await;
    place.mail.heal();
    holder.batch_execute("commit").await.unwrap();
    answered(&client, asked).await;
    load.settle(&place, &mut daemon, &client).await;
    assert!(mails_once(&place));
}

#[tokio::test]
async fn a_daemon_that_stops_gives_up_a_result_that_somebodys_lock_keeps_out() {
    let (place, daemon) = Plan::default().set("log.level", "debug").set("shutdown.timeout", "25s").start().await;
    let client = place.client().await;
    let load = Load::of(1, &client).await;
    // Long enough to take the lock meanwhile.
    place.mail.wait_at(Step::Content, Duration::from_secs(4));
    let asked = load.ask(&client, 0..1).await;
    until_true("a mail under way", async || place.count("emails where attempts > 0").await > 0).await;
    let holder = connect(&place.database_url()).await;
    holder.batch_execute("begin; select from emails for update").await.unwrap();
    answered(&client, asked).await;
    until_true("a result to wait", async || daemon.log().contains("the result of a mail waits")).await;
    assert_eq!(daemon.stop().await, 0, "long before its time is over");
    assert!(place.logs().contains("results of mails could not be written before the daemon ended"), "{}", place.logs());
}

/// Whether nobody got a mail twice.
fn mails_once(place: &Place) -> bool {
    let mut to: Vec<String> = crate::harness::mails(&place.mail).into_iter().map(|mail| mail.to).collect();
    let all = to.len();
    to.sort();
    to.dedup();
    all == to.len()
}

#[tokio::test]
async fn a_slow_database_makes_everything_slow_and_nothing_fail() {
    let proxy = Proxy::start(address(&server("DATABASE_URL"), 5432)).await;
    let (place, mut daemon) = Plan::default().database_address(&proxy.address).start().await;
    let client = place.client().await;
    let load = Load::of(40, &client).await;
    proxy.delay(Duration::from_millis(100));
    let since = Instant::now();
    let asked = load.ask(&client, 0..40).await;
    answered(&client, asked).await;
    eprintln!("100 ms a statement: 84 commands answered after {:?}", since.elapsed());
    assert_eq!(daemon.get("/healthz").await.0, 200);
    assert_eq!(daemon.troubles().await, [""; 0]);
    proxy.delay(Duration::ZERO);
    load.settle(&place, &mut daemon, &client).await;
    assert!(mails_once(&place));
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let (place, mut daemon) = Plan::default().start().await;
    let client = place.client().await;
    let load = Load::of(60, &client).await;
    // In PostgreSQL's own words; a file system that is really full takes a mount, and says the same.
    let full = [
        ("53100", "could not extend file \"base/16384/16397\": No space left on device"),
        ("53100", "could not write to file \"pg_wal/xlogtemp.1\": No space left on device"),
        ("53200", "out of shared memory"),
    ];
    for (round, (state, words)) in full.into_iter().enumerate() {
        place
            .run(&format!(
                "create or replace function disk_full() returns trigger language plpgsql as \
                 $$ begin raise exception using errcode = '{state}', message = '{words}'; end $$; \
                 create trigger disk_full before insert on activity for each row execute function disk_full()"
            ))
            .await;
        let asked = load.ask(&client, round * 20..(round + 1) * 20).await;
        until_it_says(&daemon, words).await;
        assert_eq!(daemon.get("/healthz").await.0, 200);
        daemon.until_metric("regrant_database_up", &[], 0).await;
        place.run("drop trigger disk_full on activity").await;
        let since = Instant::now();
        answered(&client, asked).await;
        daemon.wait_until_ready().await;
        eprintln!("{words}: everything answered after {:?}", since.elapsed());
    }
    load.settle(&place, &mut daemon, &client).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn memory_stays_flat_while_the_database_is_away_and_thousands_wait() {
    let proxy = Proxy::start(address(&server("DATABASE_URL"), 5432)).await;
    let (place, mut daemon) = Plan::default().database_address(&proxy.address).start().await;
    let client = place.client().await;
    client.users((0..200).map(|n| format!("w{n}"))).await;
    let before = daemon.metric("process_resident_memory_bytes", &[]).await;
    proxy.refuse(true);
    proxy.cut();
    daemon.wait_until_not_ready("database").await;
    publish(&client, 50_000).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let away = daemon.metric("process_resident_memory_bytes", &[]).await;
    assert!(client.depth("commands.state").await >= 50_000, "what waits, waits at the broker");
    proxy.refuse(false);
    daemon.wait_until_ready().await;
    until_true("some thousands to be done", async || place.count("users").await > 5000).await;
    let after = daemon.metric("process_resident_memory_bytes", &[]).await;
    flat("the database away, 50,000 wait", [before, away, after]);
    nothing_failed(&daemon).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_query_waits_for_a_locked_table_too() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.user("ada").await;
    place.run("begin; lock table users in access exclusive mode").await;
    let lookup = Command::new("user.get", json!({ "user": { "id": "ada" } }));
    let correlation = client.begin(&lookup).await;
    until_it_says(&daemon, "`users` is locked").await;
    place.run("commit").await;
    assert_eq!(client.reply(&correlation).await["ok"], true);
    nothing_was_blamed(&daemon, &client).await;
}
