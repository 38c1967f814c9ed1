//! Keeps one connection open: connects, declares the topology, watches, and starts again, for ever.
//!
//! lapin's own recovery is not used. When its back-off is used up it hangs without an error, it never reopens a
//! channel that the broker closed for a mistake, and it does not declare a queue again that was deleted.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use lapin::Event;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::{Backoff, jittered};
use super::connection::{Endpoint, Problem};
use super::error;
use super::reply;
use super::session::{GOOD, LinkState, Losses, Session, Unsteady};
use super::topology::Topology;
use super::{Change, Link};
use crate::vitals::Pulse;

/// Between tries while somebody has to put something right first.
const SLOW_RETRY: Duration = Duration::from_secs(10);
/// How often a problem that goes on is told again.
const REMINDER: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(500);

pub(super) struct Supervisor {
    pub(super) link: Link,
    pub(super) endpoint: Endpoint,
    pub(super) name: String,
    /// What to declare.
    pub(super) topology: Option<Arc<Topology>>,
    pub(super) state: watch::Sender<LinkState>,
    pub(super) on_change: Arc<dyn Fn(Link, Change) + Send + Sync>,
    pub(super) dropped_replies: reply::Dropped,
    pub(super) stop: CancellationToken,
    pub(super) pulse: Pulse,
}

impl Supervisor {
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new();
        let mut announcer = Announcer::default();
        let mut losses = Losses::default();
        let stop = self.stop.clone();
        loop {
            self.pulse.beat();
            let opened = tokio::select! {
                () = stop.cancelled() => break,
                opened = self.open() => opened,
            };
            let pause = match opened {
                Ok((session, events)) => {
                    info!(link = %self.link, broker = %self.endpoint, "connected to RabbitMQ");
                    announcer = Announcer::default();
                    let opened_at = Instant::now();
                    let Some(reason) = self.watch(session, events, &mut losses).await else {
                        break;
                    };
                    warn!(link = %self.link, broker = %self.endpoint, %reason, "lost the connection to RabbitMQ, reconnecting");
                    if opened_at.elapsed() >= GOOD {
                        backoff.reset();
                    }
                    backoff.next()
                }
                Err(problem) => {
                    announcer.announce(self.link, &problem.text);
                    let pause = if problem.lasting { jittered(SLOW_RETRY) } else { backoff.next() };
                    self.state.send_if_modified(|state| match state {
                        LinkState::Down { problem: known, .. } => {
                            // The time of the loss stays what it was.
                            *known = problem.text;
                            false
                        }
                        LinkState::Up { .. } => false,
                    });
                    pause
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.pulse.waiting(sleep(pause)) => {}
            }
        }
        self.state.send_replace(LinkState::down("the connection to RabbitMQ was closed by the daemon itself"));
    }

    async fn open(&self) -> Result<(Arc<Session>, BoxStream<'static, Event>), Problem> {
        let (connection, socket) = self.endpoint.connect(&self.name).await?;
        let events = connection.events_listener().boxed();
        let user = self.endpoint.user().map(str::to_owned);
        let session = Arc::new(Session::new(connection, socket, user, self.topology.clone()));
        if let Err(problem) = session.declare().await {
            session.close().await;
            return Err(problem);
        }
        Ok((session, events))
    }

    /// Shows the session to the others until it ends; says why, or nothing when the daemon stops.
    async fn watch(
        &self,
        session: Arc<Session>,
        mut events: BoxStream<'static, Event>,
        losses: &mut Losses,
    ) -> Option<String> {
        let opened_at = Instant::now();
        let unsteady = losses.opened(opened_at);
        self.state.send_replace(LinkState::Up { session: session.clone(), blocked: None, unsteady });
        (self.on_change)(self.link, Change::Connected);
        let mut last_error = None;
        let mut replies_left = std::pin::pin!(session.replies_left());
        let end = loop {
            self.pulse.beat();
            tokio::select! {
                () = self.stop.cancelled() => {
                    self.state.send_replace(LinkState::down("the daemon is stopping"));
                    session.close().await;
                    break None;
                }
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => self.blocked(&session, Some(reason), unsteady),
                    Some(Event::ConnectionUnblocked) => self.blocked(&session, None, unsteady),
                    // Also sent for a channel that was closed; whoever uses that channel tells about it.
                    Some(Event::Error(error)) => last_error = Some(error::explain(&error)),
                    Some(_) => {}
                    None => sleep(TICK).await,
                },
                () = &mut replies_left => {
                    reply::count_returned(&session, &self.dropped_replies).await;
                    replies_left.set(session.replies_left());
                }
                // Some take their time to come back.
                () = sleep(TICK) => reply::count_returned(&session, &self.dropped_replies).await,
            }
            if !session.is_open() {
                session.shut();
                break Some(last_error.unwrap_or_else(|| "the connection is closed".to_owned()));
            }
        };
        if let Some(reason) = &end {
            let lasted = opened_at.elapsed() >= GOOD;
            self.state.send_replace(LinkState::Down {
                problem: format!("the connection to RabbitMQ at {} was lost: {reason}", self.endpoint),
                since: losses.lost(lasted, Instant::now()),
                lasted,
            });
        }
        (self.on_change)(self.link, Change::Lost);
        end
    }

    fn blocked(&self, session: &Arc<Session>, reason: Option<String>, unsteady: Option<Unsteady>) {
        let change = if let Some(reason) = &reason {
            warn!(link = %self.link, %reason, "RabbitMQ takes no messages at the moment: replies are dropped, events wait");
            Change::Blocked
        } else {
            info!(link = %self.link, "RabbitMQ takes messages again");
            Change::Unblocked
        };
        self.state.send_replace(LinkState::Up { session: session.clone(), blocked: reason, unsteady });
        (self.on_change)(self.link, change);
    }
}

/// Tells of each problem once, and again from time to time while it lasts.
#[derive(Default)]
struct Announcer {
    last: Option<(String, Instant)>,
}

impl Announcer {
    fn announce(&mut self, link: Link, problem: &str) {
        if self.is_news(problem) {
            warn!(%link, "{problem} (trying again until it works)");
        }
    }

    fn is_news(&mut self, problem: &str) -> bool {
        let known = self.last.as_ref().is_some_and(|(last, at)| last == problem && at.elapsed() < REMINDER);
        if !known {
            self.last = Some((problem.to_owned(), Instant::now()));
        }
        !known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_once_until_it_changes() {
        let mut announcer = Announcer::default();
        assert!(announcer.is_news("away"));
        assert!(!announcer.is_news("away"));
        assert!(announcer.is_news("refused"));
        assert!(announcer.is_news("away"));
    }
}
