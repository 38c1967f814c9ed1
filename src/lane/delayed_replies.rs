//! Answers that are held back until a moment that tells nothing.
//!
//! A request for a person who is known writes a ticket, a mail and an event; one for an address that nobody has writes a row
//! of the activity log. However the daemon goes about it, the commit takes a little longer, and an answer that follows it at
//! once tells on average who is known. So answers that must not tell leave at a moment that follows from the command's arrival
//! alone: after one [pace](crate::commands::Decide::pace), or a multiple of it if the work took longer. What the answer waits
//! for is done before, so nothing but the answer and the acknowledgement comes later: the lane takes up the next commands
//! meanwhile, and mail is on its way.
//!
//! A machine that just sent a mail still answers a little sooner than one that has to wake up. Chance on top of the moment buries
//! that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::{Rng, RngExt};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tracing::warn;

use crate::broker::{Acknowledger, Gone, Outgoing, Publisher};

use super::rng;

/// An answer that waits.
#[derive(Debug)]
pub struct DelayedReply {
    /// The delivery, acknowledged afterwards.
    pub tag: u64,
    /// The answer, if the caller wants one.
    pub reply: Option<Outgoing>,
    /// When to send it, or a moment later.
    pub due: Instant,
}

/// When an answer is due: the first multiple of `pace` after `arrived` that is not over `now`.
pub fn due(arrived: Instant, now: Instant, pace: Duration) -> Instant {
    let elapsed = now.saturating_duration_since(arrived).as_nanos();
    let paces = elapsed.div_ceil(pace.as_nanos().max(1)).max(1);
    arrived + pace.saturating_mul(u32::try_from(paces).unwrap_or(u32::MAX))
}

/// How much later than due answers leave at most: many times what the machine's own state makes of it, a fifth of a millisecond.
const SPREAD: Duration = Duration::from_millis(4);

/// When answers that are due together leave.
fn leaving(due: Instant, rng: &mut impl Rng) -> Instant {
    due + rng.random_range(Duration::ZERO..SPREAD)
}

/// What one consumer gave and nobody has acknowledged yet, and the answers that are held back.
pub struct DelayedReplies {
    publisher: Publisher,
    acknowledgements: Arc<Mutex<Acknowledgements>>,
    running: JoinSet<()>,
}

/// Acknowledges one after the other, so that no frame names a delivery that one before it took along: the broker would close
/// the channel.
struct Acknowledgements {
    acknowledger: Acknowledger,
    unsettled: Unsettled,
}

/// Deliveries that are not acknowledged. Those that are done wait for what came before them, so that one frame does for all.
#[derive(Debug)]
struct Unsettled {
    /// So many that are done may wait.
    patient: usize,
    /// At work, or their answers wait: not to be acknowledged along with others. With the moment at which each was taken.
    open: BTreeMap<u64, Instant>,
    /// To be acknowledged.
    done: BTreeSet<u64>,
}

/// So long what is done waits for what came before it.
const PATIENCE: Duration = Duration::from_millis(250);
/// And so much of the prefetch count at most: the broker gives no more while that many are not acknowledged.
const SHARE: usize = 4;

/// What to acknowledge.
#[derive(Debug, PartialEq, Eq)]
struct Frames {
    /// Everything up to this.
    through: Option<u64>,
    /// These alone.
    alone: Vec<u64>,
}

impl Unsettled {
    fn of(prefetch: u16) -> Self {
        Self { patient: usize::from(prefetch) / SHARE, open: BTreeMap::new(), done: BTreeSet::new() }
    }

    fn frames(&mut self, now: Instant) -> Frames {
        let Some((&first, &taken)) = self.open.first_key_value() else {
            return Frames { through: std::mem::take(&mut self.done).pop_last(), alone: Vec::new() };
        };
        let after = self.done.split_off(&first);
        let through = std::mem::replace(&mut self.done, after).pop_last();
        let overdue = self.done.len() > self.patient || now.saturating_duration_since(taken) > PATIENCE;
        let alone = if overdue { std::mem::take(&mut self.done).into_iter().collect() } else { Vec::new() };
        Frames { through, alone }
    }
}

impl Acknowledgements {
    async fn acknowledge(&mut self, done: &[u64]) -> Result<(), Gone> {
        for tag in done {
            self.unsettled.open.remove(tag);
        }
        self.unsettled.done.extend(done);
        let Frames { through, alone } = self.unsettled.frames(Instant::now());
        if let Some(last) = through {
            self.acknowledger.ack_through(last).await?;
        }
        for tag in alone {
            self.acknowledger.ack(tag).await?;
        }
        Ok(())
    }
}

impl DelayedReplies {
    /// None so far, of a consumer with this prefetch count.
    pub fn new(publisher: Publisher, acknowledger: Acknowledger, prefetch: u16) -> Self {
        let acknowledgements = Acknowledgements { acknowledger, unsettled: Unsettled::of(prefetch) };
        Self { publisher, acknowledgements: Arc::new(Mutex::new(acknowledgements)), running: JoinSet::new() }
    }

    /// Takes note of deliveries that are at work from now on.
    pub async fn taken(&self, tags: impl Iterator<Item = u64>) {
        let now = Instant::now();
        self.acknowledgements.lock().await.unsettled.open.extend(tags.map(|tag| (tag, now)));
    }

    /// Takes note of deliveries that were given back.
    pub async fn returned(&self, tags: &[u64]) {
        let mut acknowledgements = self.acknowledgements.lock().await;
        for tag in tags {
            acknowledgements.unsettled.open.remove(tag);
        }
    }

    /// Acknowledges deliveries that are done, or lets them wait a moment for those before them; sends the answers that wait
    /// when they are due, and acknowledges theirs then.
    ///
    /// # Errors
    /// When the channel is gone: what was not acknowledged comes again.
    pub async fn settle(&mut self, done: &[u64], replies: Vec<DelayedReply>) -> Result<(), Gone> {
        while self.running.try_join_next().is_some() {}
        self.hold(replies);
        self.acknowledgements.lock().await.acknowledge(done).await
    }

    fn hold(&mut self, replies: Vec<DelayedReply>) {
        if replies.is_empty() {
            return;
        }
        let mut groups: BTreeMap<Instant, Vec<DelayedReply>> = BTreeMap::new();
        for held in replies {
            groups.entry(held.due).or_default().push(held);
        }
        let mut rng = rng();
        for (due, group) in groups {
            let (publisher, acknowledgements) = (self.publisher.clone(), Arc::clone(&self.acknowledgements));
            let leaving = leaving(due, &mut rng);
            self.running.spawn(async move {
                tokio::time::sleep_until(leaving.into()).await;
                let (tags, replies): (Vec<u64>, Vec<_>) = group.into_iter().map(|held| (held.tag, held.reply)).unzip();
                for sent in join_all(replies.into_iter().flatten().map(|reply| publisher.reply(reply))).await {
                    if let Err(error) = sent {
                        warn!(%error, "a reply could not be delivered");
                    }
                }
                // A channel that is gone: the messages come again, and are answered from the inbox.
                let _ = acknowledgements.lock().await.acknowledge(&tags).await;
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
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn one_frame_acknowledges_what_is_done_and_nothing_that_is_at_work() {
        let (mut unsettled, now) = (Unsettled::of(1024), Instant::now());
        unsettled.open.extend((1..=6).map(|tag| (tag, now)));
        let mut done = |tags: &[u64], later: Duration| {
            for tag in tags {
                unsettled.open.remove(tag);
                unsettled.done.insert(*tag);
            }
            let Frames { through, alone } = unsettled.frames(now + later);
            (through, alone)
        };
        let soon = Duration::from_millis(1);
        assert_eq!(done(&[1, 2], soon), (Some(2), vec![]));
        assert_eq!(done(&[4, 5], soon), (None, vec![]), "3 is at work");
        assert_eq!(done(&[], PATIENCE + soon), (None, vec![4, 5]), "and has been for long");
        assert_eq!(done(&[3], soon), (Some(3), vec![]));
        assert_eq!(done(&[6], soon), (Some(6), vec![]), "up to there all are settled");
        assert_eq!(done(&[], soon), (None, vec![]));
    }

    #[test]
    fn what_is_done_does_not_wait_without_bound() {
        for (prefetch, most) in [(1024, 256), (16, 4)] {
            let (mut unsettled, now) = (Unsettled::of(prefetch), Instant::now());
            unsettled.open.insert(1, now);
            unsettled.done.extend(2..2 + most as u64);
            assert_eq!(unsettled.frames(now), Frames { through: None, alone: vec![] });
            unsettled.done.insert(9999);
            let Frames { through, alone } = unsettled.frames(now);
            assert_eq!((through, alone.len()), (None, most + 1));
            assert!(unsettled.done.is_empty());
        }
    }

    #[test]
    fn answers_leave_a_moment_later_that_nobody_knows() {
        let (mut rng, now) = (rand::rngs::StdRng::seed_from_u64(1), Instant::now());
        let late: Vec<Duration> = (0..1000).map(|_| leaving(now, &mut rng) - now).collect();
        assert!(late.iter().all(|late| *late < SPREAD), "{late:?}");
        for quarter in 0..4 {
            let of_it = late.iter().filter(|late| late.as_nanos() * 4 / SPREAD.as_nanos() == quarter).count();
            assert!((200..300).contains(&of_it), "{quarter}: {of_it}");
        }
    }

    #[test]
    fn when_an_answer_is_due_follows_from_the_arrival_alone() {
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
