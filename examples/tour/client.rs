//! What any publisher does: send a command, wait for its reply by direct reply-to, listen to the events.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::Failure;

/// RabbitMQ's pseudo-queue for replies; no queue needs to be declared.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";
const PERSISTENT: u8 = 2;
const REPLY_PATIENCE: Duration = Duration::from_secs(15);
const EVENT_PATIENCE: Duration = Duration::from_secs(20);
/// After what was expected has come: so long with nothing more, and the step is over.
const SILENCE: Duration = Duration::from_millis(150);

/// A connection with one channel: the broker ties direct replies to the channel that publishes.
pub struct Client {
    // Closes when dropped.
    _connection: Connection,
    channel: Channel,
    replies: Consumer,
    events: Consumer,
    exchange: String,
    user: String,
}

/// How a command ended.
#[derive(Debug)]
pub enum Reply {
    /// With this result.
    Done(Value),
    /// By a rule.
    Refused {
        /// For the app: what to react to.
        code: String,
        /// For people.
        message: String,
    },
}

/// A `CloudEvent`, as far as the tour tells it.
pub struct Event {
    /// The routing key: `session.opened`.
    pub name: String,
    /// What happened.
    pub data: Value,
}

/// An event that a step waits for.
pub struct Expected {
    name: &'static str,
    template: Option<&'static str>,
}

impl Expected {
    /// The event of this name.
    pub const fn event(name: &'static str) -> Self {
        Self { name, template: None }
    }

    /// The event that says that a mail of this template was handed over.
    pub const fn mail(template: &'static str) -> Self {
        Self { name: "email.sent", template: Some(template) }
    }

    /// Whether this is it.
    pub fn is(&self, event: &Event) -> bool {
        event.name == self.name && self.template.is_none_or(|template| event.data["template"] == template)
    }
}

impl Reply {
    /// `{"ok": true, "result": …}` or `{"ok": false, "error": {…}}`.
    pub fn parse(reply: &Value) -> Result<Self, Failure> {
        let text = |field: &str| reply["error"][field].as_str().map(str::to_owned);
        match (reply["ok"].as_bool(), text("code"), text("message")) {
            (Some(true), ..) => Ok(Self::Done(reply["result"].clone())),
            (Some(false), Some(code), Some(message)) => Ok(Self::Refused { code, message }),
            _ => Err(format!("this is no reply of regrant: {reply}").into()),
        }
    }
}

impl Client {
    /// Connects as the user of `url`, and listens to the events from now on.
    pub async fn connect(url: &str, prefix: &str) -> Result<Self, Failure> {
        let uri: AMQPUri = url.parse().map_err(|error| format!("AMQP_URL cannot be understood: {error}"))?;
        let user = uri.authority.userinfo.username.clone();
        let connection = Connection::connect_uri(uri, ConnectionProperties::default())
            .await
            .map_err(|error| format!("RabbitMQ cannot be reached: {error}. Is AMQP_URL right?"))?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let at_once = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let replies = channel.basic_consume(DIRECT_REPLY_TO.into(), "".into(), at_once, FieldTable::default()).await?;

        let own = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), own, FieldTable::default()).await?;
        let exchange = format!("{prefix}.events");
        let everything = channel.queue_bind(
            queue.name().clone(),
            exchange.as_str().into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        everything.await.map_err(|error| format!("no exchange {exchange}: {error}. Does the daemon run?"))?;
        let events = channel.basic_consume(queue.name().clone(), "".into(), at_once, FieldTable::default()).await?;
        let exchange = format!("{prefix}.commands");
        Ok(Self { _connection: connection, channel, replies, events, exchange, user })
    }

    /// Publishes a command and returns its message id as soon as the broker has it safe.
    #[expect(clippy::disallowed_methods, reason = "a program of its own: the daemon's clock and ids are not for it")]
    pub async fn send(&self, command: &str, body: &Value) -> Result<String, Failure> {
        let id = Uuid::now_v7().to_string();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let properties = BasicProperties::default()
            // What makes it safe to send again after a doubtful failure: it takes effect once.
            .with_message_id(id.as_str().into())
            .with_correlation_id(id.as_str().into())
            .with_reply_to(DIRECT_REPLY_TO.into())
            .with_content_type("application/json".into())
            // The broker refuses a name that is not the connection's own, so the daemon can rely on it.
            .with_user_id(self.user.as_str().into())
            .with_timestamp(now)
            .with_delivery_mode(PERSISTENT);
        let options = BasicPublishOptions::default();
        let body = serde_json::to_vec(body)?;
        let confirm = self
            .channel
            .basic_publish(self.exchange.as_str().into(), command.into(), options, &body, properties)
            .await?
            .await?;
        if confirm.is_ack() { Ok(id) } else { Err(format!("RabbitMQ did not take {command}").into()) }
    }

    /// Waits for the reply to this message.
    pub async fn reply(&mut self, command: &str, message_id: &str) -> Result<Value, Failure> {
        let deadline = Instant::now() + REPLY_PATIENCE;
        loop {
            let Ok(next) = timeout_at(deadline, self.replies.next()).await else {
                return Err(format!("no reply to {command} in {} s", REPLY_PATIENCE.as_secs()).into());
            };
            let reply = next.ok_or("RabbitMQ has closed the channel")??;
            if reply.properties.correlation_id().as_ref().is_some_and(|id| id.as_str() == message_id) {
                return Ok(serde_json::from_slice(&reply.data)?);
            }
        }
    }

    /// All events up to the expected ones and whatever follows at once.
    pub async fn events(&mut self, expected: &[Expected]) -> Result<Vec<Event>, Failure> {
        let deadline = Instant::now() + EVENT_PATIENCE;
        let mut events: Vec<Event> = Vec::new();
        loop {
            let missing = expected.iter().find(|expected| !events.iter().any(|event| expected.is(event)));
            let deadline = if missing.is_some() { deadline } else { Instant::now() + SILENCE };
            let next = match (timeout_at(deadline, self.events.next()).await, missing) {
                (Ok(next), _) => next,
                (Err(_), None) => return Ok(events),
                (Err(_), Some(Expected { name, template })) => {
                    let (template, seconds) = (template.unwrap_or_default(), EVENT_PATIENCE.as_secs());
                    return Err(format!("no event {name} {template} in {seconds} s").into());
                }
            };
            let event = next.ok_or("RabbitMQ has closed the channel")??;
            let mut cloud_event: Value = serde_json::from_slice(&event.data)?;
            events.push(Event { name: event.routing_key.to_string(), data: cloud_event["data"].take() });
        }
    }
}
