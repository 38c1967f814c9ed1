//! Gauges that are read at regular intervals, however often somebody scrapes.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::broker::Broker;
use crate::commands;
use crate::hashing::HashPool;
use crate::mail::transport::Transport;
use crate::metrics::{Lane, Metrics, Usage, Waiting};
use crate::store::health::Health;
use crate::store::{self, Pool, emails, event_outbox};
use crate::vitals::Pulse;

/// The interval for what only the database knows, and for what this process uses.
const OFTEN: Duration = Duration::from_secs(2);
/// The interval for what only the broker knows: each queue takes a round trip, and every daemon asks.
const SELDOM: Duration = Duration::from_secs(10);

/// Where the numbers come from.
pub(super) struct Gauges {
    pub(super) pool: Pool,
    pub(super) database: Health,
    pub(super) broker: Broker,
    pub(super) hashing: HashPool,
    pub(super) transport: Transport,
    pub(super) metrics: Metrics,
}

impl Gauges {
    /// Reads the gauges of the database and this process, until `stop`.
    pub(super) async fn often(self: Arc<Self>, pulse: Pulse, stop: CancellationToken) {
        loop {
            self.metrics.usage(&self.usage());
            if self.database.problem().is_none() {
                match self.backlog().await {
                    Err(error) if error.is_unavailable() => self.database.report_down(&error),
                    Err(error) => warn!(%error, "the backlog could not be read"),
                    Ok(()) => {}
                }
            }
            if stop.run_until_cancelled(pulse.waiting(tokio::time::sleep(OFTEN))).await.is_none() {
                return;
            }
        }
    }

    /// Reads the gauges of the broker, until `stop`; separately, because the others must not wait for a slow broker.
    pub(super) async fn seldom(self: Arc<Self>, pulse: Pulse, stop: CancellationToken) {
        loop {
            match stop.run_until_cancelled(pulse.waiting(self.waiting())).await {
                // While the broker is away, another metric says so.
                Some(Err(reason)) => debug!(reason, "the depths of the queues could not be read"),
                Some(Ok(waiting)) => self.metrics.waiting(&waiting),
                None => return,
            }
            if stop.run_until_cancelled(pulse.waiting(tokio::time::sleep(SELDOM))).await.is_none() {
                return;
            }
        }
    }

    fn usage(&self) -> Usage {
        let database = self.pool.usage();
        let (smtp_in_use, smtp_max) = self.transport.usage();
        Usage {
            hash_jobs: self.hashing.pending(),
            hash_threads: self.hashing.threads(),
            database_in_use: database.in_use,
            database_idle: database.idle,
            database_max: database.max,
            database_waiters: database.waiters,
            smtp_in_use,
            smtp_max,
        }
    }

    async fn backlog(&self) -> Result<(), store::Error> {
        let mut connection = self.pool.get().await?;
        let mail = emails::backlog(&mut connection).await?;
        let events = event_outbox::backlog(&mut connection).await?;
        let now = crate::clock::now();
        // A time in the future counts as no age.
        let since = |at: Option<DateTime<Utc>>| at.and_then(|at| (now - at).to_std().ok());
        let count = |n: i64| usize::try_from(n).unwrap_or(0);
        self.metrics.emails_pending(count(mail.pending.into()), since(mail.oldest), since(mail.due));
        self.metrics.events_pending(count(events.pending), since(events.oldest));
        Ok(())
    }

    async fn waiting(&self) -> Result<Waiting, String> {
        let topology = self.broker.topology();
        let lanes = [
            (Lane::State, topology.lane_queue(commands::Lane::State.as_str())),
            (Lane::Credentials, topology.lane_queue(commands::Lane::Credentials.as_str())),
            (Lane::Queries, topology.lane_queue(commands::Lane::Queries.as_str())),
            (Lane::Unknown, topology.unknown_queue()),
        ];
        let mut queues = topology.retry_queues();
        queues.push(topology.dead_queue());
        queues.extend(lanes.iter().map(|(_, queue)| queue.clone()));
        let depths = self.broker.depths(queues).await?;
        let depth = |queue: &String| depths.get(queue).copied().unwrap_or(0);
        Ok(Waiting {
            lanes: lanes.iter().map(|(lane, queue)| (*lane, depth(queue))).collect(),
            retries: topology.retry_queues().iter().map(depth).sum(),
            dead_letters: depth(&topology.dead_queue()),
        })
    }
}
