//! RabbitMQ: the only module that knows the client library.
//!
//! A [`Broker`] keeps three connections: one to consume and one to publish, because a broker that runs out of
//! memory or disk stops reading from connections that publish, and acknowledgements must still get through; and one for replies,
//! because a forged `reply_to` (of direct reply-to) makes `RabbitMQ` close the connection that it is used on.
//! Each is supervised (`supervisor.rs`): opened within a bounded time, its topology declared, watched, and opened
//! again when it is lost, for ever. Consumers end when their channel does, and the caller asks for a new one.

mod admin;
mod backoff;
mod client;
mod connection;
mod consumer;
mod depth;
mod direct;
mod error;
mod frame_guard;
mod headers;
mod message;
mod publisher;
mod reply;
mod session;
mod supervisor;
mod topology;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use backoff::{Backoff, jittered};
use connection::Endpoint;
use session::{LinkState, Session};
use supervisor::Supervisor;

use crate::vitals::Vitals;

pub use admin::{Depth, Described};
pub use client::{CallError, Client, ConnectError};
pub use consumer::{Acknowledger, Consumer};
pub use error::{Gone, InvalidUrl, PublishError};
pub use frame_guard::SUBSTITUTE;
pub use headers::{HeaderValue, Headers};
pub use message::{Delivery, Outgoing, Properties};
pub use topology::{RETRY_DELAYS, Topology};

/// Log targets of the client library that must stay off, whatever level is asked for: it logs at `warn`, body and
/// all, each message that the broker returns, and a reply may hold a temporary password. The rest of what it says
/// this module says better.
pub const SILENT_LOG_TARGETS: [&str; 1] = ["lapin"];

/// How to reach the broker.
#[derive(Clone, Debug)]
pub struct Options {
    /// `amqp://user:password@host:port/vhost`, or `amqps://`. Parameters: `heartbeat` (seconds, default 15),
    /// `connection_timeout` (milliseconds, default 8000), `frame_max` (bytes, default 131072; where the broker's is raised, for
    /// messages with larger headers, it must be raised here too), `channel_max`, `auth_mechanism` (`external` with a
    /// certificate), `cacertfile`, `certfile`, `keyfile` (PEM).
    pub url: SecretString,
    /// The name that the broker shows for the connections; ` (consume)`, ` (publish)` or ` (reply)` is added.
    pub connection_name: String,
}

/// One of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Deliveries and their acknowledgements.
    Consume,
    /// Everything that is published, but for replies.
    Publish,
    /// Replies.
    Reply,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consume => "consume",
            Self::Publish => "publish",
            Self::Reply => "reply",
        })
    }
}

/// What happened to a connection, or on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is open, and the topology is declared.
    Connected,
    /// It was lost, or closed when the daemon stops.
    Lost,
    /// The broker takes no messages on it until its alarm is over.
    Blocked,
    /// The alarm is over.
    Unblocked,
    /// So many replies could not be delivered.
    RepliesDropped(u64),
}

/// A handle on the broker; clones share the connections, which close when the last one is dropped.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
}

struct Shared {
    topology: Arc<Topology>,
    consume: watch::Receiver<LinkState>,
    publish: watch::Receiver<LinkState>,
    reply: watch::Receiver<LinkState>,
    /// By queue, why it is not consumed although there is a connection.
    unconsumed: Mutex<BTreeMap<String, String>>,
    dropped_replies: reply::Dropped,
    supervisors: TaskTracker,
    stop: DropGuard,
}

impl Broker {
    /// Starts to connect, and returns at once. `on_change` is called from the supervisors: it must not block. They show in
    /// `vitals` that they run.
    ///
    /// Needs a tokio runtime.
    pub fn start(
        options: &Options,
        topology: Topology,
        vitals: &Vitals,
        on_change: impl Fn(Link, Change) + Send + Sync + 'static,
    ) -> Result<Self, InvalidUrl> {
        let endpoint = Endpoint::parse(&options.url)?;
        let topology = Arc::new(topology);
        let on_change: Arc<dyn Fn(Link, Change) + Send + Sync> = Arc::new(on_change);
        let dropped_replies = reply::Dropped::new(Arc::clone(&on_change));
        let supervisors = TaskTracker::new();
        let stop = CancellationToken::new();
        let supervise = |link| {
            let (state, receiver) = watch::channel(LinkState::down(format!("connecting to RabbitMQ at {endpoint}")));
            let supervisor = Supervisor {
                link,
                endpoint: endpoint.clone(),
                name: format!("{} ({link})", options.connection_name),
                topology: (link != Link::Reply).then(|| topology.clone()),
                state,
                on_change: on_change.clone(),
                dropped_replies: dropped_replies.clone(),
                stop: stop.clone(),
                pulse: vitals.pulse(format!("broker connection ({link})")),
            };
            supervisors.spawn(supervisor.run());
            receiver
        };
        let (consume, publish, reply) = (supervise(Link::Consume), supervise(Link::Publish), supervise(Link::Reply));
        let shared = Shared {
            topology,
            consume,
            publish,
            reply,
            unconsumed: Mutex::default(),
            dropped_replies,
            supervisors,
            stop: stop.drop_guard(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The names of exchanges and queues.
    pub fn topology(&self) -> &Topology {
        &self.shared.topology
    }

    /// Whether everything works: all connections are open and not blocked, and every consumer that was asked for
    /// could be started. That replies cannot be sent counts only once it lasts, or the connection is lost again and again: it is the
    /// one that others can make the broker close.
    pub fn is_connected(&self) -> bool {
        self.problem().is_none()
    }

    /// Why not everything works, and what to do about it. Holds no password.
    pub fn problem(&self) -> Option<String> {
        let unconsumed = || {
            let unconsumed = self.shared.unconsumed.lock().unwrap_or_else(PoisonError::into_inner);
            unconsumed.values().next().cloned()
        };
        let consume = self.shared.consume.borrow().problem();
        let reply = || self.shared.reply.borrow().lasting_problem();
        consume.or_else(|| self.shared.publish.borrow().problem()).or_else(reply).or_else(unconsumed)
    }

    /// A consumer of `queue` with at most `prefetch` deliveries unacknowledged. Declares the topology first, so that
    /// a queue that was deleted is there again.
    ///
    /// Waits for as long as it takes; for ever, once the broker is closed. Cancel-safe.
    pub async fn consumer(&self, queue: &str, prefetch: u16) -> Consumer {
        let mut consume = self.shared.consume.clone();
        let mut backoff = Backoff::new();
        let mut trouble = Trouble { shared: &self.shared, queue, told: None };
        loop {
            let waited = consume.wait_for(|state| state.session().is_some()).await;
            let Ok(session) = waited.map(|state| state.session().cloned()) else {
                return std::future::pending().await;
            };
            let Some(session) = session else { continue };
            match Consumer::open(&session, queue, prefetch).await {
                Ok(consumer) => {
                    if trouble.told.is_some() {
                        info!(queue, "consuming again");
                    }
                    return consumer;
                }
                Err(problem) => {
                    // Without a connection it is the connection's problem, and told there.
                    if session.is_open() {
                        trouble.tell(&problem.text);
                    }
                    sleep(if problem.lasting { jittered(Duration::from_secs(10)) } else { backoff.next() }).await;
                }
            }
        }
    }

    /// A handle for publishing, which waits up to 5 s for the connection.
    pub fn publisher(&self) -> Publisher {
        Publisher { shared: self.shared.clone(), patience: Duration::from_secs(5) }
    }

    /// How many replies could not be delivered since the start.
    pub fn dropped_replies(&self) -> u64 {
        self.shared.dropped_replies.count()
    }

    /// Closes all connections properly, within seconds, for all clones of the handle. What was delivered and not
    /// acknowledged is delivered again, elsewhere or after the next start.
    pub async fn close(self) {
        self.shared.stop.token().cancel();
        self.shared.supervisors.close();
        self.shared.supervisors.wait().await;
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("problem", &self.problem()).finish_non_exhaustive()
    }
}

/// Why a queue is not consumed; forgotten when somebody consumes it, or no longer wants to.
struct Trouble<'a> {
    shared: &'a Shared,
    queue: &'a str,
    told: Option<String>,
}

impl Trouble<'_> {
    fn tell(&mut self, problem: &str) {
        if self.told.as_deref() != Some(problem) {
            warn!(queue = self.queue, "{problem} (trying again until it works)");
            self.told = Some(problem.to_owned());
            let mut unconsumed = self.shared.unconsumed.lock().unwrap_or_else(PoisonError::into_inner);
            unconsumed.insert(self.queue.to_owned(), problem.to_owned());
        }
    }
}

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        if self.told.is_some() {
            let mut unconsumed = self.shared.unconsumed.lock().unwrap_or_else(PoisonError::into_inner);
            unconsumed.remove(self.queue);
        }
    }
}

/// A handle for publishing.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    patience: Duration,
}

impl Publisher {
    /// The same, waiting up to `patience` for a connection that takes messages.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Publishes in order, and says of each message what became of it, in the same order. `Ok` is a message that
    /// the broker has taken responsibility for.
    ///
    /// After the first message whose fate is [`PublishError::Unknown`] because the connection was lost, none is sent
    /// any more. Dropping the future leaves the fate of what was under way unknown.
    pub async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let run = publisher::Run::new(&messages);
        if messages.is_empty() {
            return Vec::new();
        }
        match session(&self.shared.publish, Instant::now() + self.patience).await {
            Ok(session) => run.send(&session).await,
            Err(problem) => run.finish(&problem),
        }
    }

    /// Sends a reply to the queue named by the routing key, through the default exchange, transient and without
    /// confirm. Never takes long: while the broker is blocked, or away for more than 2 s, the reply is dropped; at once if the last
    /// connection for replies did not last.
    ///
    /// `Ok` says that it was handed over. If the queue turns out not to exist, the reply is counted among
    /// [`Broker::dropped_replies`], as is each that fails here. The daemon's own queues are refused as addresses:
    /// a reply to one of them would be taken for a command; and so are addresses of direct reply-to that `RabbitMQ` cannot have
    /// made, since it would close the connection.
    pub async fn reply(&self, message: Outgoing) -> Result<(), PublishError> {
        let result = self.try_reply(&message).await;
        if result.is_err() {
            self.shared.dropped_replies.add(1);
        }
        result
    }

    async fn try_reply(&self, message: &Outgoing) -> Result<(), PublishError> {
        if self.shared.topology.has_queue(&message.routing_key) {
            return Err(PublishError::refused(format!(
                "`{}` is one of the daemon's own queues and takes no replies",
                message.routing_key
            )));
        }
        if direct::is_forged(&message.routing_key) {
            return Err(PublishError::refused(format!(
                "`{}` is no address of direct reply-to: RabbitMQ cannot have made it",
                message.routing_key
            )));
        }
        let deadline = match &*self.shared.reply.borrow() {
            LinkState::Down { since, lasted: true, .. } => *since + reply::REPLY_TIMEOUT,
            LinkState::Down { .. } | LinkState::Up { .. } => Instant::now(),
        };
        let session = session(&self.shared.reply, deadline).await.map_err(PublishError::Unavailable)?;
        reply::send(&session, message).await
    }

    /// Whether the daemon's broker user may publish with somebody else's `user_id` (it has the tag `impersonator`).
    /// Found out once a connection; `false` while there is none.
    pub async fn can_impersonate(&self) -> bool {
        match session(&self.shared.publish, Instant::now() + self.patience).await {
            Ok(session) => session.can_impersonate().await.unwrap_or(false),
            Err(_) => false,
        }
    }
}

/// A session that takes messages, or by `deadline` the reason why there is none.
async fn session(link: &watch::Receiver<LinkState>, deadline: Instant) -> Result<Arc<Session>, String> {
    let mut link = link.clone();
    if let Ok(Ok(state)) = timeout_at(deadline, link.wait_for(|state| state.publishable().is_some())).await
        && let Some(session) = state.publishable()
    {
        return Ok(session.clone());
    }
    let problem = link.borrow().problem();
    Err(problem.unwrap_or_else(|| "the connection to RabbitMQ has only just come back".to_owned()))
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("patience", &self.patience).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything here is used from spawned tasks. Only compiled.
    #[expect(dead_code, reason = "that it compiles is the test")]
    fn futures_are_send(broker: Broker, publisher: &Publisher, consumer: &mut Consumer, client: &Client) {
        fn send(_: impl Send) {}
        send(broker.consumer("", 1));
        send(publisher.publish(Vec::new()));
        send(publisher.reply(Outgoing::default()));
        send(publisher.can_impersonate());
        send(consumer.batch(1));
        send(consumer.acknowledger().ack_through(1));
        send(consumer.requeue(1));
        send(consumer.stop());
        send(client.call(Outgoing::default(), Duration::ZERO));
        send(client.consumer("", 1));
        send(client.may_publish(""));
        send(broker.close());
    }
}
