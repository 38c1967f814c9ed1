//! Takes dead letters without taking them away.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::app;
use crate::broker::{Client, Consumer, Delivery};
use crate::config::Config;

/// Letters that are here unread at most: each may have 64 KiB.
const PART: u16 = 500;
/// How long somebody else may be at the letters before we give up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for a letter that the queue's length promises: somebody else may hold it.
const LAST: Duration = Duration::from_secs(2);

/// Where a letter waits for its acknowledgement.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    consumer: usize,
    tag: u64,
}

/// Reads all letters that wait when it is opened. Those that are not acknowledged are back in the queue, in their order, when it
/// is closed, or when the process ends.
pub struct Reader<'a> {
    /// The connection.
    pub client: &'a Client,
    queue: String,
    /// One after the other, each with as many letters as it may hold.
    consumers: Vec<Consumer>,
    held: usize,
    here: VecDeque<Delivery>,
    total: usize,
    seen: usize,
}

impl<'a> Reader<'a> {
    /// Waits until nobody else is at the letters.
    ///
    /// # Errors
    /// When somebody else is, or there is no queue.
    pub async fn open(client: &'a Client, config: &Config) -> Result<Self, String> {
        let topology = app::topology(config);
        let queue = topology.dead_queue();
        let started = Instant::now();
        while !client.lock(&topology.dead_lock()).await.map_err(|e| e.to_string())? {
            if started.elapsed() > PATIENCE {
                return Err(format!(
                    "somebody else is at the dead letters (the queue `{}` shows which connection); try again when they are done",
                    topology.dead_lock()
                ));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let depth = client.depth(&queue).await.map_err(|e| e.to_string())?.ok_or_else(|| {
            format!("there is no queue `{queue}`: a daemon declares it at its start. Is broker.prefix right?")
        })?;
        let total = usize::try_from(depth.waiting).unwrap_or(usize::MAX);
        Ok(Self { client, queue, consumers: Vec::new(), held: 0, here: VecDeque::new(), total, seen: 0 })
    }

    /// How many letters there were so far.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// The next letter, oldest first; `None` after the last of those that waited at the beginning.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn next(&mut self) -> Result<Option<(Place, Delivery)>, String> {
        if self.seen == self.total {
            return Ok(None);
        }
        if self.here.is_empty() && !self.fetch().await? {
            return Ok(None);
        }
        let Some(delivery) = self.here.pop_front() else { return Ok(None) };
        self.seen += 1;
        Ok(Some((Place { consumer: self.consumers.len() - 1, tag: delivery.tag }, delivery)))
    }

    /// Gets some letters; `false` if there are none.
    async fn fetch(&mut self) -> Result<bool, String> {
        let full = self.held >= usize::from(PART);
        if full && let Some(consumer) = self.consumers.last_mut() {
            // It keeps what it has, and the next one gets what comes after.
            consumer.stop().await;
            if let Ok(late) = consumer.batch(usize::from(PART)).await {
                self.here.extend(late);
                return Ok(true);
            }
        }
        if full || self.consumers.is_empty() {
            self.consumers.push(self.client.consumer(&self.queue, PART).await.map_err(|e| e.to_string())?);
            self.held = 0;
        }
        let Some(consumer) = self.consumers.last_mut() else { return Ok(false) };
        match tokio::time::timeout(LAST, consumer.batch(usize::from(PART))).await {
            Ok(Ok(batch)) => {
                self.held += batch.len();
                self.here.extend(batch);
                Ok(true)
            }
            Ok(Err(gone)) => Err(format!("the dead letters could not be read to the end: {gone}; nothing is lost")),
            Err(_) => Ok(false),
        }
    }

    /// Takes a letter out of the queue for good.
    ///
    /// # Errors
    /// When the connection is lost: it stays in the queue.
    pub async fn remove(&self, place: Place) -> Result<(), String> {
        let consumer = self.consumers.get(place.consumer).ok_or("a letter of no consumer")?;
        consumer.ack(place.tag).await.map_err(|gone| format!("{gone}: the letter stays in its queue"))
    }

    /// Puts everything else back in its place.
    pub async fn close(self) {
        // One after the other: so the order stays.
        for consumer in self.consumers {
            consumer.close().await;
        }
    }
}
