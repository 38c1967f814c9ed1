//! Asks, and takes the time until the answer is there.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::harness::{fresh_name, server};
use crate::people::Class;

const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// How long an answer took.
pub struct Sample {
    pub class: Class,
    pub milliseconds: f64,
}

/// A publisher that waits for each answer before it asks again.
pub struct Asker {
    _connection: Connection,
    channel: Channel,
    replies: tokio::sync::Mutex<lapin::Consumer>,
    exchange: String,
}

impl Asker {
    pub async fn connect(prefix: &str) -> Self {
        let connection = Connection::connect(&server("AMQP_URL"), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let at_once = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let replies = channel.basic_consume(DIRECT_REPLY_TO.into(), "".into(), at_once, FieldTable::default());
        let replies = replies.await.unwrap().into();
        Self { _connection: connection, channel, replies, exchange: format!("{prefix}.commands") }
    }

    async fn ask(&self, command: &str, body: &Value) -> f64 {
        let id = fresh_name();
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_user_id("guest".into())
            .with_message_id(id.as_str().into())
            .with_correlation_id(id.as_str().into())
            .with_reply_to(DIRECT_REPLY_TO.into());
        let (exchange, name) = (self.exchange.as_str().into(), command.into());
        let body = body.to_string();
        let mut replies = self.replies.lock().await;
        let asked = Instant::now();
        let sending =
            self.channel.basic_publish(exchange, name, BasicPublishOptions::default(), body.as_bytes(), properties);
        drop(sending.await.unwrap());
        let reply = tokio::time::timeout(Duration::from_secs(30), replies.next()).await.unwrap().unwrap().unwrap();
        let took = asked.elapsed();
        assert_eq!(reply.properties.correlation_id().as_ref().unwrap().as_str(), id);
        let answer: Value = serde_json::from_slice(&reply.data).unwrap();
        let expected = answer["result"]["accepted"] == true || answer["error"]["code"] == "invalid_credentials";
        assert!(expected, "the answer itself tells: {answer}");
        took.as_secs_f64() * 1000.0
    }
}

/// `each` questions of every class.
pub async fn in_random_order(asker: &Asker, classes: &[Class], each: usize) -> Vec<Sample> {
    let mut questions: Vec<(Class, usize)> =
        (0..each).flat_map(|n| classes.iter().map(move |class| (*class, n))).collect();
    // The same order in every run; warmed up are the first of each class.
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    for round in questions.chunks_mut(classes.len() * 10) {
        round.shuffle(&mut rng);
    }
    let mut samples = Vec::with_capacity(questions.len());
    for (class, n) in questions {
        // What follows an answer (a mail, an event) should be over before the next question, as an attacker would wait.
        tokio::time::sleep(Duration::from_micros(rng.random_range(5_000..15_000))).await;
        let (command, body) = class.question(n);
        samples.push(Sample { class, milliseconds: asker.ask(command, &body).await });
    }
    samples
}
