//! What runs beside the messages: the schema and the database's health, deletion of what is past its time, gauges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::broker::Broker;
use crate::config::Config;
use crate::metrics::{Metrics, Target};
use crate::store::health::Health;
use crate::store::{Pool, emails, event_outbox, migrations, retention};

use super::AppError;

/// Waits for the database, and brings its schema up to date.
pub(super) async fn migrate(config: &Config) -> Result<(), AppError> {
    let mut told = false;
    loop {
        match migrations::run(&config.database.url).await {
            Ok(applied) => {
                for version in applied {
                    info!(version, "migrated");
                }
                return Ok(());
            }
            Err(error) if error.is_unavailable() => {
                if !told {
                    warn!(%error, "waiting for the database");
                }
                told = true;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(AppError::Migration(error)),
        }
    }
}

/// Waits until somebody has brought the schema up to date: with an old one every command would fail.
pub(super) async fn wait_for_schema(config: &Config) -> Result<(), AppError> {
    let mut told = String::new();
    loop {
        let waiting = match migrations::pending(&config.database.url).await {
            Ok(pending) if pending.is_empty() => return Ok(()),
            Ok(pending) => format!("the schema lacks {}; run `regrant migrate`", pending.join(", ")),
            Err(error) if error.is_unavailable() => error.to_string(),
            Err(error) => return Err(AppError::Migration(error)),
        };
        if told != waiting {
            warn!("waiting for the database: {waiting}");
            told = waiting;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

pub(super) async fn watch_database(url: SecretString, database: Health, metrics: Metrics, stop: CancellationToken) {
    let was_down = AtomicU64::new(0);
    database
        .watch(&url, stop, |up| {
            metrics.database_up(up);
            if !up {
                was_down.store(1, Ordering::Relaxed);
            } else if was_down.swap(0, Ordering::Relaxed) == 1 {
                metrics.reconnect(Target::Database);
            }
        })
        .await;
}

/// Steps of the sweep over rate limits a minute: enough for 50 million a day.
const SWEEPS: usize = 20;

/// Deletes what is past its time, in small steps.
pub(super) async fn housekeeping(pool: Pool, database: Health, config: Arc<ArcSwap<Config>>, stop: CancellationToken) {
    let mut limits_from = Uuid::nil();
    let mut pause = Duration::from_secs(10);
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        pause = Duration::from_secs(60);
        let rules = config.load_full();
        let cleaning = async {
            database.wait_until_up().await;
            let mut connection = pool.get().await?;
            let now = crate::clock::now();
            let deleted = retention::step(&mut connection, &rules.retention, rules.sessions.lifetime, now).await?;
            for _ in 0..SWEEPS {
                limits_from = retention::sweep_limits(&mut connection, limits_from, now).await?;
                if limits_from.is_nil() {
                    break;
                }
            }
            Ok::<_, crate::store::Error>(deleted)
        };
        match stop.run_until_cancelled(cleaning).await {
            None => return,
            // A full step: there is more. A pause keeps it from competing with the lanes.
            Some(Ok(deleted)) if deleted >= usize::try_from(retention::STEP).unwrap_or(usize::MAX) => {
                pause = Duration::from_millis(500);
            }
            Some(Ok(_)) => {}
            Some(Err(error)) if error.is_unavailable() => database.report_down(&error),
            Some(Err(error)) => warn!(%error, "old rows could not be deleted; trying again in a minute"),
        }
    }
}

/// Numbers that only the database and the broker know, asked for at a steady pace whatever scrapes.
pub(super) async fn gauges(pool: Pool, database: Health, broker: Broker, metrics: Metrics, stop: CancellationToken) {
    let mut dropped = 0;
    while stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(2))).await.is_some() {
        for _ in dropped..broker.dropped_replies() {
            metrics.reply_dropped();
        }
        dropped = broker.dropped_replies();
        if database.problem().is_some() {
            continue;
        }
        let read = async {
            let mut connection = pool.get().await?;
            let mail = emails::backlog(&mut connection).await?;
            let events = event_outbox::pending(&mut connection).await?;
            let oldest = mail.oldest.map(|at| (crate::clock::now() - at).to_std().unwrap_or_default());
            metrics.emails_pending(usize::try_from(mail.pending).unwrap_or(0), oldest);
            metrics.events_pending(usize::try_from(events).unwrap_or(0));
            Ok::<_, crate::store::Error>(())
        };
        if let Err(error) = read.await {
            if error.is_unavailable() {
                database.report_down(&error);
            } else {
                warn!(%error, "the backlog could not be read");
            }
        }
    }
}
