//! A publisher. On lapin itself: a fault in the daemon's own broker module must not hide itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};

use super::{Command, fresh_name, until, until_true, within};

const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A connection with one channel: the broker ties direct replies to the channel that publishes.
pub struct Client {
    connection: Connection,
    channel: Channel,
    prefix: String,
    user: String,
    replies: Replies,
}

/// By correlation id, in the order of their arrival.
type Replies = Arc<Mutex<HashMap<String, Vec<(Value, BasicProperties)>>>>;

/// A dead letter.
#[derive(Debug)]
pub struct Dead {
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Dead {
    /// A header as text.
    pub fn header(&self, name: &str) -> String {
        match self.headers().get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            Some(AMQPValue::Boolean(value)) => value.to_string(),
            Some(AMQPValue::LongLongInt(value)) => value.to_string(),
            Some(AMQPValue::LongInt(value)) => value.to_string(),
            Some(other) => panic!("{name} is {other:?}"),
            None => String::new(),
        }
    }

    pub fn headers(&self) -> BTreeMap<String, AMQPValue> {
        let headers = self.properties.headers().clone().unwrap_or_default();
        headers.inner().iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
    }

    pub fn message_id(&self) -> &str {
        self.properties.message_id().as_ref().map_or("", |id| id.as_str())
    }
}

impl Client {
    /// A connection to the broker at `url`, for the daemons whose names begin with `prefix`.
    pub async fn connect(url: &str, prefix: &str) -> Self {
        let connection = within("RabbitMQ", Connection::connect(url, ConnectionProperties::default()))
            .await
            .unwrap_or_else(|error| panic!("RabbitMQ cannot be reached ({error}): is AMQP_URL right?"));
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let at_once = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(DIRECT_REPLY_TO.into(), "".into(), at_once, FieldTable::default());
        let mut consumer = consumer.await.unwrap();
        let replies = Replies::default();
        let arriving = Arc::clone(&replies);
        tokio::spawn(async move {
            while let Some(Ok(reply)) = consumer.next().await {
                let id = reply.properties.correlation_id().as_ref().map(ToString::to_string).unwrap_or_default();
                let body = serde_json::from_slice(&reply.data).unwrap_or_else(|_| json!("not JSON"));
                lock(&arriving).entry(id).or_default().push((body, reply.properties));
            }
        });
        let user = url::Url::parse(url).unwrap().username().to_owned();
        Self { connection, channel, prefix: prefix.to_owned(), user, replies }
    }

    /// Publishes, and waits until the broker has it safe.
    pub async fn publish(&self, command: impl Into<Command>) {
        let command = command.into();
        self.send(&command.name, &command.body, command.properties(&self.user)).await;
    }

    /// Publishes all together.
    pub async fn publish_all(&self, commands: impl IntoIterator<Item = Command>) {
        let sending = commands.into_iter().map(|command| self.publish(command));
        futures_util::future::join_all(sending).await;
    }

    async fn send(&self, name: &str, body: &[u8], properties: BasicProperties) {
        self.send_to("commands", name, body, properties).await;
    }

    /// Publishes straight to the dead letters, as a daemon that buries them.
    pub async fn bury_all(&self, commands: impl IntoIterator<Item = Command>) {
        let burying = commands.into_iter().map(async |command| {
            self.send_to("dead", &command.name, &command.body, command.properties(&self.user)).await;
        });
        futures_util::future::join_all(burying).await;
    }

    async fn send_to(&self, exchange: &str, name: &str, body: &[u8], properties: BasicProperties) {
        let exchange = format!("{}.{exchange}", self.prefix);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish(exchange.into(), name.into(), options, body, properties);
        let confirmed = within("a confirm", async { sent.await.unwrap().await.unwrap() }).await;
        assert!(confirmed.is_ack(), "the broker did not take {name}");
        assert!(confirmed.take_message().is_none(), "no queue wanted {name}");
    }

    /// Publishes with a place for the reply; [`Self::reply`] waits for it.
    pub async fn begin(&self, command: &Command) -> String {
        Box::pin(self.begin_with(command, DIRECT_REPLY_TO)).await
    }

    /// Publishes with this queue for the reply, whether or not it is there.
    pub async fn begin_with(&self, command: &Command, reply_to: &str) -> String {
        let correlation = fresh_name();
        let properties = command.properties(&self.user);
        let properties = properties.with_correlation_id(correlation.as_str().into());
        self.send(&command.name, &command.body, properties.with_reply_to(reply_to.into())).await;
        correlation
    }

    /// Publishes all together.
    pub async fn begin_all(&self, commands: &[Command]) -> Vec<String> {
        futures_util::future::join_all(commands.iter().map(|command| self.begin(command))).await
    }

    /// The reply.
    pub async fn reply(&self, correlation: &str) -> Value {
        self.full_reply(correlation).await.0
    }

    /// The reply and its properties.
    pub async fn full_reply(&self, correlation: &str) -> (Value, BasicProperties) {
        until("a reply", async || {
            let mut replies = lock(&self.replies);
            let waiting = replies.get_mut(correlation).filter(|replies| !replies.is_empty())?;
            Some(waiting.remove(0))
        })
        .await
    }

    /// Whether the reply is there.
    pub fn has_reply(&self, correlation: &str) -> bool {
        lock(&self.replies).get(correlation).is_some_and(|replies| !replies.is_empty())
    }

    /// The whole reply.
    pub async fn ask(&self, command: impl Into<Command>) -> Value {
        let correlation = self.begin(&command.into()).await;
        self.reply(&correlation).await
    }

    /// The result.
    pub async fn ok(&self, name: &str, body: Value) -> Value {
        let mut reply = self.ask((name, body)).await;
        assert_eq!(reply["ok"], true, "{name}: {reply}");
        reply["result"].take()
    }

    /// The error's code.
    pub async fn error(&self, name: &str, body: Value) -> String {
        let reply = self.ask((name, body)).await;
        assert_eq!(reply["ok"], false, "{name}: {reply}");
        reply["error"]["code"].as_str().unwrap().to_owned()
    }

    /// Makes a profile; its address is `<id>@example.com`.
    pub async fn user(&self, id: &str) {
        self.ok("user.put", json!({ "user": profile(id) })).await;
    }

    /// Makes profiles, all together.
    pub async fn users(&self, ids: impl IntoIterator<Item = String>) {
        let commands: Vec<Command> =
            ids.into_iter().map(|id| Command::new("user.put", json!({ "user": profile(&id) }))).collect();
        for correlation in self.begin_all(&commands).await {
            let reply = self.reply(&correlation).await;
            assert_eq!(reply["ok"], true, "{reply}");
        }
    }

    /// Listens to the daemon's events from now on.
    pub async fn events(&self, pattern: &str) -> Events {
        self.subscribe(pattern, FieldTable::default()).await
    }

    /// A subscriber that takes no events, until [`Events::delete`].
    pub async fn refuse_events(&self, pattern: &str) -> Events {
        let mut full = FieldTable::default();
        full.insert("x-max-length".into(), AMQPValue::LongInt(0));
        full.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        self.subscribe(pattern, full).await
    }

    /// Events for a subscriber whose queue has room for one at a time.
    pub async fn one_event_at_a_time(&self, pattern: &str) -> Events {
        let mut small = FieldTable::default();
        small.insert("x-max-length".into(), AMQPValue::LongInt(1));
        small.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        self.subscribe(pattern, small).await
    }

    async fn subscribe(&self, pattern: &str, arguments: FieldTable) -> Events {
        let channel = self.connection.create_channel().await.unwrap();
        let own = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), own, arguments).await.unwrap().name().to_string();
        let exchange = format!("{}.events", self.prefix);
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.as_str().into(), exchange.into(), pattern.into(), options, none).await.unwrap();
        Events { channel, queue }
    }

    /// Keeps the daemon's events from now on in a queue that outlives connections; [`Self::kept_event`] takes them.
    pub async fn keep_events(&self, pattern: &str) {
        let (queue, exchange) = (format!("{}.told", self.prefix), format!("{}.events", self.prefix));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.unwrap();
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        self.channel.queue_bind(queue.into(), exchange.into(), pattern.into(), options, none).await.unwrap();
    }

    /// The next one's body.
    pub async fn kept_event(&self) -> Value {
        let (queue, options) = (format!("{}.told", self.prefix), BasicGetOptions { no_ack: true });
        let next = until("an event", async || self.channel.basic_get(queue.as_str().into(), options).await.unwrap());
        serde_json::from_slice(&next.await.delivery.data).unwrap()
    }

    /// Takes `count` dead letters.
    pub async fn dead(&self, count: usize) -> Vec<Dead> {
        let channel = self.connection.create_channel().await.unwrap();
        let queue = format!("{}.dead", self.prefix);
        let mut dead = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while dead.len() < count {
            let what = format!("dead letter {} of {count}", dead.len() + 1);
            let next = until(&what, async || channel.basic_get(queue.as_str().into(), options).await.unwrap());
            let next = next.await.delivery;
            let routing_key = next.routing_key.to_string();
            dead.push(Dead { routing_key, properties: next.properties, body: next.data });
        }
        dead
    }

    /// Takes the queue of dead letters away from its exchange.
    pub async fn unbind_dead(&self) {
        let channel = self.connection.create_channel().await.unwrap();
        let name = format!("{}.dead", self.prefix);
        let none = FieldTable::default();
        channel.queue_unbind(name.as_str().into(), name.as_str().into(), "".into(), none).await.unwrap();
    }

    /// Deletes the queue of dead letters.
    pub async fn delete_dead(&self) {
        self.delete_queue("dead").await;
    }

    /// Deletes `<prefix>.<queue>`, with what is in it.
    pub async fn delete_queue(&self, queue: &str) {
        let channel = self.connection.create_channel().await.unwrap();
        let name = format!("{}.{queue}", self.prefix);
        channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// Whether there is a queue `<prefix>.<queue>`.
    pub async fn has_queue(&self, queue: &str) -> bool {
        let channel = self.connection.create_channel().await.unwrap();
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = format!("{}.{queue}", self.prefix);
        channel.queue_declare(queue.into(), passive, FieldTable::default()).await.is_ok()
    }

    /// Waits until `depth` messages wait in `<prefix>.<queue>`: a delivery that was not acknowledged goes back a moment after its
    /// consumer is gone.
    pub async fn until_depth(&self, queue: &str, depth: u32) {
        until_true(&format!("{depth} messages in {queue}"), async || self.depth(queue).await == depth).await;
    }

    /// How many messages wait in `<prefix>.<queue>`.
    pub async fn depth(&self, queue: &str) -> u32 {
        let channel = self.connection.create_channel().await.unwrap();
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = format!("{}.{queue}", self.prefix);
        let depth = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap().message_count();
        let _ = channel.close(200, "OK".into()).await;
        depth
    }
}

fn profile(id: &str) -> Value {
    json!({ "id": id, "username": id, "email": format!("{id}@example.com"), "email_verified": true })
}

fn lock(replies: &Replies) -> std::sync::MutexGuard<'_, HashMap<String, Vec<(Value, BasicProperties)>>> {
    replies.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An event.
#[derive(Debug)]
pub struct Event {
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Value,
}

/// A queue that takes events.
pub struct Events {
    channel: Channel,
    queue: String,
}

impl Events {
    /// Deletes the queue.
    pub async fn delete(self) {
        self.channel.queue_delete(self.queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// Waits for the next event.
    pub async fn next(&self) -> Event {
        until("an event", async || self.try_next().await).await
    }

    /// The next event, if there is one.
    pub async fn try_next(&self) -> Option<Event> {
        let options = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(self.queue.as_str().into(), options).await.unwrap()?.delivery;
        let body = serde_json::from_slice(&got.data).unwrap();
        Some(Event { routing_key: got.routing_key.to_string(), properties: got.properties, body })
    }

    /// All up to the first of this name, that one included.
    pub async fn up_to(&self, name: &str) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            let last = event.routing_key == name;
            events.push(event);
            if last {
                return events;
            }
        }
    }
}
