//! How many connections there may be at once: as many as configured, or as few as the server lets us have.
//!
//! Many servers limit the connections of a client, and turn a further one away with a 4xx greeting. That says nothing about the
//! server: as long as it lets us have others, mails wait for these.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

const PATIENCE: Duration = Duration::from_secs(15);

/// Gives out turns at using a connection.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    configured: usize,
    /// How long after one was turned away a further connection is tried: the limit may be another's by then.
    patience: Duration,
    state: Mutex<State>,
    /// There may be room.
    freed: Notify,
}

#[derive(Debug)]
struct State {
    /// Turns that there may be at once.
    allowed: usize,
    /// When one more is tried, if these are fewer than configured.
    again: Instant,
    in_use: usize,
    /// Connections that the server has greeted and that are not closed.
    live: usize,
    /// What the log says that the server allows.
    told: Option<usize>,
}

/// The use of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a ConnectionLimit);

/// A connection that was greeted, until it is closed.
#[derive(Debug)]
pub(super) struct Live(Arc<ConnectionLimit>);

impl ConnectionLimit {
    pub fn new(configured: usize) -> Arc<Self> {
        Self::with_patience(configured, PATIENCE)
    }

    fn with_patience(configured: usize, patience: Duration) -> Arc<Self> {
        let state = State { allowed: configured, again: Instant::now(), in_use: 0, live: 0, told: None };
        Arc::new(Self { configured, patience, state: Mutex::new(state), freed: Notify::new() })
    }

    /// How many turns are taken, and how many there may be by the configuration.
    pub fn usage(&self) -> (usize, usize) {
        (self.state().in_use, self.configured)
    }

    /// Waits for a turn.
    pub async fn turn(&self) -> Turn<'_> {
        loop {
            let freed = self.freed.notified();
            let again = {
                let mut state = self.state();
                let now = Instant::now();
                if state.allowed < self.configured && state.again <= now {
                    state.allowed += 1;
                    state.again = now + self.patience;
                }
                if state.in_use < state.allowed {
                    state.in_use += 1;
                    // There may be room for another who waits.
                    if state.in_use < state.allowed {
                        self.freed.notify_one();
                    }
                    return Turn(self);
                }
                (state.allowed < self.configured).then_some(state.again)
            };
            match again {
                Some(again) => tokio::select! {
                    () = freed => {}
                    () = sleep_until(again) => {}
                },
                None => freed.await,
            }
        }
    }

    /// Takes in that a connection was turned away, with these words; true if the mail is to wait for one of the others. There is none
    /// if nobody else has a turn and none is kept.
    pub fn turned_away(&self, words: &str) -> bool {
        let mut state = self.state();
        if state.live == 0 && state.in_use <= 1 {
            return false;
        }
        let allowed = state.live.clamp(1, self.configured);
        state.allowed = allowed;
        state.again = Instant::now() + self.patience;
        if state.told.is_none_or(|told| allowed < told) {
            state.told = Some(allowed);
            warn!(
                allowed,
                configured = self.configured,
                reply = words,
                "the mail server turned a connection away while it kept others: mails wait for these. Lower mail.smtp.connections, or \
                 raise the server's limit for this client"
            );
        }
        true
    }

    /// The server greeted a connection.
    pub fn greeted(self: &Arc<Self>) -> Live {
        let mut state = self.state();
        state.live += 1;
        // One that was greeted before another was turned away may be heard of later than that.
        state.allowed = state.allowed.max(state.live).min(self.configured);
        drop(state);
        Live(Arc::clone(self))
    }

    /// Nothing panics while it is held, so a poisoned lock protects sound data.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().in_use -= 1;
        self.0.freed.notify_one();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.state().live -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn has_room(limit: &ConnectionLimit) -> bool {
        tokio::time::timeout(Duration::from_millis(1), limit.turn()).await.is_ok()
    }

    #[tokio::test]
    async fn who_is_turned_away_waits_for_the_connections_that_there_are() {
        let limit = ConnectionLimit::new(8);
        let [first, second, third] = [limit.turn().await, limit.turn().await, limit.turn().await];
        let _live = [limit.greeted(), limit.greeted()];
        assert!(limit.turned_away("421 too many"));
        drop(third);
        assert!(!has_room(&limit).await, "two are in use, and there are two");
        drop(first);
        assert!(has_room(&limit).await);
        drop(second);
        assert_eq!(limit.usage(), (0, 8));
    }

    #[tokio::test]
    async fn who_is_turned_away_alone_has_nothing_to_wait_for() {
        let limit = ConnectionLimit::new(8);
        let _turn = limit.turn().await;
        assert!(!limit.turned_away("421 too many"));
        let kept = limit.greeted();
        assert!(limit.turned_away("421 too many"));
        drop(kept);
        assert!(!limit.turned_away("421 too many"));
    }

    #[tokio::test]
    async fn one_more_is_tried_from_time_to_time() {
        let limit = ConnectionLimit::with_patience(3, Duration::from_millis(100));
        let first = limit.turn().await;
        let _live = limit.greeted();
        drop(limit.turn().await);
        assert!(limit.turned_away("421 too many"));
        let second = limit.turn().await;
        let third = limit.turn().await;
        assert_eq!(limit.state().allowed, limit.configured, "though nobody was done");
        drop((first, second, third));
    }

    #[tokio::test]
    async fn a_greeting_that_is_heard_of_late_counts() {
        let limit = ConnectionLimit::new(3);
        let (first, second, third) = (limit.turn().await, limit.turn().await, limit.turn().await);
        assert!(limit.turned_away("421 too many"));
        let _live = [limit.greeted(), limit.greeted()];
        drop((first, third));
        assert!(has_room(&limit).await, "the server lets us have two");
        drop(second);
    }
}
