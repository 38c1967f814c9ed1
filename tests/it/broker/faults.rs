use std::process::Command;
use std::time::Duration;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use regrant::broker::{Change, Gone, Link, Outgoing, PublishError};

use super::proxy::Proxy;
use super::{Bench, amqp_url, fresh_prefix, ids, raw, take, topology, until, url, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_comes_back_and_what_was_not_acknowledged_comes_again() {
    let proxy = Proxy::before_the_broker().await;
    let bench = Bench::start(&proxy.url(""));
    let mut consumer = bench.state_consumer(5).await;
    bench.publish(0..5).await;
    let deliveries = take(&mut consumer, 5).await;
    consumer.acknowledger().ack_through(deliveries[1].tag).await.unwrap();
    // The ack has to get through before the cut: without it there is no room for another delivery.
    bench.publish(5..6).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), ["5"]);
    proxy.cut();
    let gone = within("the end", consumer.batch(10)).await;
    assert!(matches!(gone, Err(Gone::Lost(_))), "{gone:?}");
    assert!(consumer.acknowledger().ack(deliveries[2].tag).await.is_err());
    let mut consumer = bench.state_consumer(10).await;
    let again = take(&mut consumer, 4).await;
    assert_eq!(ids(&again), ["2", "3", "4", "5"]);
    assert!(again.iter().all(|delivery| delivery.redelivered));
    bench.publish(6..7).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), ["6"]);
    assert_eq!((bench.changed(Change::Lost), bench.changed(Change::Connected)), (3, 6));
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_administrator_closes_comes_back() {
    let bench = Bench::start(&amqp_url());
    let mut consumer = bench.state_consumer(10).await;
    bench.publish(0..1).await;
    until("all links", || bench.changed(Change::Connected) == 3).await;
    for pid in connections_named(&bench.prefix) {
        rabbitmqctl(&["close_connection", &pid, "for a test"]);
    }
    loop {
        match within("the end", consumer.batch(10)).await {
            Ok(_) => {}
            Err(Gone::Lost(reason)) => {
                assert!(reason.contains("CONNECTION_FORCED"), "{reason}");
                break;
            }
            Err(gone) => panic!("{gone}"),
        }
    }
    let mut consumer = bench.state_consumer(10).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), ["0"]);
    bench.publish(1..2).await;
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_under_way_when_the_connection_is_cut_are_unknown_or_not_sent_but_never_lost_in_silence() {
    let proxy = Proxy::before_the_broker().await;
    let bench = Bench::start(&proxy.url(""));
    bench.publish(0..1).await;
    until("all links", || bench.changed(Change::Connected) == 3).await;
    proxy.freeze(true);
    let messages: Vec<Outgoing> = (1..600).map(|id| bench.command(&id.to_string())).collect();
    let publisher = bench.broker.publisher();
    let publishing = tokio::spawn(async move { publisher.publish(messages).await });
    until("something to be under way", || proxy.holds_back()).await;
    // Time for the rest of what is sent before the first confirm.
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.cut();
    // Thawing before the cut is complete would let through what was held back.
    until("the loss to be noticed", || bench.changed(Change::Lost) == 3).await;
    proxy.freeze(false);
    let fates = within("the fates", publishing).await.unwrap();
    let unknown = fates.iter().filter(|fate| matches!(fate, Err(PublishError::Unknown(_)))).count();
    let unsent = fates.iter().filter(|fate| matches!(fate, Err(PublishError::Unavailable(_)))).count();
    // How much of the first batch got on its way is the machine's affair.
    assert!((1..=256).contains(&unknown), "{unknown}");
    assert_eq!(unknown + unsent, 599);
    bench.publish(600..601).await;
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_at_start_is_waited_for() {
    let proxy = Proxy::before_the_broker().await;
    proxy.refuse(true);
    let bench = Bench::start(&proxy.url(""));
    until("the problem", || bench.broker.problem().is_some_and(|problem| problem.contains("cannot be reached"))).await;
    assert!(!bench.broker.is_connected());
    let publisher = bench.broker.publisher().with_patience(Duration::from_millis(100));
    assert!(matches!(publisher.publish(vec![bench.command("0")]).await[..], [Err(PublishError::Unavailable(_))]));
    let refused = within("the reply to be given up", publisher.reply(Outgoing::default())).await;
    assert!(matches!(refused, Err(PublishError::Unavailable(_))));
    proxy.refuse(false);
    bench.state_consumer(1).await;
    bench.publish(0..1).await;
    assert!(bench.broker.is_connected());
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_any_more_is_given_up() {
    let proxy = Proxy::before_the_broker().await;
    let bench = Bench::start(&proxy.url("heartbeat=1&connection_timeout=300"));
    let mut consumer = bench.state_consumer(10).await;
    bench.publish(0..1).await;
    take(&mut consumer, 1).await;
    proxy.freeze(true);
    let gone = within("the heartbeats to be missed", consumer.batch(10)).await;
    assert!(matches!(gone, Err(Gone::Lost(_))), "{gone:?}");
    until("all to be given up", || bench.changed(Change::Lost) == 3).await;
    proxy.freeze(false);
    let mut consumer = bench.state_consumer(10).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), ["0"]);
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_is_blocked_nothing_is_sent_and_deliveries_go_on() {
    let proxy = Proxy::before_the_broker().await;
    let bench = Bench::start(&proxy.url(""));
    let mut consumer = bench.state_consumer(10).await;
    bench.publish(0..1).await;
    let blocked = raw::method(10, 60, &raw::short(b"low on memory"));
    proxy.inject(raw::frame(1, 0, &blocked));
    let known = || bench.changes.lock().unwrap().contains(&(Link::Publish, Change::Blocked));
    until("the alarm to be known", known).await;
    let problem = bench.broker.problem().unwrap();
    assert!(problem.contains("low on memory"), "{problem}");
    let publisher = bench.broker.publisher().with_patience(Duration::from_millis(100));
    assert!(matches!(publisher.publish(vec![bench.command("1")]).await[..], [Err(PublishError::Unavailable(_))]));
    assert!(matches!(publisher.reply(Outgoing::default()).await, Err(PublishError::Unavailable(_))));
    assert_eq!(bench.broker.dropped_replies(), 1);
    assert_eq!(ids(&take(&mut consumer, 1).await), ["0"]);
    proxy.inject(raw::frame(1, 0, &raw::method(10, 61, &[])));
    until("the end of the alarm", || bench.broker.is_connected()).await;
    bench.publish(1..2).await;
    assert!(bench.changes.lock().unwrap().contains(&(Link::Publish, Change::Unblocked)));
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_declared_otherwise_is_named_with_what_to_do_and_waited_for() {
    let prefix = fresh_prefix();
    let dead = topology(&prefix).dead_queue();
    let connection = raw::connect(&amqp_url()).await;
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(dead.as_str().into(), options, FieldTable::default()).await.unwrap();
    let bench = Bench::with_prefix(&amqp_url(), prefix);
    until("the problem", || bench.broker.problem().is_some_and(|problem| problem.contains(&dead))).await;
    let problem = bench.broker.problem().unwrap();
    assert!(problem.contains("x-queue-type"), "the broker's words are missing: {problem}");
    assert!(problem.contains(&format!("rabbitmqctl delete_queue {dead}")), "the advice is missing: {problem}");
    channel.queue_delete(dead.into(), QueueDeleteOptions::default()).await.unwrap();
    until("the daemon to go on by itself", || bench.broker.is_connected()).await;
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_and_virtual_hosts_are_named_without_the_password() {
    let bench = Bench::start(&url("shop", "hunter2", None, ""));
    until("the problem", || bench.broker.problem().is_some_and(|problem| problem.contains("ACCESS_REFUSED"))).await;
    let problem = bench.broker.problem().unwrap();
    assert!(problem.contains("`shop`") && !problem.contains("hunter2"), "{problem}");
    bench.broker.close().await;

    let nowhere = url("shop", "shop", None, "").replace("%2f", "nowhere").replace("%2F", "nowhere");
    let bench = Bench::start(&nowhere);
    until("the problem", || bench.broker.problem().is_some_and(|problem| problem.contains("`nowhere`"))).await;
    bench.broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_gives_back_what_was_not_acknowledged() {
    let bench = Bench::start(&amqp_url());
    let mut consumer = bench.state_consumer(10).await;
    bench.publish(0..2).await;
    let publisher = bench.broker.publisher();
    let deliveries = take(&mut consumer, 2).await;
    consumer.acknowledger().ack(deliveries[0].tag).await.unwrap();
    within("the broker to close", bench.broker.clone().close()).await;
    assert!(consumer.batch(1).await.is_err());
    let unsent = publisher.with_patience(Duration::from_secs(60)).publish(vec![bench.command("2")]).await;
    assert!(matches!(unsent[..], [Err(PublishError::Unavailable(_))]), "{unsent:?}");
    raw::until_depth(&bench.state_queue(), 1).await;
    bench.finish().await;
}

fn rabbitmqctl(arguments: &[&str]) -> String {
    let output = Command::new("rabbitmqctl").args(arguments).output().expect("rabbitmqctl is not installed");
    assert!(output.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Closes the one connection of this name.
pub fn close_connection(name: &str) {
    let listed = rabbitmqctl(&["--quiet", "list_connections", "pid", "client_properties"]);
    let mut pids = listed.lines().filter(|line| line.contains(name)).filter_map(|line| line.split_whitespace().next());
    let pid = pids.next().unwrap_or_else(|| panic!("{name} is not in {listed}"));
    assert_eq!(pids.next(), None, "{listed}");
    rabbitmqctl(&["close_connection", pid, "for a test"]);
}

fn connections_named(prefix: &str) -> Vec<String> {
    let listed = rabbitmqctl(&["--quiet", "list_connections", "pid", "client_properties"]);
    let pids: Vec<String> = listed
        .lines()
        .filter(|line| line.contains(prefix))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    assert_eq!(pids.len(), 3, "{listed}");
    pids
}
