//! Answers that are held back until a moment that tells nothing.
//!
//! A request for a person who is known writes a ticket, a mail and an event; one for an address that nobody has writes a row
//! of the activity log. However the daemon goes about it, the commit takes a little longer, and an answer that follows it at
//! once tells on average who is known. So answers that must not tell leave at a moment that follows from the command's arrival
//! alone: after one [pace](crate::commands::Decide::pace), or a multiple of it if the work took longer. What the answer waits
//! for is done before, so nothing but the answer and the acknowledgement comes later: the lane takes up the next commands
//! meanwhile, and mail is on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tracing::warn;

use crate::broker::{Acknowledger, Outgoing, Publisher};

/// An answer that waits.
#[derive(Debug)]
pub struct HeldReply {
    /// The delivery, acknowledged afterwards.
    pub tag: u64,
    /// The answer, if the caller wants one.
    pub reply: Option<Outgoing>,
    /// When to send it.
    pub due: Instant,
}

/// When an answer leaves: the first multiple of `pace` after `arrived` that is not over `now`.
pub fn due(arrived: Instant, now: Instant, pace: Duration) -> Instant {
    let elapsed = now.saturating_duration_since(arrived).as_nanos();
    let paces = elapsed.div_ceil(pace.as_nanos().max(1)).max(1);
    arrived + pace.saturating_mul(u32::try_from(paces).unwrap_or(u32::MAX))
}

/// The answers that one consumer holds back.
pub struct Held {
    publisher: Publisher,
    acknowledger: Acknowledger,
    running: JoinSet<()>,
    /// Deliveries whose answers wait: not to be acknowledged along with others.
    waiting: Arc<Mutex<BTreeSet<u64>>>,
}

impl Held {
    /// None so far.
    pub fn new(publisher: Publisher, acknowledger: Acknowledger) -> Self {
        Self { publisher, acknowledger, running: JoinSet::new(), waiting: Arc::default() }
    }

    /// Sends these answers when they are due, and acknowledges their deliveries then.
    pub fn hold(&mut self, replies: Vec<HeldReply>) {
        while self.running.try_join_next().is_some() {}
        lock(&self.waiting).extend(replies.iter().map(|held| held.tag));
        let mut groups: BTreeMap<Instant, Vec<HeldReply>> = BTreeMap::new();
        for held in replies {
            groups.entry(held.due).or_default().push(held);
        }
        for (due, group) in groups {
            let (publisher, acknowledger) = (self.publisher.clone(), self.acknowledger.clone());
            let waiting = Arc::clone(&self.waiting);
            self.running.spawn(async move {
                tokio::time::sleep_until(due.into()).await;
                let (tags, replies): (Vec<u64>, Vec<_>) = group.into_iter().map(|held| (held.tag, held.reply)).unzip();
                for sent in join_all(replies.into_iter().flatten().map(|reply| publisher.reply(reply))).await {
                    if let Err(error) = sent {
                        warn!(%error, "a reply could not be delivered");
                    }
                }
                for tag in tags {
                    // A channel that is gone: the message comes again, and is answered from the inbox.
                    let _ = acknowledger.ack(tag).await;
                    // Afterwards: as long as it stands here, nobody else acknowledges it.
                    lock(&waiting).remove(&tag);
                }
            });
        }
    }

    /// The first delivery whose answer waits: one frame may acknowledge what came before it.
    pub fn first(&self) -> Option<u64> {
        lock(&self.waiting).first().copied()
    }

    /// Waits until all answers have left.
    pub async fn drain(&mut self) {
        while self.running.join_next().await.is_some() {}
    }
}

fn lock(waiting: &Mutex<BTreeSet<u64>>) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_an_answer_leaves_follows_from_the_arrival_alone() {
        let arrived = Instant::now();
        let (pace, ms) = (Duration::from_millis(25), Duration::from_millis);
        // However long the work took, within a pace the moment is the same.
        for took in [0, 1, 7, 24, 25] {
            assert_eq!(due(arrived, arrived + ms(took), pace), arrived + pace, "{took}");
        }
        for (took, after) in [(26, 50), (50, 50), (51, 75), (1000, 1000), (1001, 1025)] {
            assert_eq!(due(arrived, arrived + ms(took), pace), arrived + ms(after), "{took}");
        }
        assert_eq!(due(arrived + ms(5), arrived, pace), arrived + ms(30), "a clock that stands still");
    }
}
