use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ExchangeDeleteOptions};
use lapin::types::{FieldTable, ShortString};
use regrant::broker::{CallError, Change, Client, HeaderValue, Options, Outgoing, Properties, PublishError};

use super::{Bench, amqp_url, ids, raw, refused_code, take, until, url, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_exchange_refuses_its_message_and_no_other() {
    let bench = Bench::start(&amqp_url());
    let mut consumer = bench.state_consumer(100).await;
    let missing = |id: &str| Outgoing { exchange: format!("{}.nowhere", bench.prefix), ..bench.command(id) };
    let messages = vec![bench.command("0"), missing("1"), bench.command("2"), missing("3"), bench.command("4")];
    let publisher = bench.broker.publisher();
    let fates = within("the fates", publisher.publish(messages)).await;
    assert_eq!([1, 3].map(|index| refused_code(&fates[index])), [Some(404); 2], "{fates:?}");
    // Sent before the channel was closed: stored, but perhaps not confirmed any more.
    assert!(matches!(fates[0], Ok(()) | Err(PublishError::Unknown(_))), "{fates:?}");
    assert_eq!((&fates[2], &fates[4]), (&Ok(()), &Ok(())));
    assert_eq!(ids(&take(&mut consumer, 3).await), ["0", "2", "4"]);
    assert_eq!(publisher.publish(vec![bench.command("5")]).await, [Ok(())]);
    assert_eq!(bench.changed(Change::Lost), 0);
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_exchange_of_our_own_is_there_again_for_the_next_message() {
    let bench = Bench::start(&amqp_url());
    let publisher = bench.broker.publisher();
    bench.publish(0..1).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let connection = raw::connect(&amqp_url()).await;
    let channel = connection.create_channel().await.unwrap();
    channel.exchange_delete(bench.topology.dead_exchange().into(), ExchangeDeleteOptions::default()).await.unwrap();
    let dead = || Outgoing { exchange: bench.topology.dead_exchange(), ..bench.command("dead") };
    assert_eq!(refused_code(&publisher.publish(vec![dead()]).await[0]), Some(404));
    assert_eq!(publisher.publish(vec![dead()]).await, [Ok(())]);
    assert_eq!(raw::depth(&bench.topology.dead_queue()).await, 1);
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_unroutable_messages_are_told_from_the_others() {
    let bench = Bench::start(&amqp_url());
    let messages: Vec<Outgoing> = (0..600)
        .map(|id| {
            let mut message = bench.command(&id.to_string());
            if id % 7 == 3 {
                // Nobody listens to events here.
                message.exchange = bench.topology.events_exchange();
                message.mandatory = id % 2 == 0;
            }
            message
        })
        .collect();
    let fates = within("the fates", bench.broker.publisher().publish(messages.clone())).await;
    for (id, fate) in fates.iter().enumerate() {
        let unroutable = matches!(fate, Err(PublishError::Unroutable { .. }));
        assert_eq!(unroutable, id % 7 == 3 && id % 2 == 0, "{id}: {fate:?}");
        assert!(unroutable || fate.is_ok(), "{id}: {fate:?}");
    }
    let stored = messages.iter().filter(|message| message.exchange == bench.topology.commands_exchange()).count();
    assert_eq!(raw::depth(&bench.state_queue()).await as usize, stored);
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impersonator_keeps_the_original_user_id() {
    let bench = Bench::start(&amqp_url());
    let publisher = bench.broker.publisher();
    assert!(within("the answer", publisher.can_impersonate()).await);
    let mut message = bench.command("0");
    message.properties.user_id = Some("shop".to_owned());
    assert_eq!(publisher.publish(vec![message]).await, [Ok(())]);
    let mut consumer = bench.state_consumer(1).await;
    assert_eq!(take(&mut consumer, 1).await[0].properties.user_id.as_deref(), Some("shop"));
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_tag_a_foreign_user_id_is_refused_and_its_neighbours_arrive() {
    let bench = Bench::start(&url("shop", "shop", None, ""));
    let publisher = bench.broker.publisher();
    let as_user = |id: &str, user: &str| {
        let mut message = bench.command(id);
        message.properties.user_id = Some(user.to_owned());
        message
    };
    let messages = vec![bench.command("0"), as_user("1", "guest"), as_user("2", "shop")];
    let fates = within("the fates", publisher.publish(messages)).await;
    assert_eq!((&fates[0], &fates[2]), (&Ok(()), &Ok(())));
    let refusal = fates[1].as_ref().unwrap_err();
    assert_eq!(refused_code(&fates[1]), Some(406));
    assert!(refusal.to_string().contains("rabbitmqctl set_user_tags shop impersonator"), "{refusal}");
    assert!(!within("the answer", publisher.can_impersonate()).await);
    assert_eq!(bench.changed(Change::Lost), 0);
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_put_into_amqp_is_refused_without_harm() {
    let bench = Bench::start(&amqp_url());
    let publisher = bench.broker.publisher();
    let mut long_key = bench.command("0");
    long_key.routing_key = "k".repeat(256);
    let mut big_headers = bench.command("1");
    big_headers.properties.headers.insert("x".to_owned(), HeaderValue::Text("h".repeat(200_000)));
    let mut bad_expiration = bench.command("2");
    bad_expiration.properties.expiration = Some("soon".to_owned());
    let fates =
        within("the fates", publisher.publish(vec![long_key, big_headers, bad_expiration, bench.command("3")])).await;
    assert_eq!(refused_code(&fates[0]), Some(0));
    assert_eq!(refused_code(&fates[1]), Some(0));
    assert_eq!(refused_code(&fates[2]), Some(406));
    assert_eq!(fates[3], Ok(()));
    assert_eq!(bench.changed(Change::Lost), 0);
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_reaches_the_one_who_waits_by_direct_reply_to() {
    let bench = Bench::start(&amqp_url());
    let mut consumer = bench.state_consumer(1).await;
    let connection = raw::connect(&amqp_url()).await;
    let channel = connection.create_channel().await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut replies =
        channel.basic_consume("amq.rabbitmq.reply-to".into(), "".into(), options, FieldTable::default()).await.unwrap();
    let properties = lapin::BasicProperties::default()
        .with_reply_to("amq.rabbitmq.reply-to".into())
        .with_correlation_id("c1".into());
    channel
        .basic_publish(
            bench.topology.commands_exchange().into(),
            "user.put".into(),
            BasicPublishOptions::default(),
            b"{}",
            properties,
        )
        .await
        .unwrap();
    let command = take(&mut consumer, 1).await.remove(0);
    let reply = Outgoing {
        routing_key: command.properties.reply_to.unwrap(),
        properties: Properties { correlation_id: command.properties.correlation_id, ..Properties::default() },
        body: b"done".to_vec(),
        ..Outgoing::default()
    };
    let publisher = bench.broker.publisher();
    publisher.reply(reply.clone()).await.unwrap();
    let answer = within("the reply", futures_util::StreamExt::next(&mut replies)).await.unwrap().unwrap();
    assert_eq!(answer.data, b"done");
    assert_eq!(answer.properties.correlation_id().as_ref().map(ShortString::as_str), Some("c1"));
    // Once nobody waits any more it vanishes without a trace.
    connection.close(200, "OK".into()).await.unwrap();
    publisher.reply(reply).await.unwrap();
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_nobody_takes_are_counted_and_bad_addresses_disturb_nothing() {
    let bench = Bench::start(&amqp_url());
    let publisher = bench.broker.publisher();
    let reply_to = |queue: &str| Outgoing { routing_key: queue.to_owned(), ..Outgoing::default() };
    bench.publish(0..1).await;
    for _ in 0..3 {
        publisher.reply(reply_to(&format!("{}.gone", bench.prefix))).await.unwrap();
    }
    until("three replies to be counted", || bench.broker.dropped_replies() == 3).await;
    for address in ["amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.!", "amq.x", ""] {
        publisher.reply(reply_to(address)).await.unwrap();
    }
    until("the two that are ordinary names to be counted", || bench.broker.dropped_replies() == 5).await;
    assert!(matches!(publisher.reply(reply_to(&bench.state_queue())).await, Err(PublishError::Refused { .. })));
    assert!(matches!(publisher.reply(reply_to(&"q".repeat(256))).await, Err(PublishError::Refused { .. })));
    assert_eq!(bench.broker.dropped_replies(), 7);
    raw::until_depth(&bench.state_queue(), 1).await;
    assert_eq!(bench.changed(Change::Lost), 0);
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_calls_and_gets_its_own_reply() {
    let bench = Bench::start(&amqp_url());
    let mut consumer = bench.state_consumer(10).await;
    let publisher = bench.broker.publisher();
    let answering = tokio::spawn(async move {
        for delivery in take(&mut consumer, 3).await.into_iter().rev() {
            let reply = Outgoing {
                routing_key: delivery.properties.reply_to.unwrap(),
                properties: Properties { correlation_id: delivery.properties.correlation_id, ..Properties::default() },
                body: [b"re: ", delivery.body.as_slice()].concat(),
                ..Outgoing::default()
            };
            publisher.reply(reply).await.unwrap();
        }
    });
    let options = Options { url: amqp_url().into(), connection_name: "a test".to_owned() };
    let client = Client::connect(&options).await.unwrap();
    let call = |id: &str| {
        let mut command = bench.command(id);
        command.properties.correlation_id = Some(id.to_owned());
        client.call(command, std::time::Duration::from_secs(30))
    };
    let replies = within("the replies", futures_util::future::join_all(["a", "b", "c"].map(call))).await;
    let bodies: Vec<_> = replies.into_iter().map(|reply| String::from_utf8(reply.unwrap().body).unwrap()).collect();
    assert_eq!(bodies, ["re: a", "re: b", "re: c"]);
    answering.await.unwrap();
    let unanswered = client.call(bench.command("d"), std::time::Duration::from_millis(50)).await;
    assert!(matches!(unanswered, Err(CallError::NoReply(_))), "{unanswered:?}");
    let mut nowhere = bench.command("e");
    nowhere.exchange = String::new();
    let refused = client.call(nowhere, std::time::Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(CallError::Publish(PublishError::Unroutable { .. }))), "{refused:?}");
    client.close().await;
    bench.finish().await;

    let options = Options { url: url("shop", "hunter2", None, "").into(), connection_name: "a test".to_owned() };
    let error = Client::connect(&options).await.unwrap_err().to_string();
    assert!(error.contains("ACCESS_REFUSED") && !error.contains("hunter2"), "{error}");
}
