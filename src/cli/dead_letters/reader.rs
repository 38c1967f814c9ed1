//! Takes dead letters without taking them away.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::app;
use crate::broker::{Client, Consumer, Delivery};
use crate::config::Config;
use crate::lane::dead_letter::Letter;

/// Letters that are here unread at most: each may have 64 KiB.
const PART: u16 = 500;
/// How long somebody else may be at the letters before we give up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for a letter that the queue's length promises: somebody else may hold it.
const LAST: Duration = Duration::from_secs(2);

/// How long acknowledgements get to reach the queue before it is left.
const GRACE: Duration = Duration::from_millis(100);
/// How often it is looked whether they did.
const LOOKS: usize = 20;

/// Where a letter waits for its acknowledgement.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    consumer: usize,
    tag: u64,
}

/// Reads all letters that wait when it is opened. Those that were not removed are back in the queue, in their order, when it is
/// closed. If the process is killed they are back too, but parts of them may have changed places.
pub struct Reader<'a> {
    /// The connection.
    pub client: &'a Client,
    queue: String,
    /// Consumers, opened one after the other, each holding as many letters as its channel may.
    consumers: Vec<Consumer>,
    held: usize,
    here: VecDeque<Delivery>,
    total: usize,
    seen: usize,
    /// The ids of letters that were acknowledged.
    removed: HashSet<String>,
}

impl<'a> Reader<'a> {
    /// Waits a while for the lock that only one tool can hold at a time, and begins to read.
    ///
    /// # Errors
    /// When another tool keeps the lock, or there is no queue.
    pub async fn open(client: &'a Client, config: &Config) -> Result<Self, String> {
        let topology = app::topology(config);
        let queue = topology.dead_queue();
        let started = Instant::now();
        while !client.lock(&topology.dead_lock()).await.map_err(|e| e.to_string())? {
            if started.elapsed() > PATIENCE {
                return Err(format!(
                    "somebody else is at the dead letters (the queue `{}` is theirs); try again when they are done",
                    topology.dead_lock()
                ));
            }
            tokio::time::sleep(GRACE).await;
        }
        let mut reader = Self {
            client,
            queue,
            consumers: Vec::new(),
            held: 0,
            here: VecDeque::new(),
            total: 0,
            seen: 0,
            removed: HashSet::new(),
        };
        reader.begin().await?;
        Ok(reader)
    }

    async fn begin(&mut self) -> Result<(), String> {
        let depth = self.client.depth(&self.queue).await.map_err(|e| e.to_string())?.ok_or_else(|| {
            format!("there is no queue `{}`: a daemon declares it at its start. Is broker.prefix right?", self.queue)
        })?;
        (self.total, self.seen, self.held) = (usize::try_from(depth.waiting).unwrap_or(usize::MAX), 0, 0);
        Ok(())
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
        if self.seen == self.total || self.here.is_empty() && !self.fetch().await? {
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
    pub async fn remove(&mut self, place: Place, id: String) -> Result<(), String> {
        let consumer = self.consumers.get(place.consumer).ok_or("a letter of no consumer")?;
        consumer
            .acknowledger()
            .ack(place.tag)
            .await
            .map_err(|gone| format!("{gone}: the letter stays in its queue"))?;
        self.removed.insert(id);
        Ok(())
    }

    /// Puts everything else back in its place.
    ///
    /// A broker under load keeps acknowledgements for a quorum queue back a little, and forgets them when the channel is closed
    /// meanwhile. So it is looked whether what was removed is gone.
    ///
    /// # Errors
    /// When the connection is lost: some letters that were removed may be back.
    pub async fn close(mut self) -> Result<(), String> {
        for _ in 0..LOOKS {
            // First nobody takes any more: what the first ones give back would go to the others.
            for consumer in &mut self.consumers {
                consumer.stop().await;
            }
            if !self.removed.is_empty() {
                tokio::time::sleep(GRACE).await;
            }
            for consumer in self.consumers.drain(..) {
                consumer.close().await;
            }
            self.here.clear();
            if self.removed.is_empty() {
                return Ok(());
            }
            self.begin().await?;
            let mut left = false;
            while let Some((place, delivery)) = self.next().await? {
                let letter = Letter::of(&delivery);
                if self.removed.contains(&letter.id) {
                    left = true;
                    self.remove(place, letter.id).await?;
                }
            }
            if !left {
                self.removed.clear();
            }
        }
        Err("the broker does not take letters out of the queue that were done with; look at `regrant dead-letters list`".to_owned())
    }
}
