//! The loops: wait for deliveries, take what is there, let a worker process it, acknowledge it.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::broker::{Consumer, Delivery, Gone};
use crate::commands::Lane;
use crate::crash_point::crash_point;
use crate::store;
use crate::vitals::{Pulse, Resting};

use super::Engine;
use super::backoff::Backoff;
use super::delayed_replies::DelayedReplies;
use super::process::{Processed, Round};
use super::settle::settle;
use super::turns::Turns;

/// How much of a lane runs at once.
#[derive(Clone, Copy)]
struct Shape {
    usual: Load,
    /// While there is a backlog: what takes longer in a larger batch has waited for longer than that before.
    backlogged: Load,
    /// Batches at once while some wait, as for rows that somebody keeps locked.
    workers: usize,
    /// Deliveries that may be here unacknowledged.
    prefetch: u16,
}

#[derive(Clone, Copy)]
struct Load {
    /// Batches at once. Each more is work on more processors and a smaller batch: what a batch costs is the more for each.
    batches: usize,
    /// Deliveries a batch at most.
    deliveries: usize,
}

/// So many full batches in a row are a backlog.
const BACKLOG: u32 = 8;

/// A batch that takes so long waits for something: others need not wait for it.
const LONG: Duration = Duration::from_millis(100);

/// Where deliveries come from.
#[derive(Clone, Copy)]
enum Source {
    Lane(Lane),
    Unknown,
}

impl Source {
    fn shape(self) -> Shape {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let load = |batches, deliveries| Load { batches, deliveries };
        match self {
            Self::Lane(Lane::State) => {
                // The database works on a batch for as long as the daemon does: half of the processors for each, if they share
                // them. With a backlog one more, so that some work while others wait for a disk.
                let batches = (cores / 2).clamp(1, 4);
                let (usual, backlogged) = (load(batches, 128), load((batches + 1).min(4), 128));
                Shape { usual, backlogged, workers: 4, prefetch: 1024 }
            }
            Self::Lane(Lane::Credentials) => {
                // As many as the pool works on in a few tens of milliseconds: in larger batches the first waits for the last.
                let usual = load(2, (cores * 2).clamp(2, 32));
                let backlogged = load(2, usual.deliveries * 4);
                Shape {
                    usual,
                    backlogged,
                    workers: 2,
                    prefetch: u16::try_from(backlogged.deliveries * 3).unwrap_or(u16::MAX),
                }
            }
            // Each has statements of its own: together, all would wait for the slowest.
            Self::Lane(Lane::Queries) => {
                Shape { usual: load(16, 1), backlogged: load(16, 1), workers: 16, prefetch: 64 }
            }
            Self::Unknown => Shape { usual: load(1, 64), backlogged: load(1, 64), workers: 1, prefetch: 128 },
        }
    }

    /// A worker's name, for operators.
    fn worker(self, number: usize) -> String {
        match self {
            Self::Lane(lane) => format!("{lane} lane, worker {number}", lane = lane.as_str()),
            Self::Unknown => "unknown commands".to_owned(),
        }
    }
}

/// Runs a lane until `stop`. What it has begun it finishes.
pub async fn run(engine: Arc<Engine>, lane: Lane, stop: CancellationToken) {
    consume(engine, Source::Lane(lane), stop).await;
}

/// Answers and buries messages whose routing key no lane takes, until `stop`.
pub async fn run_unknown(engine: Arc<Engine>, stop: CancellationToken) {
    consume(engine, Source::Unknown, stop).await;
}

/// One consumer feeds whichever worker is free: no delivery waits for a busy worker while another has nothing to do.
async fn consume(engine: Arc<Engine>, source: Source, stop: CancellationToken) {
    let topology = engine.broker.topology();
    let queue = match source {
        Source::Lane(lane) => topology.lane_queue(lane.as_str()),
        Source::Unknown => topology.unknown_queue(),
    };
    let shape = source.shape();
    let mut workers = Workers {
        idle: (1..=shape.workers).map(|n| (n, engine.vitals.pulse(source.worker(n)).rest())).collect(),
        busy: JoinSet::new(),
        turns: Arc::default(),
        begun: Instant::now(),
        full: 0,
    };
    let mut backoff = Backoff::default();
    for opened in 0.. {
        // Without a database nothing can be done: what waits, waits at the broker, where other daemons can take it.
        let ready = async {
            engine.database.wait_until_up().await;
            engine.broker.consumer(&queue, shape.prefetch).await
        };
        let Some(consumer) = stop.run_until_cancelled(ready).await else {
            // Of a consumer that is gone.
            while workers.busy.join_next().await.is_some() {}
            return;
        };
        let delayed = DelayedReplies::new(engine.publisher.clone(), consumer.acknowledger(), shape.prefetch);
        let mut intake = Intake { engine: &engine, source, stop: &stop, opened, consumer, delayed };
        match intake.run(&mut workers, &mut backoff).await {
            End::Stopped => return intake.finish(&mut workers).await,
            End::DatabaseAway(error) => {
                backoff.tell(&engine.database, &error);
                intake.finish(&mut workers).await;
                stop.run_until_cancelled(backoff.pause()).await;
            }
            // What is at work comes again, and is answered from the inbox if it was done.
            End::Gone(gone) => intake.consumer.tell(&gone),
        }
    }
}

struct Workers {
    /// By number.
    idle: BTreeMap<usize, Resting>,
    busy: JoinSet<Worked>,
    turns: Arc<Turns>,
    /// When the last batch began.
    begun: Instant,
    /// How many in a row were as large as they may be: after some of them, more waits than comes by chance.
    full: u32,
}

/// What a worker has done with a batch.
struct Worked {
    processed: Processed,
    /// Which consumer gave it.
    opened: u64,
    /// The worker's.
    number: usize,
    pulse: Pulse,
}

/// Why a consumer is not used any more.
enum End {
    Stopped,
    DatabaseAway(store::Error),
    Gone(Gone),
}

/// A consumer, and what it gave.
struct Intake<'a> {
    engine: &'a Arc<Engine>,
    source: Source,
    stop: &'a CancellationToken,
    /// Tells it from those before it.
    opened: u64,
    consumer: Consumer,
    delayed: DelayedReplies,
}

impl Intake<'_> {
    async fn run(&mut self, workers: &mut Workers, backoff: &mut Backoff) -> End {
        let shape = self.source.shape();
        loop {
            let load = if workers.full >= BACKLOG { shape.backlogged } else { shape.usual };
            // More are at work than usual only while these take long.
            let wait = if workers.busy.len() < load.batches { Duration::ZERO } else { LONG };
            let from = workers.begun + wait;
            let idle = workers.idle.first_entry();
            let batch = async {
                // Until one of those at work is done.
                let Some(worker) = idle else { return pending().await };
                let batch = async {
                    sleep_until(from).await;
                    self.consumer.batch(load.deliveries).await
                };
                backoff.unless_idle(batch).await.map(|deliveries| (worker, deliveries))
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Stopped,
                Some(worked) = workers.busy.join_next() => {
                    match self.settle(worked, workers).await {
                        Ok(false) => {}
                        // Some could be neither done nor put aside: the broker is in trouble, and will be for a moment.
                        Ok(true) => {
                            self.stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await;
                        }
                        Err(end) => return end,
                    }
                    *backoff = Backoff::default();
                }
                batch = batch => match batch {
                    Ok((worker, deliveries)) => {
                        let worker = worker.remove_entry();
                        workers.full = if deliveries.len() < load.deliveries { 0 } else { workers.full.saturating_add(1) };
                        self.begin(deliveries, worker, workers).await;
                    }
                    Err(gone) => return End::Gone(gone),
                },
            }
        }
    }

    async fn begin(&self, deliveries: Vec<Delivery>, (number, worker): (usize, Resting), workers: &mut Workers) {
        workers.begun = Instant::now();
        self.delayed.taken(deliveries.iter().map(|delivery| delivery.tag)).await;
        let (engine, source, opened) = (Arc::clone(self.engine), self.source, self.opened);
        let (stop, pulse) = (self.stop.clone(), worker.wake());
        let turn = workers.turns.take();
        workers.busy.spawn(async move {
            let processed = match source {
                Source::Lane(lane) => {
                    let round =
                        Round { lane, started: Instant::now().into_std(), turn: &turn, pulse: &pulse, stop: &stop };
                    engine.process(deliveries, &round).await
                }
                Source::Unknown => engine.process_unknown(deliveries).await,
            };
            crash_point("replied");
            Worked { processed, opened, number, pulse }
        });
    }

    /// Says whether any delivery went back.
    async fn settle(&mut self, worked: Result<Worked, JoinError>, workers: &mut Workers) -> Result<bool, End> {
        let Worked { processed: Processed { dispositions, away }, opened, number, pulse } = match worked {
            Ok(worked) => worked,
            // Whoever supervises this lane hears of it.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        workers.idle.insert(number, pulse.rest());
        // What another consumer gave cannot be acknowledged here.
        let settled = if opened == self.opened {
            settle(&self.consumer, &mut self.delayed, dispositions).await
        } else {
            Ok(false)
        };
        match away {
            Some(error) => Err(End::DatabaseAway(error)),
            None => settled.map_err(End::Gone),
        }
    }

    /// Waits for what is at work, and for the answers that are held back; gives back the rest.
    async fn finish(mut self, workers: &mut Workers) {
        while let Some(worked) = workers.busy.join_next().await {
            // Whatever stands in its way: it comes again.
            let _ = self.settle(worked, workers).await;
        }
        self.delayed.drain().await;
        self.consumer.close().await;
    }
}
