//! A client for regrant: sends a command, waits for its reply, and sends it again if none comes.
//!
//! Copy this file into your app. One client serves any number of calls at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crypto_box::PublicKey;
use crypto_box::aead::OsRng;
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// RabbitMQ's pseudo-queue for replies. It belongs to the channel: consume from it first, then publish on the same one.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";
const PERSISTENT: u8 = 2;
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// When a missing reply is asked for again.
const RESEND_AFTER: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// regrant says no.
    #[error("{0}")]
    Refused(Refusal),
    /// No answer in time. The command may have taken effect or not, but it will not any more.
    #[error("no reply to {command} in {} s{}", PATIENCE.as_secs(), .source.as_ref().map_or_else(String::new, |e| format!(" (last: {e})")))]
    NoReply {
        /// What was sent.
        command: String,
        /// What last went wrong, if anything did.
        source: Option<lapin::Error>,
    },
    /// Repetition does not mend that.
    #[error("the broker refuses the user, does not allow it, or the daemon has never run: {0}")]
    Misconfigured(#[source] lapin::Error),
    /// The answer cannot be read.
    #[error("this is no answer of regrant: {0}")]
    NotUnderstood(String),
}

/// The `error` of a reply.
#[derive(Debug, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// For the program.
    pub code: String,
    /// For people.
    pub message: String,
    /// They depend on the code.
    #[serde(default)]
    pub details: Map<String, Value>,
}

/// Calls regrant as a user of the broker.
pub struct Client {
    uri: AMQPUri,
    exchange: String,
    link: tokio::sync::Mutex<Option<Link>>,
    waiting: Waiting,
    sealing_key: tokio::sync::Mutex<Option<SealingKey>>,
}

/// Who waits for the reply, by message id.
type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Vec<u8>>>>>;

struct Link {
    // Closes when dropped.
    _connection: Connection,
    channel: Channel,
}

/// What goes out, and goes out again if no reply comes: the same to the last byte, so it takes effect once.
struct Message {
    command: String,
    body: Vec<u8>,
    properties: BasicProperties,
}

#[derive(Clone, Deserialize)]
struct SealingKey {
    key_id: String,
    public_key: String,
}

impl Client {
    /// A client for the daemon whose `broker.prefix` this is. It connects at the first call.
    pub fn new(url: &str, prefix: &str) -> Result<Self, String> {
        Ok(Self {
            uri: url.parse()?,
            exchange: format!("{prefix}.commands"),
            link: tokio::sync::Mutex::default(),
            waiting: Waiting::default(),
            sealing_key: tokio::sync::Mutex::default(),
        })
    }

    /// Sends a command; its `result`.
    pub async fn call(&self, command: &str, body: &Value) -> Result<Value, Error> {
        // Made once: its lifetime counts from when the person asked.
        let id = Uuid::now_v7().to_string();
        let message = self.message(&id, command, body);
        let (told, mut reply) = oneshot::channel();
        let _waiting = WaitingFor::new(&self.waiting, &id, told);
        let deadline = Instant::now() + PATIENCE;
        let mut trouble = None;
        let mut pause = Duration::from_millis(100);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::NoReply { command: command.to_owned(), source: trouble });
            }
            let answer = async {
                // If the broker could not keep it, no reply will come.
                Ok(if self.publish(&message).await? { (&mut reply).await.ok() } else { None })
            };
            match timeout(RESEND_AFTER.min(left), answer).await {
                Ok(Ok(Some(answer))) => return read(&answer),
                Ok(Err(error)) if lapin::Error::is_amqp_soft_error(&error) => return Err(Error::Misconfigured(error)),
                Ok(Err(error)) => trouble = Some(error),
                Ok(Ok(None)) | Err(_) => {}
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// As [`Self::call`], with fields that nobody but the daemon can read.
    pub async fn call_sealed(&self, command: &str, body: &Value, secrets: &[(&str, &str)]) -> Result<Value, Error> {
        match self.call(command, &self.sealed(body, secrets).await?).await {
            // The daemon's key was replaced since we asked for it. Another body is another command, with an id of its own.
            Err(Error::Refused(refusal)) if refusal.code == "sealed_invalid" => {
                *self.sealing_key.lock().await = None;
                self.call(command, &self.sealed(body, secrets).await?).await
            }
            ended => ended,
        }
    }

    /// Sealing twice gives different bytes, which would be refused under one message id: it is done once a call.
    async fn sealed(&self, body: &Value, secrets: &[(&str, &str)]) -> Result<Value, Error> {
        let SealingKey { key_id, public_key } = self.sealing_key().await?;
        let bad_key = || Error::NotUnderstood("the sealing key is no X25519 key".to_owned());
        let public_key = BASE64_STANDARD.decode(public_key).map_err(|_| bad_key())?;
        let public_key = PublicKey::from_slice(&public_key).map_err(|_| bad_key())?;
        let mut body = body.clone();
        for (field, secret) in secrets {
            let sealed = public_key.seal(&mut OsRng, secret.as_bytes()).map_err(|_| bad_key())?;
            body[field] = json!({ "sealed": BASE64_STANDARD.encode(sealed), "key_id": key_id });
        }
        Ok(body)
    }

    async fn sealing_key(&self) -> Result<SealingKey, Error> {
        let mut known = self.sealing_key.lock().await;
        if let Some(key) = known.as_ref() {
            return Ok(key.clone());
        }
        let mut info = self.call("daemon.info", &json!({})).await?;
        let key = serde_json::from_value(info["sealing_key"].take());
        let key: SealingKey = key.map_err(|error| Error::NotUnderstood(error.to_string()))?;
        *known = Some(key.clone());
        Ok(key)
    }

    fn message(&self, id: &str, command: &str, body: &Value) -> Message {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let properties = BasicProperties::default()
            // The idempotency key.
            .with_message_id(id.into())
            .with_correlation_id(id.into())
            .with_reply_to(DIRECT_REPLY_TO.into())
            // Who sends this. RabbitMQ lets nobody use a name that is not their own, so the daemon can rely on it.
            .with_user_id(self.uri.authority.userinfo.username.as_str().into())
            // When the person asked: the link's lifetime counts from here.
            .with_timestamp(now.as_secs())
            // When we have given up, nothing is to happen behind our back.
            .with_expiration(PATIENCE.as_millis().to_string().into())
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT);
        Message { command: command.to_owned(), body: body.to_string().into_bytes(), properties }
    }

    /// Waits until the broker has confirmed that the message is safe; says whether it is.
    async fn publish(&self, message: &Message) -> lapin::Result<bool> {
        let channel = self.channel().await?;
        let (exchange, command) = (self.exchange.as_str().into(), message.command.as_str().into());
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(exchange, command, options, &message.body, message.properties.clone());
        Ok(sent.await?.await?.is_ack())
    }

    /// The open channel, or a new one.
    async fn channel(&self) -> lapin::Result<Channel> {
        let mut link = self.link.lock().await;
        if let Some(Link { channel, .. }) = link.as_ref()
            && channel.status().connected()
        {
            return Ok(channel.clone());
        }
        let connection = Connection::connect_uri(self.uri.clone(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let replies = channel.basic_consume(DIRECT_REPLY_TO.into(), "".into(), options, FieldTable::default()).await?;
        tokio::spawn(hand_out(replies, Arc::clone(&self.waiting)));
        *link = Some(Link { _connection: connection, channel: channel.clone() });
        Ok(channel)
    }
}

/// Gives replies to those who wait for them, until the channel is closed.
async fn hand_out(mut replies: Consumer, waiting: Waiting) {
    while let Some(Ok(reply)) = replies.next().await {
        let Some(id) = reply.properties.correlation_id() else { continue };
        if let Some(told) = lock(&waiting).remove(id.as_str()) {
            // Whoever asked may have given up at this moment.
            let _ = told.send(reply.data);
        }
    }
}

/// A place among those who wait, given up when dropped.
struct WaitingFor<'a> {
    waiting: &'a Waiting,
    id: &'a str,
}

impl<'a> WaitingFor<'a> {
    fn new(waiting: &'a Waiting, id: &'a str, told: oneshot::Sender<Vec<u8>>) -> Self {
        lock(waiting).insert(id.to_owned(), told);
        Self { waiting, id }
    }
}

impl Drop for WaitingFor<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(self.id);
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Vec<u8>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `{"ok": true, "result": …}` or `{"ok": false, "error": {…}}`.
fn read(reply: &[u8]) -> Result<Value, Error> {
    #[derive(Deserialize)]
    struct Reply {
        result: Option<Value>,
        error: Option<Refusal>,
    }
    match serde_json::from_slice(reply) {
        Ok(Reply { result: Some(result), .. }) => Ok(result),
        Ok(Reply { error: Some(refusal), .. }) => Err(Error::Refused(refusal)),
        Ok(_) => Err(Error::NotUnderstood("neither result nor error".to_owned())),
        Err(error) => Err(Error::NotUnderstood(error.to_string())),
    }
}
