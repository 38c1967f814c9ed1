//! Listens to regrant's events, and ends the sessions that your app keeps.
//!
//! `AMQP_URL` is your app's own broker user, `REGRANT_PREFIX` is `broker.prefix` of the daemon, `SESSIONS_QUEUE` is this
//! app's own queue. Ends in good order on SIGTERM and SIGINT.

#![expect(clippy::print_stdout, reason = "what it does is printed")]
#![expect(clippy::unused_self, reason = "a real store of sessions has something in it")]

use std::collections::{HashMap, HashSet, VecDeque};
use std::env;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties, Consumer};
use serde::Deserialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

const NAMES: [&str; 2] = ["session.revoked", "password.changed"];
/// Events that may be here without being acknowledged.
const PREFETCH: u16 = 50;

/// A `CloudEvent`, as far as it matters here.
#[derive(Deserialize)]
struct Event {
    id: String,
    /// The person.
    subject: String,
    #[serde(flatten)]
    what: What,
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "data")]
enum What {
    #[serde(rename = "regrant.session.revoked")]
    SessionRevoked {
        session_ids: Vec<String>,
        session_epoch: i64,
        except_session_id: Option<String>,
        reason: Option<String>,
    },
    #[serde(rename = "regrant.password.changed")]
    PasswordChanged {},
    /// Bound by hand, or by an older version of this program.
    #[serde(other)]
    Other,
}

/// Stands for your app's session store: put your own behind these methods.
///
/// Each can be done twice without harm: after a crash, an event can come again.
#[derive(Default)]
struct Sessions {
    oldest_epoch: HashMap<String, i64>,
}

impl Sessions {
    /// Sessions that are kept on the server: delete them.
    fn end(&mut self, user: &str, session_ids: &[String], reason: &str) {
        for id in session_ids {
            println!("ended session {id} of {user} ({reason})");
        }
    }

    /// Sessions that live in signed cookies: those hold the `session_epoch` of their sign-in, and an older one is refused.
    ///
    /// One session may stay (that in which they changed their own password, or one that support left out): its cookie is good
    /// and gets the new epoch when it is next seen.
    fn refuse_before(&mut self, user: &str, epoch: i64, but: Option<&str>) {
        let oldest = self.oldest_epoch.entry(user.to_owned()).or_default();
        // An older event may come again after a newer one: the epoch only ever grows.
        if epoch > *oldest {
            *oldest = epoch;
            let stays = but.map(|id| format!(", but for session {id}")).unwrap_or_default();
            println!("cookies of {user} from before epoch {epoch} are refused{stays}");
        }
    }

    /// Whatever else opens the account without its password: "remember me", trusted devices, API keys.
    fn forget_devices(&mut self, user: &str) {
        println!("forgot the remembered devices of {user}");
    }
}

/// The ids of the latest events. An event that comes twice has the same `id`.
///
/// Memory is enough here, since doing it twice does no harm. Where it does (you count, or send a message), keep the ids in
/// your database, and write each in the transaction that also writes what the event brings about.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    oldest_first: VecDeque<String>,
}

impl Seen {
    const SIZE: usize = 10_000;

    fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    fn add(&mut self, id: String) {
        self.ids.insert(id.clone());
        self.oldest_first.push_back(id);
        if self.oldest_first.len() > Self::SIZE
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// What outlives a connection.
#[derive(Default)]
struct Listener {
    sessions: Sessions,
    seen: Seen,
}

impl Listener {
    /// An event is remembered after it was dealt with: if that fails, it comes again.
    fn handle(&mut self, event: Event) {
        if self.seen.contains(&event.id) {
            return;
        }
        let user = &event.subject;
        match event.what {
            What::SessionRevoked { session_ids, session_epoch, except_session_id, reason } => {
                self.sessions.end(user, &session_ids, reason.as_deref().unwrap_or("signed out by support"));
                self.sessions.refuse_before(user, session_epoch, except_session_id.as_deref());
            }
            What::PasswordChanged {} => self.sessions.forget_devices(user),
            What::Other => {}
        }
        self.seen.add(event.id);
    }

    /// Takes events one after the other, as they are to be dealt with, until it is to stop.
    async fn listen(&mut self, url: &str, prefix: &str, queue: &str, stop: &mut Stop) -> lapin::Result<Ended> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let mut events = subscribe(&connection, prefix, queue).await?;
        println!("listening");
        let ended = loop {
            let delivery = tokio::select! {
                delivery = events.next() => delivery,
                () = stop.wanted() => break Ended::Stopped,
            };
            let Some(delivery) = delivery else { break Ended::QueueGone };
            self.deal(delivery?).await?;
        };
        // What was not acknowledged returns to the queue.
        connection.close(200, "OK".into()).await?;
        Ok(ended)
    }

    async fn deal(&mut self, delivery: Delivery) -> lapin::Result<()> {
        match serde_json::from_slice(&delivery.data) {
            Ok(event) => {
                self.handle(event);
                // Only now: an event that was being dealt with when this process died comes again.
                delivery.ack(BasicAckOptions::default()).await?;
            }
            // It will not be better the next time. Without `requeue` it goes to the queue's dead letters, if it has any.
            Err(error) => {
                eprintln!("an event could not be understood: {error}");
                delivery.nack(BasicNackOptions { requeue: false, ..BasicNackOptions::default() }).await?;
            }
        }
        Ok(())
    }
}

/// Why it listens no more.
enum Ended {
    Stopped,
    QueueGone,
}

/// The signals that ask this program to end.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    async fn wanted(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn subscribe(connection: &Connection, prefix: &str, queue: &str) -> lapin::Result<Consumer> {
    let channel = connection.create_channel().await?;
    // A named, durable queue of this app: what happens while it is down waits here. All its processes share it.
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.into(), durable, quorum).await?;
    for name in NAMES {
        let (exchange, options) = (format!("{prefix}.events"), QueueBindOptions::default());
        channel.queue_bind(queue.into(), exchange.into(), name.into(), options, FieldTable::default()).await?;
    }
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let variable = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let url = variable("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f");
    let (prefix, queue) = (variable("REGRANT_PREFIX", "regrant"), variable("SESSIONS_QUEUE", "shop.sessions"));
    let mut stop = Stop { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let mut listener = Listener::default();
    loop {
        match listener.listen(&url, &prefix, &queue, &mut stop).await {
            Ok(Ended::Stopped) => return Ok(()),
            Ok(Ended::QueueGone) => eprintln!("the queue was deleted; trying again"),
            // The connection is gone, or the daemon has not made its exchange yet.
            Err(error) => eprintln!("not listening ({error}); trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
            () = stop.wanted() => return Ok(()),
        }
    }
}
