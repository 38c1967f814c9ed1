//! Asks, and takes the time until the answer is there.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;

use crate::harness::{fresh_name, server};

const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

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

    /// The answer, and after how many milliseconds it came.
    pub async fn ask(&self, command: &str, body: &Value) -> (Value, f64) {
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
        let reply = tokio::time::timeout(Duration::from_secs(60), replies.next()).await.unwrap().unwrap().unwrap();
        let took = asked.elapsed();
        assert_eq!(reply.properties.correlation_id().as_ref().unwrap().as_str(), id);
        (serde_json::from_slice(&reply.data).unwrap(), took.as_secs_f64() * 1000.0)
    }
}
