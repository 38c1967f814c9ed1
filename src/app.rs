//! Starts and connects the parts of the daemon: pools, broker, lanes, senders, HTTP. Nothing else does.

mod daemon;
mod faults;
mod gauges;
mod oversight;
mod reload;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::broker::{self, Broker, Change, Topology};
use crate::commands::{self, Lane};
use crate::config::Config;
use crate::domain::rejection::Code;
use crate::hashing::{self, HashPool};
use crate::keys::KeyRing;
use crate::lifecycle::notify::ServiceManager;
use crate::lifecycle::{self, Signals};
use crate::mail::catalogue::Template;
use crate::mail::message::dkim::Dkim;
use crate::mail::render::Loaded;
use crate::mail::transport::Transport;
use crate::metrics::{Known, Metrics, Target};
use crate::store::Pool;
use crate::store::health::Health;
use crate::vitals::Vitals;

use daemon::{Daemon, Shared, Tools};
use faults::Faults;
use reload::{apply_reload, mention_blocklist, reload_keys, show_templates, watch_of_templates};
use upkeep::{migrate, wait_for_schema};

/// Why the daemon does not start, or ended with a failure.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A setting or file; says which and what to do.
    #[error("{0}")]
    Setup(String),
    /// The schema could not be brought up to date.
    #[error("the database's schema could not be brought up to date: {0}")]
    Migration(crate::store::Error),
    /// A part of the daemon ended by itself.
    #[error("{0} ended unexpectedly; the daemon stops so that it is started anew")]
    Died(String),
    /// Something was still running when the time for stopping was over.
    #[error("not everything had ended after {0:?} (shutdown.timeout); what was not finished is delivered again")]
    Overtime(Duration),
}

fn setup(error: impl std::fmt::Display) -> AppError {
    AppError::Setup(error.to_string())
}

/// Loads templates; every problem is in the error.
///
/// # Errors
/// [`AppError::Setup`] with what `regrant templates check` prints.
pub fn load_templates(config: &Config) -> Result<Loaded, AppError> {
    let sites: Vec<&str> = config.sites.keys().map(String::as_str).collect();
    Loaded::without_problems(&config.templates.directory, &sites).map_err(setup)
}

/// Prepares the way out for mail.
///
/// # Errors
/// [`AppError::Setup`].
pub fn transport(config: &Config) -> Result<(Transport, Option<Dkim>), AppError> {
    let transport = Transport::from_config(&config.mail).map_err(setup)?;
    let dkim = config
        .mail
        .dkim
        .as_ref()
        .map(|d| Dkim::load(&d.domain, &d.selector, &d.key_file))
        .transpose()
        .map_err(setup)?;
    Ok((transport, dkim))
}

/// The exchanges and queues of a configuration.
pub fn topology(config: &Config) -> Topology {
    Topology::new(&config.broker.prefix, Lane::ALL.map(|lane| (lane.as_str(), commands::names(lane))))
}

/// How passwords are hashed.
pub fn hashing_options(config: &Config, keys: &KeyRing, observer: Option<hashing::Observer>) -> hashing::Options {
    let hashing = &config.password.hashing;
    hashing::Options {
        memory_kib: hashing.memory_kib,
        time_cost: hashing.time_cost,
        parallelism: hashing.parallelism,
        threads: hashing.threads,
        peppers: keys.peppers(),
        observer,
        ..hashing::Options::default()
    }
}

fn new_metrics() -> Result<Metrics, AppError> {
    let commands: Vec<&'static str> = commands::ALL.iter().map(|spec| spec.name).collect();
    let templates: Vec<&'static str> = Template::ALL.iter().map(|template| template.as_str()).collect();
    let reasons: Vec<&'static str> =
        [Code::InvalidMessage, Code::InvalidBody, Code::UnknownCommand, Code::Internal].map(Code::as_str).to_vec();
    Metrics::new(&Known {
        version: env!("CARGO_PKG_VERSION"),
        commands: &commands,
        templates: &templates,
        dead_letter_reasons: &reasons,
    })
    .map_err(setup)
}

/// Runs the daemon until a signal; `reload` gives the configuration anew.
///
/// # Errors
/// [`AppError`].
pub async fn run(
    config: Config,
    mut signals: Signals,
    reload: impl Fn() -> Result<Config, String>,
) -> Result<(), AppError> {
    let listen = config.http.listen;
    let (shared, tools, listener) = prepare(config).await?;
    let hashing = tools.hashing.clone();
    let manager = Arc::new(ServiceManager::of_this_process());
    let mut daemon = Daemon::new();
    daemon.start_oversight(listener, shared.oversight(&manager));
    let take_over = async || {
        manager.reloading().await;
        // Files may be on a server that takes its time.
        tokio::task::block_in_place(|| {
            apply_reload(&shared, &reload);
            reload_keys(&shared.config.load().keys.file, &shared.keys, &hashing);
        });
        manager.reloaded().await;
    };
    let ready = {
        let mut ready = std::pin::pin!(schema_is_ready(&shared));
        loop {
            tokio::select! {
                ready = &mut ready => break Some(ready),
                stop = signals.next() => {
                    if stop {
                        break None;
                    }
                    take_over().await;
                }
            }
        }
    };
    let Some(ready) = ready else {
        manager.stopping(Duration::ZERO).await;
        shared.vitals.stopping();
        daemon.others.stop().await;
        shared.broker.close().await;
        return Ok(());
    };
    ready?;
    daemon.start(&shared, tools);
    info!(version = env!("CARGO_PKG_VERSION"), http = %listen, "regrant runs");

    let died = loop {
        tokio::select! {
            stop = signals.next() => {
                if stop {
                    break None;
                }
                take_over().await;
            }
            name = daemon.died() => break Some(name),
        }
    };
    let in_time = stop(&mut daemon, &shared, &manager, &mut signals).await;
    match died {
        Some(what) => Err(AppError::Died(what)),
        None => in_time.map(|()| info!("stopped")),
    }
}

/// Makes what the parts work with; nothing runs yet but the broker's connection.
async fn prepare(config: Config) -> Result<(Shared, Tools, TcpListener), AppError> {
    let keys = Arc::new(ArcSwap::from_pointee(KeyRing::load(&config.keys.file).map_err(setup)?));
    // Before they are read: what is saved while the daemon waits for its database is seen afterwards.
    let template_watch = watch_of_templates(&config).await;
    let loaded = load_templates(&config)?;
    let faults = Faults::of(&loaded);
    faults.mention_warnings(&Faults::default());
    mention_blocklist(&config);
    let (transport, dkim) = transport(&config)?;
    let dkim = dkim.map(Arc::new);
    let metrics = new_metrics()?;
    show_templates(&metrics, &loaded.set, &faults);
    let (templates, faults) = (Arc::new(ArcSwap::from_pointee(loaded.set)), Arc::new(watch::Sender::new(faults)));
    let observer = metrics.clone();
    let observer: hashing::Observer = Arc::new(move |took| observer.password_hash(took));
    let hashing = HashPool::new(hashing_options(&config, &keys.load(), Some(observer))).map_err(setup)?;
    let pool = Pool::new(&config.database.url, config.database.max_connections).map_err(setup)?;
    let listen = config.http.listen;
    let listener = TcpListener::bind(listen).await.map_err(|e| setup(format!("http.listen {listen}: {e}")))?;
    let (database, vitals) = (Health::of(pool.clone()), Vitals::default());
    let broker = start_broker(&config, &metrics, &vitals)?;
    let config = Arc::new(ArcSwap::from_pointee(config));
    let shared = Shared { config, keys, templates, dkim, pool, database, broker, metrics, faults, vitals };
    Ok((shared, Tools { transport, hashing, template_watch }, listener))
}

/// Waits for the database and its schema.
async fn schema_is_ready(shared: &Shared) -> Result<(), AppError> {
    let (config, database) = (shared.config.load_full(), &shared.database);
    if config.database.migrate_on_start {
        migrate(&config, database).await
    } else {
        wait_for_schema(&config, database).await
    }
}

/// Lets what was begun end, and says whether it did in time.
async fn stop(
    daemon: &mut Daemon,
    shared: &Shared,
    manager: &ServiceManager,
    signals: &mut Signals,
) -> Result<(), AppError> {
    info!("stopping: no new commands are taken, what was begun is finished");
    let timeout = shared.config.load().shutdown.timeout;
    manager.stopping(timeout).await;
    shared.vitals.stopping();
    let done = tokio::select! {
        done = tokio::time::timeout(timeout, daemon.stop(shared.broker.clone())) => done,
        () = signals.stop() => {
            warn!("a second signal: stopping at once");
            std::process::exit(130);
        }
    };
    done.map_err(|_| AppError::Overtime(timeout))
}

fn start_broker(config: &Config, metrics: &Metrics, vitals: &Vitals) -> Result<Broker, AppError> {
    let options = broker::Options { url: config.broker.url.clone(), connection_name: "regrant".to_owned() };
    let (counted, lost) = (metrics.clone(), AtomicU64::new(0));
    Broker::start(&options, topology(config), vitals, move |_, change| match change {
        Change::Connected => {
            // Of several connections, each in a task of its own.
            let again = lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lost| lost.checked_sub(1));
            if again.is_ok() {
                counted.reconnect(Target::Broker);
            }
        }
        Change::Lost => {
            lost.fetch_add(1, Ordering::Relaxed);
        }
        Change::RepliesDropped(replies) => counted.replies_dropped(replies),
        Change::Blocked | Change::Unblocked => {}
    })
    .map_err(setup)
}

/// Signals as the command line sets them up.
///
/// # Errors
/// [`AppError::Setup`] when the operating system refuses.
pub fn signals() -> Result<Signals, AppError> {
    lifecycle::Signals::new().map_err(|e| setup(format!("signals: {e}")))
}
