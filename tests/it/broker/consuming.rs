use lapin::options::QueueDeleteOptions;
use regrant::broker::{Gone, RETRY_DELAYS};

use super::{Bench, amqp_url, ids, raw, take, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_what_is_there_and_never_more_than_asked_for() {
    let bench = Bench::start(&amqp_url());
    let mut consumer = bench.state_consumer(100).await;
    bench.publish(0..10).await;
    let first = within("a delivery", consumer.batch(4)).await.unwrap();
    assert!((1..=4).contains(&first.len()));
    let rest = take(&mut consumer, 10 - first.len()).await;
    let all: Vec<_> = first.into_iter().chain(rest).collect();
    assert_eq!(ids(&all), (0..10).map(|id| id.to_string()).collect::<Vec<_>>());
    assert_eq!((all[3].routing_key.as_str(), all[3].body.as_slice()), ("user.put", &b"3"[..]));
    // Nothing more is there: the batch waits, and giving up waiting loses nothing.
    assert!(tokio::time::timeout(std::time::Duration::from_millis(100), consumer.batch(10)).await.is_err());
    bench.publish(10..11).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), ["10"]);
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_cover_what_they_say_and_the_rest_comes_again() {
    let bench = Bench::start(&amqp_url());
    let mut consumer = bench.state_consumer(100).await;
    bench.publish(0..10).await;
    let all = take(&mut consumer, 10).await;
    consumer.acknowledger().ack_through(0).await.unwrap();
    consumer.acknowledger().ack_through(all[4].tag).await.unwrap();
    consumer.acknowledger().ack(all[7].tag).await.unwrap();
    consumer.requeue(all[5].tag).await.unwrap();
    let again = take(&mut consumer, 1).await;
    assert_eq!(ids(&again), ["5"]);
    assert!(again[0].redelivered && !all[5].redelivered);
    consumer.close().await;
    let mut consumer = bench.state_consumer(100).await;
    let mut left = take(&mut consumer, 4).await;
    left.sort_by_key(|delivery| delivery.body.clone());
    assert_eq!(ids(&left), ["5", "6", "8", "9"]);
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_consumer_gives_what_it_has_and_acknowledges_it() {
    let bench = Bench::start(&amqp_url());
    bench.publish(0..20).await;
    let mut consumer = bench.state_consumer(10).await;
    let mut taken = take(&mut consumer, 3).await;
    // The broker has handed out as many as it may.
    raw::until_depth(&bench.state_queue(), 10).await;
    within("the cancellation", consumer.stop()).await;
    while taken.len() < 10 {
        taken.extend(within("what is left", consumer.batch(4)).await.unwrap());
    }
    assert_eq!(within("the end", consumer.batch(4)).await, Err(Gone::Stopped));
    assert_eq!(within("the end", consumer.batch(4)).await, Err(Gone::Stopped));
    consumer.acknowledger().ack_through(taken[9].tag).await.unwrap();
    consumer.close().await;
    raw::until_depth(&bench.state_queue(), 10).await;
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_ends_the_consumer_and_the_next_one_finds_it_again() {
    let bench = Bench::start(&amqp_url());
    let mut consumer = bench.state_consumer(10).await;
    // The declaration is not repeated within a second of the last one.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let connection = raw::connect(&amqp_url()).await;
    let channel = connection.create_channel().await.unwrap();
    channel.queue_delete(bench.state_queue().into(), QueueDeleteOptions::default()).await.unwrap();
    assert!(matches!(within("the end", consumer.batch(1)).await, Err(Gone::Lost(_))));
    assert!(matches!(within("the end", consumer.batch(1)).await, Err(Gone::Lost(_))));
    let mut consumer = bench.state_consumer(10).await;
    bench.publish(0..1).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), ["0"]);
    assert!(bench.broker.is_connected(), "{:?}", bench.broker.problem());
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_command_returns_to_its_lane_as_it_was() {
    let bench = Bench::start(&amqp_url());
    let mut consumer = bench.state_consumer(10).await;
    let mut message = bench.command("again");
    message.exchange = bench.topology.retry_exchange(RETRY_DELAYS[0]);
    message.properties.user_id = Some("shop".to_owned());
    message.properties.headers.insert("x-own".to_owned(), 3_i64.into());
    let sent = std::time::Instant::now();
    let fates = bench.broker.publisher().publish(vec![message.clone()]).await;
    assert_eq!(fates, [Ok(())]);
    let delivery = take(&mut consumer, 1).await.remove(0);
    assert!(sent.elapsed() >= RETRY_DELAYS[0]);
    assert_eq!(delivery.routing_key, "user.put");
    assert_eq!(delivery.exchange, bench.topology.commands_exchange());
    assert_eq!(delivery.properties.user_id, message.properties.user_id);
    assert_eq!(delivery.properties.headers["x-own"], 3_i64.into());
    assert_eq!(delivery.body, message.body);
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_no_lane_takes_is_kept() {
    let bench = Bench::start(&amqp_url());
    let mut unknown = within("a consumer", bench.broker.consumer(&bench.topology.unknown_queue(), 10)).await;
    let mut message = bench.command("what");
    message.routing_key = "user.fly".to_owned();
    assert_eq!(bench.broker.publisher().publish(vec![message]).await, [Ok(())]);
    let delivery = take(&mut unknown, 1).await.remove(0);
    assert_eq!((delivery.routing_key.as_str(), ids(std::slice::from_ref(&delivery))), ("user.fly", vec!["what"]));
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_that_start_together_share_one_topology() {
    let prefix = super::fresh_prefix();
    let benches: Vec<Bench> = (0..4).map(|_| Bench::with_prefix(&amqp_url(), prefix.clone())).collect();
    for bench in &benches {
        super::until("all to connect", || bench.broker.is_connected()).await;
    }
    let mut consumers = Vec::new();
    for bench in &benches {
        consumers.push(bench.state_consumer(1).await);
    }
    benches[0].publish(0..4).await;
    for consumer in &mut consumers {
        let delivery = take(consumer, 1).await.remove(0);
        consumer.acknowledger().ack(delivery.tag).await.unwrap();
    }
    for bench in benches {
        bench.broker.close().await;
    }
    super::delete(&super::topology(&prefix)).await;
}
