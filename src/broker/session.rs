//! An open connection with what belongs to it, and the state of a link over several of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, Event};
use tokio::sync::{Notify, OnceCell};
use tokio::time::{Instant, sleep, timeout};

use super::connection::{Problem, SocketGuard};
use super::error;
use super::reply;
use super::topology::Topology;

/// For one exchange of words with the broker.
const RPC_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for which a declaration holds: another one so soon is not worth its round trips.
const DECLARATION_HOLDS: Duration = Duration::from_secs(1);
/// Neither a user nor a queue: for finding out what the broker makes of a foreign `user_id`.
const NOBODY: &str = "regrant-impersonation-probe";
/// Idle channels that are kept.
const MAX_IDLE: usize = 16;

/// The time for which a problem with a connection that others can make the broker close is taken for a passing one.
const PASSES: Duration = Duration::from_secs(5);
/// A connection that lasted so long was a good one, and the next try is made at once.
pub(super) const GOOD: Duration = Duration::from_secs(5);

/// What is known about one of the connections.
#[derive(Clone)]
pub(super) enum LinkState {
    Down {
        problem: String,
        since: Instant,
        /// The connection that was lost had lasted, or there was none yet: the next one may be expected soon.
        lasted: bool,
    },
    Up {
        session: Arc<Session>,
        /// The broker's reason for taking no messages at the moment.
        blocked: Option<String>,
        /// It is only the next of several that did not last.
        unsteady: Option<Unsteady>,
    },
}

/// A connection that was lost again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsteady {
    /// When one that had lasted was lost.
    since: Instant,
    /// When this one was opened.
    opened: Instant,
}

impl Unsteady {
    /// Whether that has gone on for a while, and this one has not lasted yet.
    fn lasts(&self, now: Instant) -> bool {
        now - self.since >= PASSES && now - self.opened < GOOD
    }
}

/// The losses of a connection since it lasted.
#[derive(Debug, Default)]
pub(super) struct Losses {
    first: Option<Instant>,
    again: bool,
}

impl Losses {
    /// One that lasted, or not, is lost: since when there has been none that lasted.
    pub(super) fn lost(&mut self, lasted: bool, now: Instant) -> Instant {
        if lasted {
            self.first = None;
        }
        self.again = !lasted;
        *self.first.get_or_insert(now)
    }

    /// The next is open.
    pub(super) fn opened(&self, now: Instant) -> Option<Unsteady> {
        self.first.filter(|_| self.again).map(|since| Unsteady { since, opened: now })
    }
}

impl LinkState {
    pub(super) fn down(problem: impl Into<String>) -> Self {
        Self::Down { problem: problem.into(), since: Instant::now(), lasted: true }
    }

    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Self::Up { session, .. } => Some(session),
            Self::Down { .. } => None,
        }
    }

    /// The session, if messages can be published on it.
    pub(super) fn publishable(&self) -> Option<&Arc<Session>> {
        match self {
            Self::Up { session, blocked: None, .. } => Some(session),
            _ => None,
        }
    }

    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Down { problem, .. } => Some(problem.clone()),
            Self::Up { blocked: Some(reason), .. } => Some(format!(
                "RabbitMQ takes no messages at the moment, its alarm says: {reason}. Commands wait in their queues; \
                 free memory or disk space on the broker"
            )),
            Self::Up { .. } => None,
        }
    }

    /// The problem, if it is more than a connection that was lost a moment ago.
    pub(super) fn lasting_problem(&self) -> Option<String> {
        match self {
            Self::Down { since, .. } if since.elapsed() < PASSES => None,
            Self::Up { blocked: None, unsteady: Some(unsteady), .. } if unsteady.lasts(Instant::now()) => Some(
                "RabbitMQ closes the connection for replies again and again; somebody may be sending commands with a forged \
                 reply_to"
                    .to_owned(),
            ),
            _ => self.problem(),
        }
    }
}

/// An open connection.
pub(super) struct Session {
    connection: Connection,
    socket: SocketGuard,
    /// The name of the broker user, where it is known.
    user: Option<String>,
    topology: Option<Arc<Topology>>,
    declared: tokio::sync::Mutex<Option<Instant>>,
    impersonates: OnceCell<bool>,
    idle: Mutex<Vec<Channel>>,
    pub(super) replies: tokio::sync::Mutex<Option<Channel>>,
    /// Replies left that nobody has looked after yet.
    replied: AtomicBool,
    news: Notify,
}

impl Session {
    pub(super) fn new(
        connection: Connection,
        socket: SocketGuard,
        user: Option<String>,
        topology: Option<Arc<Topology>>,
    ) -> Self {
        Self {
            connection,
            socket,
            user,
            topology,
            declared: tokio::sync::Mutex::default(),
            impersonates: OnceCell::new(),
            idle: Mutex::default(),
            replies: tokio::sync::Mutex::default(),
            replied: AtomicBool::new(false),
            news: Notify::new(),
        }
    }

    /// A reply left.
    pub(super) fn reply_left(&self) {
        if !self.replied.swap(true, Ordering::AcqRel) {
            self.news.notify_one();
        }
    }

    /// Waits until replies left, and a little for those that come back.
    pub(super) async fn replies_left(&self) {
        self.news.notified().await;
        sleep(reply::RETURN).await;
        self.replied.store(false, Ordering::Release);
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.status().connected()
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Bytes that one frame may have.
    pub(super) fn frame_max(&self) -> usize {
        match self.connection.configuration().frame_max() {
            0 => usize::MAX,
            bytes => bytes as usize,
        }
    }

    pub(super) async fn channel(&self) -> Result<Channel, lapin::Error> {
        bounded(self.connection.create_channel()).await
    }

    /// Declares the topology, if this connection is one to do so and has not just done it.
    pub(super) async fn declare(&self) -> Result<(), Problem> {
        let Some(topology) = &self.topology else {
            return Ok(());
        };
        let mut declared = self.declared.lock().await;
        if declared.is_some_and(|at| at.elapsed() < DECLARATION_HOLDS) {
            return Ok(());
        }
        let failed = |error: &lapin::Error| Problem::passing(format!("no channel: {}", error::explain(error)));
        let channel = self.channel().await.map_err(|error| failed(&error))?;
        match timeout(3 * RPC_TIMEOUT, topology.declare(&channel)).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(Problem::passing("RabbitMQ did not declare the queues within 30 s".to_owned()));
            }
        }
        *declared = Some(Instant::now());
        close(&channel).await;
        Ok(())
    }

    /// A channel with publisher confirms for the caller alone.
    pub(super) async fn confirming_channel(&self) -> Result<Channel, lapin::Error> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(channel) if channel.status().connected() => return Ok(channel),
                Some(_) => {}
                None => break,
            }
        }
        let channel = self.channel().await?;
        bounded(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    /// Gives back a channel on which nothing is outstanding.
    pub(super) fn give_back(&self, channel: Channel) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if channel.status().connected() && idle.len() < MAX_IDLE {
            idle.push(channel);
        }
    }

    /// Whether the broker user may publish with somebody else's `user_id`. Asked once a connection: a message
    /// that goes nowhere is published on a channel of its own, which the broker closes if it may not.
    pub(super) async fn can_impersonate(&self) -> Result<bool, lapin::Error> {
        self.impersonates
            .get_or_try_init(|| async {
                let channel = self.channel().await?;
                bounded(channel.confirm_select(ConfirmSelectOptions::default())).await?;
                let properties = BasicProperties::default().with_user_id(NOBODY.into());
                let options = BasicPublishOptions::default();
                let asked = bounded(async {
                    channel.basic_publish("".into(), NOBODY.into(), options, b"", properties).await?.await
                });
                match asked.await {
                    Ok(_) => {
                        close(&channel).await;
                        Ok(true)
                    }
                    // Without the right to write to the default exchange there is nothing to find out; then
                    // messages with another user_id are better not tried.
                    Err(error) if error::is_soft(&error) => Ok(false),
                    Err(error) => Err(error),
                }
            })
            .await
            .copied()
    }

    /// What happens to the connection from now on.
    pub(super) fn events(&self) -> BoxStream<'static, Event> {
        self.connection.events_listener().boxed()
    }

    /// Says goodbye, within a bounded time; or not at all to a broker that has an alarm and listens to nobody.
    pub(super) async fn close(&self) {
        if !self.connection.status().blocked() {
            // Whatever the broker answers, the socket is shut down afterwards.
            let _ = timeout(Duration::from_secs(2), self.connection.close(200, "OK".into())).await;
        }
        self.socket.shut();
    }

    /// Ends the connection at once.
    pub(super) fn shut(&self) {
        self.socket.shut();
    }
}

pub(super) async fn close(channel: &Channel) {
    // A channel that cannot be closed is closed already.
    let _ = bounded(channel.close(200, "OK".into())).await;
}

/// The answer to `request`, or an error when the broker takes too long for it.
pub(super) async fn bounded<T>(request: impl Future<Output = Result<T, lapin::Error>>) -> Result<T, lapin::Error> {
    match timeout(RPC_TIMEOUT, request).await {
        Ok(answer) => answer,
        Err(_) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the broker does not answer").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_lost_again_and_again_is_a_lasting_problem_until_one_lasts() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut losses = Losses::default();
        assert_eq!(losses.opened(at(0)), None);
        assert_eq!(losses.lost(true, at(100)), at(100));
        assert_eq!(losses.opened(at(120)), None, "it was away for long, once");
        assert_eq!(losses.lost(true, at(200)), at(200));
        assert_eq!(losses.opened(at(201)), None);
        for lost in [203, 205, 207] {
            assert_eq!(losses.lost(false, at(lost)), at(200), "the time of the first loss stays");
            let unsteady = losses.opened(at(lost + 1)).unwrap();
            assert_eq!(unsteady.lasts(at(lost + 1)), lost >= 205);
            assert!(!unsteady.lasts(at(lost + 6)), "now it has lasted");
        }
        assert_eq!(losses.lost(true, at(300)), at(300));
        assert_eq!(losses.opened(at(301)), None);
    }
}
