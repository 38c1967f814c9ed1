//! RabbitMQ failing in every way that the tests can bring about: nothing is lost, nothing counts as a failure of a command,
//! the daemon says what is wrong and goes on by itself.

use std::time::Instant;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use serde_json::json;

use crate::broker::proxy::Proxy;
use crate::harness::{Client, Command, Daemon, Load, Place, Plan, nothing_was_blamed, server, until_true};

mod own_servers;

/// What `/readyz` says of the broker.
async fn reason(daemon: &Daemon) -> String {
    let (_, body) = daemon.get("/readyz").await;
    let problems: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
    let of_broker = problems.iter().find(|problem| problem["what"] == "broker");
    of_broker.and_then(|problem| problem["reason"].as_str()).unwrap_or_default().to_owned()
}

/// Publishes without waiting for each confirm: for thousands.
fn many(commands: usize) -> impl Iterator<Item = Command> {
    (0..commands).map(|n| {
        let id = format!("u{n}");
        let user = json!({ "id": id, "username": id, "email": format!("{id}@example.com") });
        Command::new("user.put", json!({ "user": user }))
    })
}

#[tokio::test]
async fn the_broker_is_unreachable_for_longer_than_any_back_off() {
    let proxy = Proxy::before_the_broker().await;
    let (place, mut daemon) = Plan::default().broker_url(proxy.url("")).start().await;
    let client = place.client().await;
    let load = Load::of(50, &client).await;
    load.ask(&client, 0..25).await;
    proxy.refuse(true);
    proxy.cut();
    daemon.wait_until_not_ready("broker").await;
    load.ask(&client, 25..50).await;
    // Two seconds are the longest pause between two tries.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    assert_eq!(daemon.troubles().await, ["broker"]);
    assert_eq!(daemon.get("/healthz").await.0, 200);
    daemon.until_metric("regrant_broker_connected", &[], 0).await;
    proxy.refuse(false);
    let back = Instant::now();
    daemon.wait_until_ready().await;
    eprintln!("the broker came back: ready after {:?}", back.elapsed());
    load.settle(&place, &mut daemon, &client).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn queues_that_are_deleted_under_the_daemon_are_declared_again() {
    let (place, mut daemon) = Plan::default().start().await;
    let client = place.client().await;
    let load = Load::of(60, &client).await;
    for (round, queue) in ["commands.state", "commands.credentials", "commands.queries"].into_iter().enumerate() {
        // What waits in it goes with it.
        client.until_depth(queue, 0).await;
        client.delete_queue(queue).await;
        // Published at once: what no lane takes for a moment must find its way there.
        load.ask(&client, round * 20..(round + 1) * 20).await;
    }
    load.settle(&place, &mut daemon, &client).await;
    assert_eq!(client.ok("user.get", json!({ "user": { "id": "u1" } })).await["user"]["id"], "u1");

    // Whoever buries something finds the queue missing, declares it, and loses nothing.
    client.delete_queue("dead").await;
    client.publish(Command::raw("user.put", "not JSON").id("bad")).await;
    until_true("the queue of dead letters", async || client.has_queue("dead").await).await;
    // A queue has its name a moment before it can be read.
    client.until_depth("dead", 1).await;
    assert_eq!(client.dead(1).await[0].message_id(), "bad");
    // So does whoever puts something aside for later.
    for queue in ["commands.unknown", "retry.1s", "retry.5s"] {
        client.delete_queue(queue).await;
    }
    client.user("late").await;
    daemon.wait_until_ready().await;
    assert_eq!(daemon.troubles().await, [""; 0]);
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_topology_declared_with_other_arguments_is_refused_with_what_to_do() {
    let place = Place::new().await;
    let queue = format!("{}.commands.queries", place.prefix);
    let connection =
        lapin::Connection::connect(&server("AMQP_URL"), lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let classic = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), classic, FieldTable::default()).await.unwrap();
    let mut daemon = place.launch();
    daemon.wait_until_not_ready("broker").await;
    until_true("the reason", async || reason(&daemon).await.contains(&queue)).await;
    let advice = format!("rabbitmqctl delete_queue {queue}");
    let said = reason(&daemon).await;
    assert!(said.contains(&advice) && said.contains("x-queue-type"), "{said}");
    assert!(daemon.log().contains(&advice), "{}", daemon.log());
    assert_eq!(daemon.get("/healthz").await.0, 200);
    let check = place.shell(&["check"]);
    assert_eq!(check.code, 1);
    assert!(check.out.contains(&advice), "{}", check.out);
    // What the advice says helps.
    place.client().await.delete_queue("commands.queries").await;
    daemon.wait_until_ready().await;
    place.client().await.user("ada").await;
}

#[tokio::test]
async fn memory_stays_flat_while_the_broker_is_away_and_thousands_wait() {
    let proxy = Proxy::before_the_broker().await;
    let (place, mut daemon) = Plan::default().broker_url(proxy.url("")).start().await;
    let client = place.client().await;
    client.users((0..200).map(|n| format!("w{n}"))).await;
    let before = daemon.metric("process_resident_memory_bytes", &[]).await;
    proxy.refuse(true);
    proxy.cut();
    daemon.wait_until_not_ready("broker").await;
    publish(&client, 10_000).await;
    let away = daemon.metric("process_resident_memory_bytes", &[]).await;
    proxy.refuse(false);
    daemon.wait_until_ready().await;
    until_true("some thousands to be done", async || place.count("users").await > 3000).await;
    let after = daemon.metric("process_resident_memory_bytes", &[]).await;
    flat("the broker away", [before, away, after]);
    nothing_failed(&daemon).await;
    assert_eq!(daemon.stop().await, 0);
}

/// Publishes this many profiles, in portions.
pub async fn publish(client: &Client, commands: usize) {
    let mut commands = many(commands);
    loop {
        let some: Vec<Command> = commands.by_ref().take(2000).collect();
        if some.is_empty() {
            return;
        }
        client.publish_all(some).await;
    }
}

/// Generous: it is to catch memory that grows with what waits.
pub fn flat(what: &str, bytes: [i64; 3]) {
    let [before, during, after] = bytes.map(|bytes| bytes / 1_048_576);
    eprintln!("resident memory in MiB, {what}: {before} before, {during} during, {after} after");
    assert!(during <= before + 40 && after <= before + 80, "{before} {during} {after}");
}

/// For a daemon that has more to do.
pub async fn nothing_failed(daemon: &Daemon) {
    for outcome in ["retried", "buried", "invalid", "rejected"] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(daemon.metric("regrant_commands_total", &[&label]).await, 0, "{outcome}");
    }
}
