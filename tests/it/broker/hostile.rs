use futures_util::StreamExt as _;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use regrant::broker::{Change, Link, Outgoing, PublishError, SUBSTITUTE};

use super::faults::close_connection;
use super::raw::{self, Frames, long, short};
use super::{Bench, amqp_url, take, until, within};

const HEADERS: u16 = 1 << 13;
const MESSAGE_ID: u16 = 1 << 7;

/// What RabbitMQ accepts and lapin cannot read must not take the daemon's connection, or the daemon, down.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_the_client_library_cannot_read_arrive_defused() {
    let bench = Bench::start(&amqp_url());
    let mut consumer = bench.state_consumer(100).await;
    let mut unknown = bench.broker.consumer(&bench.topology.unknown_queue(), 100).await;
    let exchange = bench.topology.commands_exchange();
    let mut frames = Frames::connect().await;

    frames.publish(&exchange, b"user.put", MESSAGE_ID, &short(b"caf\xe9-\xff"), b"not UTF-8").await;
    frames.publish(&exchange, b"user.\xff", MESSAGE_ID, &short(b"key"), b"nor the key").await;
    let name = long(&[&short(b"n\xff")[..], b"t\x01"].concat());
    frames.publish(&exchange, b"user.put", HEADERS, &name, b"nor a header's name").await;
    for (kind, levels) in [(b'A', 5_000), (b'F', 5_000)] {
        let headers = long(&[&short(b"h")[..], &nested(kind, levels)].concat());
        frames.publish(&exchange, b"user.put", HEADERS, &headers, b"deep").await;
    }
    frames.publish(&exchange, b"user.put", MESSAGE_ID, &short("gr\u{fc}n".as_bytes()), b"in order").await;
    frames.finish().await;

    let deliveries = take(&mut consumer, 5).await;
    let bodies: Vec<&[u8]> = deliveries.iter().map(|delivery| delivery.body.as_slice()).collect();
    assert_eq!(bodies, [&b"not UTF-8"[..], b"nor a header's name", b"deep", b"deep", b"in order"]);
    let substitute = char::from(SUBSTITUTE);
    assert_eq!(deliveries[0].properties.message_id, Some(format!("caf{substitute}-{substitute}")));
    assert!(deliveries[1].properties.headers.contains_key(&format!("n{substitute}")));
    assert_eq!(deliveries[4].properties.message_id.as_deref(), Some("gr\u{fc}n"));
    assert_eq!(take(&mut unknown, 1).await[0].routing_key, format!("user.{substitute}"));

    // And they can be published again as they are now, to be buried.
    let outgoing = deliveries
        .iter()
        .map(|delivery| Outgoing {
            exchange: bench.topology.dead_exchange(),
            routing_key: delivery.routing_key.clone(),
            properties: delivery.properties.clone(),
            body: delivery.body.clone(),
            persistent: true,
            mandatory: true,
        })
        .collect();
    let fates = bench.broker.publisher().publish(outgoing).await;
    assert!(fates.iter().all(Result::is_ok), "{fates:?}");
    assert_eq!(bench.changed(Change::Lost), 0);
    bench.finish().await;
}

/// RabbitMQ closes the whole connection on which something is sent to a forged address of direct reply-to.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_reply_to_costs_neither_the_connection_nor_a_reply() {
    let bench = Bench::start(&amqp_url());
    let publisher = bench.broker.publisher();
    until("all links", || bench.changed(Change::Connected) == 3).await;
    let (mut replies, genuine) = direct_reply_to().await;
    let process = genuine.split('.').nth(3).unwrap();
    for (dropped, forged) in (1..).zip([
        "amq.rabbitmq.reply-to.g1h2AA==.xx".to_owned(),
        "amq.rabbitmq.reply-to.@@@@.xx".to_owned(),
        // Without its end; how long it is, and so whether it ends in `=`, depends on the node's name.
        genuine.replace(process, &process[..process.len() - 4]),
    ]) {
        let refused = publisher.reply(to(&forged)).await;
        assert!(matches!(refused, Err(PublishError::Refused { .. })), "{forged}: {refused:?}");
        assert_eq!(bench.broker.dropped_replies(), dropped);
        publisher.reply(to(&genuine)).await.unwrap();
        within("the reply", replies.next()).await.unwrap().unwrap();
    }
    assert_eq!(bench.changed(Change::Lost), 0);
    bench.finish().await;
}

/// What is forged well enough still makes RabbitMQ close it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_for_replies_costs_no_other_and_the_next_replies_arrive() {
    let bench = Bench::start(&amqp_url());
    let mut consumer = bench.state_consumer(10).await;
    let publisher = bench.broker.publisher();
    let (mut replies, genuine) = direct_reply_to().await;
    let changed = |link, change| bench.changes.lock().unwrap().iter().filter(|seen| **seen == (link, change)).count();
    for times in 1..=3 {
        until("the connection for replies", || changed(Link::Reply, Change::Connected) == times).await;
        for _ in 0..3 {
            publisher.reply(to(&genuine)).await.unwrap();
            within("the reply", replies.next()).await.unwrap().unwrap();
        }
        close_connection(&format!("{} (reply)", bench.prefix));
        until("the loss", || changed(Link::Reply, Change::Lost) == times).await;
        bench.publish(times..times + 1).await;
        take(&mut consumer, 1).await;
    }
    assert_eq!((changed(Link::Publish, Change::Lost), changed(Link::Consume, Change::Lost)), (0, 0));
    bench.finish().await;
}

/// Who asks and waits for direct replies, and the address that RabbitMQ gives them.
async fn direct_reply_to() -> (lapin::Consumer, String) {
    let connection = raw::connect(&amqp_url()).await;
    let channel = connection.create_channel().await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let direct = "amq.rabbitmq.reply-to";
    let replies = channel.basic_consume(direct.into(), "".into(), options, FieldTable::default()).await.unwrap();
    let own = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), own, FieldTable::default()).await.unwrap().name().clone();
    let asks = BasicProperties::default().with_reply_to(direct.into());
    channel.basic_publish("".into(), queue.clone(), BasicPublishOptions::default(), b"", asks).await.unwrap();
    let get = BasicGetOptions { no_ack: true };
    let asked = within("the question", async {
        loop {
            if let Some(asked) = channel.basic_get(queue.clone(), get).await.unwrap() {
                return asked;
            }
        }
    });
    let address = asked.await.delivery.properties.reply_to().as_ref().unwrap().to_string();
    (replies, address)
}

fn to(address: &str) -> Outgoing {
    Outgoing { routing_key: address.to_owned(), ..Outgoing::default() }
}

/// Tables (`F`) in tables, or arrays (`A`) in arrays.
fn nested(kind: u8, levels: u32) -> Vec<u8> {
    let name: &[u8] = if kind == b'F' { &[0] } else { &[] };
    // Type, length, and the name that comes before each value in a table; a void innermost.
    let level = 5 + u32::try_from(name.len()).unwrap();
    let mut value = Vec::new();
    for inner in (0..levels).rev() {
        let length = level * inner + 1 + u32::try_from(name.len()).unwrap();
        value.extend([&[kind][..], &length.to_be_bytes(), name].concat());
    }
    value.push(b'V');
    value
}
