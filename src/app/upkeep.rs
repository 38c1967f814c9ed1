//! What runs beside the messages: the schema and the database's health, deletion of what is past its time, gauges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{Config, Retention};
use crate::keys::KeyRing;
use crate::metrics::{EmailOutcome, Metrics, Target, TicketEvent, TicketPurpose};
use crate::store::erasure::{self, Step};
use crate::store::health::Health;
use crate::store::retention::{self, Rules, Sweep};
use crate::store::{self, Pool, migrations};
use crate::vitals::Pulse;

use super::AppError;

/// Waits for the database, and brings its schema up to date.
pub(super) async fn migrate(config: &Config, database: &Health) -> Result<(), AppError> {
    loop {
        match migrations::run(&config.database.url).await {
            Ok(applied) => {
                for version in applied {
                    info!(version, "migrated");
                }
                return Ok(());
            }
            Err(error) if error.is_unavailable() => {
                database.report_down(&error);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(AppError::Migration(error)),
        }
    }
}

/// Waits until somebody has brought the schema up to date: with an old one every command would fail.
pub(super) async fn wait_for_schema(config: &Config, database: &Health) -> Result<(), AppError> {
    loop {
        let waiting = match migrations::pending(&config.database.url).await {
            Ok(pending) if pending.is_empty() => return Ok(()),
            Ok(pending) => format!("the schema lacks {}; run `regrant migrate`", pending.join(", ")),
            Err(error) if error.is_unavailable() => error.to_string(),
            Err(error) => return Err(AppError::Migration(error)),
        };
        database.report_down(&store::Error::Unavailable(waiting));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

pub(super) async fn watch_database(
    url: SecretString,
    database: Health,
    metrics: Metrics,
    pulse: Pulse,
    stop: CancellationToken,
) {
    let was_down = AtomicU64::new(0);
    let changed = |up: bool| {
        if !up {
            was_down.store(1, Ordering::Relaxed);
        } else if was_down.swap(0, Ordering::Relaxed) == 1 {
            metrics.reconnect(Target::Database);
        }
    };
    database.watch(&url, pulse, stop, changed, |ahead| metrics.clock_skew(ahead)).await;
}

/// How often at least to look for rows that are past their time, and for tickets that ran out.
const LONGEST_ROUND: Duration = Duration::from_secs(60);
/// How often at most.
const SHORTEST_ROUND: Duration = Duration::from_secs(1);
/// The delay after the start, in which the daemon works off what waited for it.
const FIRST_ROUND: Duration = Duration::from_secs(5);
/// Steps of the sweep over rate limits per step of the other jobs: they are cheap.
const LIMIT_STEPS: usize = 20;
/// How often to look for erasures that are not done yet.
const ERASING: Duration = Duration::from_secs(5);
/// The shortest pause between two steps of one job.
const REST: Duration = Duration::from_millis(50);

/// What the work beside the messages needs.
#[derive(Clone)]
pub(super) struct Upkeep {
    pub(super) pool: Pool,
    pub(super) database: Health,
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) keys: Arc<ArcSwap<KeyRing>>,
    pub(super) metrics: Metrics,
}

impl Upkeep {
    /// Deletes what is past its time, in small steps, and counts tickets that ran out.
    pub(super) async fn housekeeping(self, pulse: Pulse, stop: CancellationToken) {
        let mut sweep = Sweep::default();
        let mut pause = FIRST_ROUND.min(self.round());
        while stop.run_until_cancelled(pulse.waiting(tokio::time::sleep(pause))).await.is_some() {
            let started = Instant::now();
            let Some(cleaned) = stop.run_until_cancelled(self.clean(&mut sweep, &pulse)).await else { return };
            pause = self.pause(started, cleaned, self.round(), "old rows could not be deleted");
        }
    }

    fn round(&self) -> Duration {
        round(&self.config.load().retention)
    }

    /// Finishes erasures that were too large for one transaction.
    pub(super) async fn erasing(self, pulse: Pulse, stop: CancellationToken) {
        let mut pause = ERASING;
        while stop.run_until_cancelled(pulse.waiting(tokio::time::sleep(pause))).await.is_some() {
            let started = Instant::now();
            let Some(worked) = stop.run_until_cancelled(self.erase(&pulse)).await else { return };
            pause = self.pause(started, worked, ERASING, "an erasure could not be finished");
        }
    }

    /// How long to rest. A job with more to do rests as long as it worked: it slows down when the database does, and never
    /// takes more than half of one connection.
    fn pause(&self, started: Instant, more: Result<bool, store::Error>, idle: Duration, trouble: &str) -> Duration {
        match more {
            Ok(true) => return started.elapsed().max(REST),
            Ok(false) => {}
            Err(error) if error.is_unavailable() => self.database.report_down(&error),
            Err(error) => warn!(%error, "{trouble}; trying again in {} s", idle.as_secs()),
        }
        idle
    }

    async fn clean(&self, sweep: &mut Sweep, pulse: &Pulse) -> Result<bool, store::Error> {
        pulse.waiting(self.database.wait_until_up()).await;
        let mut connection = self.pool.get().await?;
        let now = crate::clock::now();
        let rules = Rules::from(&**self.config.load());
        let mut more = sweep.step(&mut connection, &rules, now).await?;
        let run_out = retention::run_out(&mut connection, now).await?;
        more |= i64::try_from(run_out.len()).unwrap_or(0) >= retention::STEP;
        for purpose in run_out {
            if let Some(purpose) = TicketPurpose::ALL.iter().find(|p| p.as_str() == purpose) {
                self.metrics.ticket(*purpose, TicketEvent::Expired);
            }
        }
        let mut limits = true;
        for _ in 0..LIMIT_STEPS {
            pulse.beat();
            limits = limits && sweep.limits(&mut connection, &rules, now).await?;
        }
        Ok(more || limits)
    }

    async fn erase(&self, pulse: &Pulse) -> Result<bool, store::Error> {
        pulse.waiting(self.database.wait_until_up()).await;
        let mut connection = self.pool.get().await?;
        Ok(match erasure::step(&mut connection, &self.keys.load_full()).await? {
            Step::Idle => false,
            Step::Worked(cancelled) => {
                for template in cancelled {
                    self.metrics.email(&template, EmailOutcome::Cancelled);
                }
                true
            }
            Step::Unreadable => {
                error!(
                    "an erasure cannot be finished: it was sealed with a key that the key file does not have; put the \
                     key back. It is tried again in an hour"
                );
                true
            }
        })
    }
}

/// How often to look for rows that are past their time: nothing stays for twice as long as it should, whatever is configured.
fn round(ages: &Retention) -> Duration {
    let shortest =
        [ages.commands, ages.activity, ages.emails, ages.tickets].into_iter().fold(LONGEST_ROUND, Duration::min);
    shortest.max(SHORTEST_ROUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_come_as_often_as_the_shortest_retention_asks_for() {
        let default = Retention::default();
        assert_eq!(round(&default), LONGEST_ROUND);
        for (millis, seconds) in [(90_000, 60), (30_000, 30), (2_000, 2), (10, 1)] {
            let commands = Duration::from_millis(millis);
            assert_eq!(round(&Retention { commands, ..default.clone() }), Duration::from_secs(seconds));
        }
    }
}
