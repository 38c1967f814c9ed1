//! The only place that wires: pools, broker, lanes, senders, HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::broker::{self, Broker, Change, Topology};
use crate::commands::{self, Lane};
use crate::config::Config;
use crate::domain::rejection::Code;
use crate::events::relay::Relay;
use crate::hashing::{self, HashPool};
use crate::http::{self, HttpState};
use crate::keys::KeyRing;
use crate::lane::{self, Engine};
use crate::lifecycle::{self, Signals};
use crate::mail::catalogue::Template;
use crate::mail::message::dkim::Dkim;
use crate::mail::render::{Loaded, TemplateSet};
use crate::mail::sender::{Handover, Sender};
use crate::mail::transport::Transport;
use crate::mail::{report, watch};
use crate::metrics::{Known, Metrics, Target};
use crate::store::health::Health;
use crate::store::{Pool, emails, event_outbox, migrations, retention};

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
pub fn load_templates(config: &Config) -> Result<TemplateSet, AppError> {
    let sites: Vec<&str> = config.sites.keys().map(String::as_str).collect();
    TemplateSet::load(&config.templates.directory, &sites).map_err(setup)
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

    /// Waits for one that ended by itself; for ever while there is none.
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
    keys: Arc<KeyRing>,
    templates: Arc<ArcSwap<TemplateSet>>,
    pool: Pool,
    database: Health,
    broker: Broker,
    metrics: Metrics,
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
    let keys = Arc::new(KeyRing::load(&config.keys.file).map_err(setup)?);
    let templates = Arc::new(ArcSwap::from_pointee(load_templates(&config)?));
    let (transport, dkim) = transport(&config)?;
    let metrics = new_metrics()?;
    show_templates(&metrics, &templates.load());
    let observer = metrics.clone();
    let observer: hashing::Observer = Arc::new(move |took| observer.password_hash(took));
    let hashing = HashPool::new(hashing_options(&config, &keys, Some(observer))).map_err(setup)?;
    let pool = Pool::new(&config.database.url, config.database.max_connections).map_err(setup)?;
    let listen = config.http.listen;
    let listener = TcpListener::bind(listen).await.map_err(|e| setup(format!("http.listen {listen}: {e}")))?;
    let database = Health::default();
    let broker = start_broker(&config, &metrics)?;
    let mut daemon = Daemon { lanes: Parts::new(), senders: Parts::new(), others: Parts::new() };
    let serving = serve(listener, &metrics, &broker, &database, daemon.others.stop.clone());
    daemon.others.spawn("http", serving);

    let timeout = config.shutdown.timeout;
    let migrate = async {
        if config.database.migrate_on_start { migrate(&config).await } else { wait_for_schema(&config).await }
    };
    tokio::select! {
        migrated = migrate => migrated?,
        () = signals.stop() => {
            daemon.others.stop().await;
            broker.close().await;
            return Ok(());
        }
    }
    let config = Arc::new(ArcSwap::from_pointee(config));
    let shared = Shared { config, keys, templates, pool, database, broker, metrics };
    daemon.start(&shared, transport, dkim, hashing);
    info!(version = env!("CARGO_PKG_VERSION"), http = %listen, "regrant runs");

    let died = loop {
        tokio::select! {
            stop = signals.next() => {
                if stop {
                    break None;
                }
                apply_reload(&shared.config, &shared.templates, &shared.metrics, &reload);
            }
            name = daemon.lanes.died() => break Some(name),
            name = daemon.senders.died() => break Some(name),
            name = daemon.others.died() => break Some(name),
        }
    };
    info!("stopping: no new commands are taken, what was begun is finished");
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
    fn start(&mut self, shared: &Shared, transport: Transport, dkim: Option<Dkim>, hashing: HashPool) {
        let Shared { config, keys, templates, pool, database, broker, metrics } = shared;
        let events = Arc::new(Notify::new());
        let (mail, handed_over) = Handover::new();
        let sender = Arc::new(Sender {
            config: Arc::clone(config),
            keys: Arc::clone(keys),
            templates: Arc::clone(templates),
            pool: pool.clone(),
            database: database.clone(),
            transport,
            dkim,
            events: Arc::clone(&events),
            metrics: metrics.clone(),
        });
        self.senders.spawn("mail sender", sender.run(handed_over, self.senders.stop.clone()));
        let relay = Relay {
            pool: pool.clone(),
            database: database.clone(),
            publisher: broker.publisher(),
            exchange: broker.topology().events_exchange(),
            woken: Arc::clone(&events),
        };
        let stop = self.others.stop.clone();
        let url = config.load().database.url.clone();
        self.others.spawn("database watch", watch_database(url, database.clone(), metrics.clone(), stop.clone()));
        if config.load().templates.watch {
            let watching = watch_templates(Arc::clone(config), Arc::clone(templates), metrics.clone(), stop.clone());
            self.others.spawn("template watch", watching);
        }
        self.others.spawn("event relay", relay.run(stop.clone()));
        self.others
            .spawn("housekeeping", housekeeping(pool.clone(), database.clone(), Arc::clone(config), stop.clone()));
        self.others.spawn("gauges", gauges(pool.clone(), database.clone(), broker.clone(), metrics.clone(), stop));
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
        });
        let intake = self.lanes.stop.clone();
        for lane in Lane::ALL {
            // Two a lane: while one waits for its commit, the other decides and hashes.
            for _ in 0..2 {
                self.lanes.spawn(lane.as_str(), lane::run(Arc::clone(&engine), lane, intake.clone()));
            }
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

fn start_broker(config: &Config, metrics: &Metrics) -> Result<Broker, AppError> {
    let options = broker::Options { url: config.broker.url.clone(), connection_name: "regrant".to_owned() };
    let (counted, lost) = (metrics.clone(), AtomicU64::new(0));
    Broker::start(&options, topology(config), move |_, change| match change {
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

/// Waits for the database, and brings its schema up to date.
async fn migrate(config: &Config) -> Result<(), AppError> {
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
async fn wait_for_schema(config: &Config) -> Result<(), AppError> {
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

async fn watch_database(url: SecretString, database: Health, metrics: Metrics, stop: CancellationToken) {
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

fn serve(
    listener: TcpListener,
    metrics: &Metrics,
    broker: &Broker,
    database: &Health,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let (broker, database) = (broker.clone(), database.clone());
    let (scraped, shown) = (broker.clone(), metrics.clone());
    let state = HttpState {
        metrics: metrics.clone(),
        readiness: Arc::new(move || {
            let problem = |what, reason: Option<String>| reason.map(|reason| http::Problem { what, reason });
            [problem("broker", broker.problem()), problem("database", database.problem())]
                .into_iter()
                .flatten()
                .collect()
        }),
        health: Arc::new(|| Ok(())),
        before_scrape: Arc::new(move || shown.broker_connected(scraped.is_connected())),
    };
    http::serve(listener, state, async move { stop.cancelled().await })
}

/// How often the templates directory is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Takes over templates that were saved, a moment after the last change: a half-written file is seen as it should be.
async fn watch_templates(
    config: Arc<ArcSwap<Config>>,
    templates: Arc<ArcSwap<TemplateSet>>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let look = || {
        let directory = config.load().templates.directory.clone();
        tokio::task::spawn_blocking(move || watch::fingerprint(&directory))
    };
    let Ok(mut used) = look().await else { return };
    let mut before = used;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        let Ok(now) = look().await else { return };
        if now != used && now == before {
            used = now;
            reload_templates(&config.load(), &templates, &metrics);
            info!("the templates changed and were read again");
        }
        before = now;
    }
}

/// Takes over new templates; where one has faults, its last good version stays, and the metric says so.
fn reload_templates(config: &Config, templates: &ArcSwap<TemplateSet>, metrics: &Metrics) {
    let sites: Vec<&str> = config.sites.keys().map(String::as_str).collect();
    match Loaded::read(&config.templates.directory, &sites) {
        Ok(Loaded { mut set, problems }) => {
            show_templates(metrics, &set);
            set.keep_last_good(&templates.load());
            templates.store(Arc::new(set));
            if !problems.is_empty() {
                error!("templates with faults keep their last good version:\n{}", report::problems(&problems));
            }
        }
        Err(reason) => error!("the templates were not reloaded, the last good ones stay in use: {reason}"),
    }
}

fn show_templates(metrics: &Metrics, set: &TemplateSet) {
    // `sites/default/` and the base have the same labels: such a series is good when both are.
    let variants = set.variants();
    let mut series = BTreeMap::new();
    for (variant, valid) in &variants {
        let labels = (variant.template.as_str(), variant.site_label(), variant.locale_label());
        *series.entry(labels).or_insert(true) &= *valid;
    }
    metrics.templates_valid(series.into_iter().map(|((t, s, l), valid)| (t, s, l, valid)));
}

/// Takes over a new configuration, but for what needs a restart; and new templates, if all are good.
fn apply_reload(
    config: &ArcSwap<Config>,
    templates: &ArcSwap<TemplateSet>,
    metrics: &Metrics,
    reload: &impl Fn() -> Result<Config, String>,
) {
    let old = config.load_full();
    let new = match reload() {
        Ok(new) => new,
        Err(reason) => {
            error!("the configuration was not reloaded, the old one stays in force:\n{reason}");
            return;
        }
    };
    for key in crate::config::restart_needed(&old, &new) {
        warn!(key, "this setting changed, but needs a restart");
    }
    let kept = old.as_ref().clone();
    let mut merged = new;
    merged.broker = kept.broker;
    merged.database = kept.database;
    merged.http = kept.http;
    merged.keys = kept.keys;
    merged.templates = kept.templates;
    merged.log = kept.log;
    merged.mail.transport = kept.mail.transport;
    merged.mail.smtp = kept.mail.smtp;
    merged.mail.file = kept.mail.file;
    merged.mail.dkim = kept.mail.dkim;
    merged.password.hashing = kept.password.hashing;
    reload_templates(&merged, templates, metrics);
    config.store(Arc::new(merged));
    info!("reloaded");
}

/// Steps of the sweep over rate limits a minute: enough for 50 million a day.
const SWEEPS: usize = 20;

/// Deletes what is past its time, in small steps.
async fn housekeeping(pool: Pool, database: Health, config: Arc<ArcSwap<Config>>, stop: CancellationToken) {
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
async fn gauges(pool: Pool, database: Health, broker: Broker, metrics: Metrics, stop: CancellationToken) {
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

/// Signals as the command line sets them up.
///
/// # Errors
/// [`AppError::Setup`] when the operating system refuses.
pub fn signals() -> Result<Signals, AppError> {
    lifecycle::Signals::new().map_err(|e| setup(format!("signals: {e}")))
}
