//! Asks, and takes the time until the answer is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::Value;

use crate::harness::{fresh_name, server};

const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Longer than any answer takes: it only keeps a program that would hang from hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// A publisher that waits for each answer before it asks again.
pub struct Asker {
    line: Line,
    replies: tokio::sync::Mutex<Consumer>,
}

impl Asker {
    pub async fn connect(prefix: &str) -> Self {
        let (line, replies) = Line::open(prefix).await;
        Self { line, replies: replies.into() }
    }

    /// The answer, and after how many milliseconds it came.
    pub async fn ask(&self, command: &str, body: &Value) -> (Value, f64) {
        let (id, body) = (fresh_name(), body.to_string());
        let mut replies = self.replies.lock().await;
        let asked = Instant::now();
        self.line.publish(command, body.as_bytes(), &id).await;
        let reply = tokio::time::timeout(PATIENCE, replies.next()).await.unwrap().unwrap().unwrap();
        let took = asked.elapsed();
        assert_eq!(reply.properties.correlation_id().as_ref().unwrap().as_str(), id);
        (serde_json::from_slice(&reply.data).unwrap(), took.as_secs_f64() * 1000.0)
    }

    /// Throws away the commands that wait in a lane; how many that were.
    pub async fn throw_away(&self, lane: &str) -> u32 {
        let queue = format!("{}.{lane}", self.line.exchange);
        self.line.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.unwrap()
    }
}

/// A publisher that waits for nothing, and notes when each answer comes.
pub struct Callers {
    line: Line,
    answers: Answers,
}

/// By the number of the call: when the answer came, or what was wrong with it.
type Answers = Arc<Mutex<BTreeMap<usize, Result<Instant, String>>>>;

impl Callers {
    pub async fn connect(prefix: &str) -> Self {
        let (line, mut replies) = Line::open(prefix).await;
        let answers = Answers::default();
        let noted = Arc::clone(&answers);
        tokio::spawn(async move {
            while let Some(Ok(reply)) = replies.next().await {
                let came = Instant::now();
                let correlation = reply.properties.correlation_id().as_ref().map_or("", |id| id.as_str());
                let (_, number) = correlation.split_once(' ').unwrap();
                let body: Value = serde_json::from_slice(&reply.data).unwrap();
                let answer = if body["ok"] == true { Ok(came) } else { Err(body.to_string()) };
                noted.lock().unwrap_or_else(PoisonError::into_inner).insert(number.parse().unwrap(), answer);
            }
        });
        Self { line, answers }
    }

    /// Asks something, as the call of this number.
    pub async fn ask(&self, number: usize, command: &str, body: &[u8]) {
        self.line.publish(command, body, &format!("{} {number}", fresh_name())).await;
    }

    /// Waits until the calls with the numbers below `count` are answered: when each was. Panics if one is refused, or if no
    /// more answers come.
    pub async fn answers(&self, count: usize) -> Vec<Instant> {
        let answers = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut seen, mut since) = (0, Instant::now());
        while seen < count {
            let now = answers().len();
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < PATIENCE, "{now} of {count} answers, and no more come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answers = std::mem::take(&mut *answers());
        answers.into_values().map(|answer| answer.unwrap_or_else(|refusal| panic!("refused: {refusal}"))).collect()
    }
}

/// A connection that publishes; the broker ties direct replies to its channel.
struct Line {
    _connection: Connection,
    channel: Channel,
    exchange: String,
}

impl Line {
    async fn open(prefix: &str) -> (Self, Consumer) {
        let connection = Connection::connect(&server("AMQP_URL"), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let at_once = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let replies = channel.basic_consume(DIRECT_REPLY_TO.into(), "".into(), at_once, FieldTable::default());
        let replies = replies.await.unwrap();
        (Self { _connection: connection, channel, exchange: format!("{prefix}.commands") }, replies)
    }

    async fn publish(&self, command: &str, body: &[u8], id: &str) {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_user_id("guest".into())
            .with_message_id(id.into())
            .with_correlation_id(id.into())
            .with_reply_to(DIRECT_REPLY_TO.into());
        let (exchange, name) = (self.exchange.as_str().into(), command.into());
        let sending = self.channel.basic_publish(exchange, name, BasicPublishOptions::default(), body, properties);
        drop(sending.await.unwrap());
    }
}
