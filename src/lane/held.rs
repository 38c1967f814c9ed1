//! Answers that are held back until a moment that tells nothing.
//!
//! A request for a person who is known writes a ticket, a mail and an event; one for an address that nobody has writes a row
//! of the activity log. However the daemon goes about it, the commit takes a little longer, and an answer that follows it at
//! once tells on average who is known. So answers that must not tell leave at a moment that follows from the command's arrival
//! alone: after one [pace](crate::commands::Decide::pace), or a multiple of it if the work took longer. What the answer waits
//! for is done before, so nothing but the answer and the acknowledgement comes later: the lane takes up the next commands
//! meanwhile, and mail is on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tracing::warn;

use crate::broker::{Acknowledger, Gone, Outgoing, Publisher};

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
    acknowledgements: Arc<Mutex<Acknowledgements>>,
    running: JoinSet<()>,
}

/// Acknowledges one after the other, so that no frame names a delivery that one before it took along: the broker would close
/// the channel.
struct Acknowledgements {
    acknowledger: Acknowledger,
    /// Deliveries whose answers wait: not to be acknowledged along with others.
    waiting: BTreeSet<u64>,
}

impl Acknowledgements {
    /// Acknowledges these: with one frame those that came before all that wait, and each other alone.
    async fn acknowledge(&self, done: &[u64]) -> Result<(), Gone> {
        let first = self.waiting.first().copied().unwrap_or(u64::MAX);
        if let Some(last) = done.iter().copied().filter(|tag| *tag < first).max() {
            self.acknowledger.ack_through(last).await?;
        }
        for tag in done.iter().copied().filter(|tag| *tag > first) {
            self.acknowledger.ack(tag).await?;
        }
        Ok(())
    }
}

impl Held {
    /// None so far.
    pub fn new(publisher: Publisher, acknowledger: Acknowledger) -> Self {
        let acknowledgements = Acknowledgements { acknowledger, waiting: BTreeSet::new() };
        Self { publisher, acknowledgements: Arc::new(Mutex::new(acknowledgements)), running: JoinSet::new() }
    }

    /// Acknowledges the deliveries of a batch that are done; sends the answers that wait when they are due, and acknowledges
    /// theirs then.
    ///
    /// # Errors
    /// When the channel is gone: what was not acknowledged comes again.
    pub async fn settle(&mut self, done: &[u64], replies: Vec<HeldReply>) -> Result<(), Gone> {
        while self.running.try_join_next().is_some() {}
        let mut acknowledgements = self.acknowledgements.lock().await;
        acknowledgements.waiting.extend(replies.iter().map(|held| held.tag));
        let settled = acknowledgements.acknowledge(done).await;
        drop(acknowledgements);
        // Only now: they may acknowledge everything up to the last of them.
        self.hold(replies);
        settled
    }

    fn hold(&mut self, replies: Vec<HeldReply>) {
        let mut groups: BTreeMap<Instant, Vec<HeldReply>> = BTreeMap::new();
        for held in replies {
            groups.entry(held.due).or_default().push(held);
        }
        for (due, group) in groups {
            let (publisher, acknowledgements) = (self.publisher.clone(), Arc::clone(&self.acknowledgements));
            self.running.spawn(async move {
                tokio::time::sleep_until(due.into()).await;
                let (tags, replies): (Vec<u64>, Vec<_>) = group.into_iter().map(|held| (held.tag, held.reply)).unzip();
                for sent in join_all(replies.into_iter().flatten().map(|reply| publisher.reply(reply))).await {
                    if let Err(error) = sent {
                        warn!(%error, "a reply could not be delivered");
                    }
                }
                let mut acknowledgements = acknowledgements.lock().await;
                for tag in &tags {
                    acknowledgements.waiting.remove(tag);
                }
                // A channel that is gone: the messages come again, and are answered from the inbox.
                let _ = acknowledgements.acknowledge(&tags).await;
            });
        }
    }

    /// Waits until all answers have left.
    pub async fn drain(&mut self) {
        while self.running.join_next().await.is_some() {}
    }
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
