//! What needs a RabbitMQ that nobody else uses.

use std::time::{Duration, Instant};

use super::{Load, Plan, nothing_was_blamed, reason};
use crate::harness::{Client, Daemon, OwnServers, Place, until_true};

/// More than anybody has.
const DISK: &str = "900000000000000";

async fn start(servers: &OwnServers) -> (Place, Daemon, Client) {
    let (place, daemon) = Plan::default().servers(servers.urls()).start().await;
    let client = place.client().await;
    (place, daemon, client)
}

/// Waits until the daemon is ready, and says how long it took.
async fn recovered(daemon: &mut Daemon, what: &str, since: Instant) {
    daemon.wait_until_ready().await;
    eprintln!("{what}: ready after {:?}", since.elapsed());
}

#[tokio::test]
async fn the_node_is_stopped_started_and_killed_under_load() {
    let servers = OwnServers::take().await;
    let (place, mut daemon, client) = start(&servers).await;
    let load = Load::of(150, &client).await;

    load.ask(&client, 0..50).await;
    servers.rabbitmqctl(&["stop_app"]).await;
    daemon.wait_until_not_ready("broker").await;
    assert_eq!(daemon.get("/healthz").await.0, 200);
    servers.rabbitmqctl(&["start_app"]).await;
    recovered(&mut daemon, "the node was started again", Instant::now()).await;

    let client = place.client().await;
    load.ask(&client, 50..100).await;
    servers.stop("rabbitmq", "KILL").await;
    daemon.wait_until_not_ready("broker").await;
    servers.start().await;
    recovered(&mut daemon, "the node came back after a crash", Instant::now()).await;

    let client = place.client().await;
    let replies = load.ask(&client, 100..150).await;
    for correlation in replies {
        assert_eq!(client.reply(&correlation).await["ok"], true);
    }
    load.settle(&place, &mut daemon, &client).await;
    daemon.until_metric_at_least("regrant_reconnects_total", &["broker"], 2).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn connections_are_closed_by_an_operator_under_load() {
    let servers = OwnServers::take().await;
    let (place, mut daemon, client) = start(&servers).await;
    let load = Load::of(90, &client).await;
    // All connections but those of the tests: the daemon gives its own a name.
    let close = "[rabbit_networking:close_connection(Pid, \"for a test\") || \
                 [{pid, Pid}, {client_properties, Table}] <- rabbit_networking:connection_info_all([pid, client_properties]), \
                 lists:keymember(<<\"connection_name\">>, 1, Table)].";
    for round in 0..3 {
        load.ask(&client, round * 30..(round + 1) * 30).await;
        servers.rabbitmqctl(&["eval", close]).await;
        until_true("the loss to be noticed", async || {
            daemon.metric("regrant_reconnects_total", &["broker"]).await >= 3 * (i64::try_from(round).unwrap() + 1)
        })
        .await;
        recovered(&mut daemon, "connections were closed", Instant::now()).await;
    }
    assert!(daemon.log().contains("CONNECTION_FORCED"), "{}", daemon.log());
    load.settle(&place, &mut daemon, &client).await;
}

#[tokio::test]
async fn channels_are_closed_because_a_command_took_too_long() {
    let servers = OwnServers::take().await;
    // By default half an hour, looked at once a minute.
    let impatient =
        "application:set_env(rabbit, consumer_timeout, 700), application:set_env(rabbit, channel_tick_interval, 100).";
    let patient = "application:set_env(rabbit, consumer_timeout, 1800000), application:set_env(rabbit, channel_tick_interval, 60000).";
    servers.rabbitmqctl(&["eval", impatient]).await;
    let (place, mut daemon, client) = start(&servers).await;
    let load = Load::of(60, &client).await;
    for round in 0..2 {
        // Whoever holds a row makes its command wait.
        place.run("begin; select 1 from users where id = 'u7' or id = 'u40' for update").await;
        load.ask(&client, round * 30..(round + 1) * 30).await;
        until_true("channels to be closed", async || closed(&place) > round).await;
        place.run("commit").await;
    }
    servers.rabbitmqctl(&["eval", patient]).await;
    load.settle(&place, &mut daemon, &client).await;
}

/// How many channels RabbitMQ has closed for their slowness, by the daemon's log.
fn closed(place: &Place) -> usize {
    place.logs().matches("delivery acknowledgement on channel").count()
}

#[tokio::test]
async fn an_alarm_of_memory_or_disk_is_waited_for() {
    let servers = OwnServers::take().await;
    let (place, mut daemon, client) = start(&servers).await;
    let load = Load::of(60, &client).await;
    let alarms: [(&[&str], &[&str], &str); 2] = [
        (&["set_vm_memory_high_watermark", "0.000001"], &["set_vm_memory_high_watermark", "0.4"], "memory"),
        (&["set_disk_free_limit", DISK], &["set_disk_free_limit", "50000000"], "disk"),
    ];
    for (round, (raise, clear, name)) in alarms.into_iter().enumerate() {
        // Its commands are there when the alarm comes; their replies and events want to leave meanwhile.
        place.run("begin; lock table users in share mode").await;
        load.ask(&client, round * 30..(round + 1) * 30).await;
        servers.rabbitmqctl(raise).await;
        place.run("commit").await;
        until_true("the alarm to be told", async || reason(&daemon).await.contains("alarm")).await;
        assert!(reason(&daemon).await.contains(name), "{}", reason(&daemon).await);
        assert_eq!(daemon.get("/healthz").await.0, 200);
        daemon.until_metric("regrant_broker_connected", &[], 0).await;
        assert!(daemon.log().contains("RabbitMQ takes no messages at the moment"));
        // The work goes on: what was there is done, mailed and acknowledged.
        let sent = "emails where state = 'sent'";
        let done = i64::try_from(30 * (round + 1)).unwrap();
        until_true("the mails", async || place.count(sent).await == done).await;
        until_true("the acknowledgements", async || client.depth("commands.state").await == 0).await;
        let unsent = place.shell(&["send", "daemon.info", "--wait", "--timeout", "2"]).failure();
        assert!(unsent.contains("did not take the command within 2 s") && unsent.contains(name), "{unsent}");
        servers.rabbitmqctl(clear).await;
        recovered(&mut daemon, name, Instant::now()).await;
    }
    load.settle(&place, &mut daemon, &client).await;
    nothing_was_blamed(&daemon, &client).await;
    tokio::time::timeout(Duration::from_secs(60), daemon.stop()).await.unwrap();
}
