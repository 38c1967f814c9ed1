//! Starts and connects the parts of the daemon: pools, broker, lanes, senders, HTTP. Nothing else does.

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
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::broker::{self, Broker, Change, Topology};
use crate::commands::{self, Lane};
use crate::config::Config;
use crate::domain::rejection::Code;
use crate::events::relay::Relay;
use crate::hashing::{self, HashPool};
use crate::http::{self, HttpState};
use crate::keys::KeyRing;
use crate::lane::{self, Engine};
use crate::lifecycle::notify::ServiceManager;
use crate::lifecycle::{self, Signals};
use crate::mail::catalogue::Template;
use crate::mail::message::dkim::Dkim;
use crate::mail::render::{Loaded, TemplateSet};
use crate::mail::sender::{Handover, Sender};
use crate::mail::transport::Transport;
use crate::mail::watch::Watch;
use crate::metrics::{Known, Metrics, Target};
use crate::store::Pool;
use crate::store::health::Health;
use crate::vitals::Vitals;

use faults::{Faults, announce};
use gauges::Gauges;
use oversight::Oversight;
use reload::{apply_reload, reload_keys, show_templates, watch_of_templates, watch_templates};
use upkeep::{Upkeep, migrate, wait_for_schema, watch_database};

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

/// Parts of the daemon that must not end before they are told to.
struct Parts {
    running: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl Parts {
    fn new() -> Self {
        Self { running: JoinSet::new(), stop: CancellationToken::new() }
    }

    fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(async move {
            part.await;
            name
        });
    }

    /// Waits until a part ends by itself, and returns its name; for ever if there are no parts.
    async fn died(&mut self) -> String {
        match self.running.join_next().await {
            Some(Ok(name)) => name.to_owned(),
            Some(Err(error)) => format!("a part of the daemon ({error})"),
            None => std::future::pending().await,
        }
    }

    /// Tells all to end, and waits until they have.
    async fn stop(&mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}

/// The three steps of stopping: first nothing new is taken, then mail in flight ends, then the rest.
struct Daemon {
    lanes: Parts,
    senders: Parts,
    others: Parts,
}

/// What parts share.
struct Shared {
    config: Arc<ArcSwap<Config>>,
    keys: Arc<ArcSwap<KeyRing>>,
    templates: Arc<ArcSwap<TemplateSet>>,
    pool: Pool,
    database: Health,
    broker: Broker,
    metrics: Metrics,
    /// What is wrong in the templates directory.
    faults: Arc<watch::Sender<Faults>>,
    vitals: Vitals,
}

impl Shared {
    fn oversight(&self, manager: &Arc<ServiceManager>) -> Oversight {
        Oversight {
            config: Arc::clone(&self.config),
            broker: self.broker.clone(),
            database: self.database.clone(),
            faults: Arc::clone(&self.faults),
            metrics: self.metrics.clone(),
            vitals: self.vitals.clone(),
            manager: Arc::clone(manager),
        }
    }
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
    let keys = Arc::new(ArcSwap::from_pointee(KeyRing::load(&config.keys.file).map_err(setup)?));
    // Before they are read: what is saved while the daemon waits for its database is seen afterwards.
    let watch = watch_of_templates(&config).await;
    let loaded = load_templates(&config)?;
    let faults = Faults::of(&loaded);
    faults.mention_strays(&Faults::default());
    let (transport, dkim) = transport(&config)?;
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
    let shared = Shared { config, keys, templates, pool, database, broker, metrics, faults, vitals };
    let manager = Arc::new(ServiceManager::of_this_process());
    let oversight = shared.oversight(&manager);
    let mut daemon = Daemon { lanes: Parts::new(), senders: Parts::new(), others: Parts::new() };
    daemon.others.spawn("http", serve(listener, &oversight, daemon.others.stop.clone()));
    daemon.others.spawn("oversight", oversight.run(daemon.others.stop.clone()));

    let migrate = async {
        let (config, database) = (shared.config.load_full(), &shared.database);
        if config.database.migrate_on_start {
            migrate(&config, database).await
        } else {
            wait_for_schema(&config, database).await
        }
    };
    tokio::select! {
        migrated = migrate => migrated?,
        () = signals.stop() => {
            manager.stopping(Duration::ZERO).await;
            shared.vitals.stopping();
            daemon.others.stop().await;
            shared.broker.close().await;
            return Ok(());
        }
    }
    daemon.start(&shared, watch, transport, dkim, hashing.clone());
    info!(version = env!("CARGO_PKG_VERSION"), http = %listen, "regrant runs");

    let died = loop {
        tokio::select! {
            stop = signals.next() => {
                if stop {
                    break None;
                }
                manager.reloading().await;
                apply_reload(&shared.config, &shared.templates, &shared.metrics, &shared.faults, &reload);
                reload_keys(&shared.config.load().keys.file, &shared.keys, &hashing);
                manager.reloaded().await;
            }
            name = daemon.lanes.died() => break Some(name),
            name = daemon.senders.died() => break Some(name),
            name = daemon.others.died() => break Some(name),
        }
    };
    info!("stopping: no new commands are taken, what was begun is finished");
    let timeout = shared.config.load().shutdown.timeout;
    manager.stopping(timeout).await;
    shared.vitals.stopping();
    let in_time = tokio::select! {
        done = tokio::time::timeout(timeout, daemon.stop(shared.broker)) => done.is_ok(),
        () = signals.stop() => {
            warn!("a second signal: stopping at once");
            std::process::exit(130);
        }
    };
    match died {
        Some(what) => Err(AppError::Died(what)),
        None if !in_time => Err(AppError::Overtime(timeout)),
        None => {
            info!("stopped");
            Ok(())
        }
    }
}

impl Daemon {
    fn start(
        &mut self,
        shared: &Shared,
        watch: Option<Watch>,
        transport: Transport,
        dkim: Option<Dkim>,
        hashing: HashPool,
    ) {
        let Shared { config, keys, templates, pool, database, broker, metrics, faults, vitals } = shared;
        let events = Arc::new(Notify::new());
        let (mail, intake) = Handover::new(config.load().mail.smtp.connections, metrics);
        let sender = Arc::new(Sender {
            config: Arc::clone(config),
            keys: Arc::clone(keys),
            templates: Arc::clone(templates),
            pool: pool.clone(),
            database: database.clone(),
            transport: transport.clone(),
            dkim,
            events: Arc::clone(&events),
            metrics: metrics.clone(),
            vitals: vitals.clone(),
        });
        self.senders.spawn("mail sender", sender.run(intake, self.senders.stop.clone()));
        let relay = Relay {
            pool: pool.clone(),
            database: database.clone(),
            publisher: broker.publisher(),
            exchange: broker.topology().events_exchange(),
            keys: Arc::clone(keys),
            woken: Arc::clone(&events),
            pulse: vitals.pulse("event relay"),
        };
        let stop = self.others.stop.clone();
        let url = config.load().database.url.clone();
        let pulse = vitals.pulse("database watch");
        self.others
            .spawn("database watch", watch_database(url, database.clone(), metrics.clone(), pulse, stop.clone()));
        if let Some(watch) = watch {
            let (config, templates, faults) = (Arc::clone(config), Arc::clone(templates), Arc::clone(faults));
            let pulse = vitals.pulse("template watch");
            let watching = watch_templates(watch, config, templates, metrics.clone(), faults, pulse, stop.clone());
            self.others.spawn("template watch", watching);
        }
        let (faulty, woken) = (faults.subscribe(), Arc::clone(&events));
        let pulse = vitals.pulse("template events");
        let announcing =
            announce(faulty, Arc::clone(config), Arc::clone(keys), pool.clone(), woken, pulse, stop.clone());
        self.others.spawn("template events", announcing);
        self.others.spawn("event relay", relay.run(stop.clone()));
        let upkeep = Upkeep {
            pool: pool.clone(),
            database: database.clone(),
            config: Arc::clone(config),
            keys: Arc::clone(keys),
            metrics: metrics.clone(),
        };
        self.others.spawn("housekeeping", upkeep.clone().housekeeping(vitals.pulse("housekeeping"), stop.clone()));
        self.others.spawn("erasing", upkeep.erasing(vitals.pulse("erasing"), stop.clone()));
        let gauges = Arc::new(Gauges {
            pool: pool.clone(),
            database: database.clone(),
            broker: broker.clone(),
            hashing: hashing.clone(),
            transport,
            metrics: metrics.clone(),
        });
        self.others.spawn("gauges", Arc::clone(&gauges).often(vitals.pulse("gauges"), stop.clone()));
        self.others.spawn("queue depths", gauges.seldom(vitals.pulse("queue depths"), stop));
        let engine = Arc::new(Engine {
            config: Arc::clone(config),
            keys: Arc::clone(keys),
            templates: Arc::clone(templates),
            pool: pool.clone(),
            database: database.clone(),
            query_places: Arc::new(Semaphore::new((config.load().database.max_connections / 3).max(2))),
            publisher: broker.publisher(),
            broker: broker.clone(),
            hashing,
            mail,
            events,
            metrics: metrics.clone(),
            vitals: vitals.clone(),
        });
        let intake = self.lanes.stop.clone();
        for lane in Lane::ALL {
            self.lanes.spawn(lane.as_str(), lane::run(Arc::clone(&engine), lane, intake.clone()));
        }
        self.lanes.spawn("unknown", lane::run_unknown(engine, intake));
    }

    async fn stop(&mut self, broker: Broker) {
        self.lanes.stop().await;
        self.senders.stop().await;
        self.others.stop().await;
        broker.close().await;
    }
}

fn start_broker(config: &Config, metrics: &Metrics, vitals: &Vitals) -> Result<Broker, AppError> {
    let options = broker::Options { url: config.broker.url.clone(), connection_name: "regrant".to_owned() };
    let (counted, lost) = (metrics.clone(), AtomicU64::new(0));
    Broker::start(&options, topology(config), vitals, move |_, change| match change {
        Change::Connected if lost.load(Ordering::Relaxed) > 0 => {
            lost.fetch_sub(1, Ordering::Relaxed);
            counted.reconnect(Target::Broker);
        }
        Change::Lost => {
            lost.fetch_add(1, Ordering::Relaxed);
        }
        Change::Connected | Change::Blocked | Change::Unblocked => {}
    })
    .map_err(setup)
}

fn serve(listener: TcpListener, oversight: &Oversight, stop: CancellationToken) -> impl Future<Output = ()> + use<> {
    let [ready, healthy, shown] = [(); 3].map(|()| oversight.clone());
    let state = HttpState {
        metrics: oversight.metrics.clone(),
        readiness: Arc::new(move || ready.unready()),
        health: Arc::new(move || healthy.unhealthy()),
        before_scrape: Arc::new(move || {
            shown.metrics.broker_connected(shown.broker.is_connected());
            shown.metrics.database_up(shown.database.problem().is_none());
        }),
    };
    http::serve(listener, state, async move { stop.cancelled().await })
}

/// Signals as the command line sets them up.
///
/// # Errors
/// [`AppError::Setup`] when the operating system refuses.
pub fn signals() -> Result<Signals, AppError> {
    lifecycle::Signals::new().map_err(|e| setup(format!("signals: {e}")))
}
