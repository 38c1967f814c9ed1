//! The parts of the daemon: what each is given, and in which order they stop.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::commands::Lane;
use crate::config::Config;
use crate::events::relay::Relay;
use crate::hashing::HashPool;
use crate::http::{self, HttpState};
use crate::keys::KeyRing;
use crate::lane::{self, Engine};
use crate::lifecycle::notify::ServiceManager;
use crate::mail::message::dkim::Dkim;
use crate::mail::render::TemplateSet;
use crate::mail::sender::{Handover, Intake, Sender};
use crate::mail::transport::Transport;
use crate::mail::watch::Watch;
use crate::metrics::Metrics;
use crate::store::Pool;
use crate::store::health::Health;
use crate::vitals::Vitals;

use super::faults::{Faults, TemplateEvents};
use super::gauges::Gauges;
use super::oversight::Oversight;
use super::reload::TemplateWatch;
use super::upkeep::{Upkeep, watch_database};

/// Parts of the daemon that must not end before they are told to.
pub(super) struct Parts {
    pub(super) running: JoinSet<&'static str>,
    pub(super) stop: CancellationToken,
}

impl Parts {
    pub(super) fn new() -> Self {
        Self { running: JoinSet::new(), stop: CancellationToken::new() }
    }

    pub(super) fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(async move {
            part.await;
            name
        });
    }

    /// Waits for one that ended by itself; for ever while there is none.
    pub(super) async fn died(&mut self) -> String {
        match self.running.join_next().await {
            Some(Ok(name)) => name.to_owned(),
            Some(Err(error)) => format!("a part of the daemon ({error})"),
            None => std::future::pending().await,
        }
    }

    /// Tells all to end, and waits until they have.
    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}

/// The three steps of stopping: first nothing new is taken, then mail in flight ends, then the rest.
pub(super) struct Daemon {
    pub(super) lanes: Parts,
    pub(super) senders: Parts,
    pub(super) others: Parts,
}

/// What parts share; a copy is a handle of the same.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) keys: Arc<ArcSwap<KeyRing>>,
    pub(super) templates: Arc<ArcSwap<TemplateSet>>,
    /// None if mails are not signed.
    pub(super) dkim: Option<Arc<Dkim>>,
    pub(super) pool: Pool,
    pub(super) database: Health,
    pub(super) broker: Broker,
    pub(super) metrics: Metrics,
    /// What is wrong in the templates directory.
    pub(super) faults: Arc<watch::Sender<Faults>>,
    pub(super) vitals: Vitals,
}

impl Shared {
    pub(super) fn oversight(&self, manager: &Arc<ServiceManager>) -> Oversight {
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

/// What the daemon works with and only some parts need.
pub(super) struct Tools {
    pub(super) transport: Transport,
    pub(super) hashing: HashPool,
    /// None if templates are not to be looked at.
    pub(super) template_watch: Option<Watch>,
}

impl Daemon {
    pub(super) fn new() -> Self {
        Self { lanes: Parts::new(), senders: Parts::new(), others: Parts::new() }
    }

    /// Starts what tells how the daemon is: before it can work.
    pub(super) fn start_oversight(&mut self, listener: TcpListener, oversight: Oversight) {
        self.others.spawn("http", serve(listener, &oversight, self.others.stop.clone()));
        self.others.spawn("oversight", oversight.run(self.others.stop.clone()));
    }

    /// Starts all that works.
    pub(super) fn start(&mut self, shared: &Shared, tools: Tools) {
        let Tools { transport, hashing, template_watch } = tools;
        let events = Arc::new(Notify::new());
        let (mail, intake) = Handover::new(shared.config.load().mail.smtp.connections, &shared.metrics);
        self.start_senders(shared, transport.clone(), intake, &events);
        self.start_templates(shared, template_watch, &events);
        self.start_upkeep(shared);
        self.start_gauges(shared, hashing.clone(), transport);
        self.start_lanes(shared, hashing, mail, events);
    }

    fn start_senders(&mut self, shared: &Shared, transport: Transport, intake: Intake, events: &Arc<Notify>) {
        let Shared { config, keys, templates, dkim, pool, database, broker, metrics, vitals, .. } = shared.clone();
        let relay = Relay {
            pool: pool.clone(),
            database: database.clone(),
            publisher: broker.publisher(),
            exchange: broker.topology().events_exchange(),
            keys: Arc::clone(&keys),
            woken: Arc::clone(events),
            pulse: vitals.pulse("event relay"),
        };
        let events = Arc::clone(events);
        let sender =
            Arc::new(Sender { config, keys, templates, pool, database, transport, dkim, events, metrics, vitals });
        self.senders.spawn("mail sender", sender.run(intake, self.senders.stop.clone()));
        self.others.spawn("event relay", relay.run(self.others.stop.clone()));
    }

    fn start_templates(&mut self, shared: &Shared, watch: Option<Watch>, events: &Arc<Notify>) {
        let Shared { config, keys, templates, pool, metrics, faults, vitals, .. } = shared.clone();
        let stop = self.others.stop.clone();
        let announced = TemplateEvents {
            faults: faults.subscribe(),
            config: Arc::clone(&config),
            keys,
            pool,
            woken: Arc::clone(events),
            pulse: vitals.pulse("template events"),
        };
        self.others.spawn("template events", announced.run(stop.clone()));
        if let Some(watch) = watch {
            let pulse = vitals.pulse("template watch");
            let watched = TemplateWatch { watch, config, templates, metrics, faults, pulse };
            self.others.spawn("template watch", watched.run(stop));
        }
    }

    fn start_upkeep(&mut self, shared: &Shared) {
        let Shared { config, keys, pool, database, metrics, vitals, .. } = shared.clone();
        let stop = self.others.stop.clone();
        let url = config.load().database.url.clone();
        let watching =
            watch_database(url, database.clone(), metrics.clone(), vitals.pulse("database watch"), stop.clone());
        self.others.spawn("database watch", watching);
        let upkeep = Upkeep { pool, database, config, keys, metrics };
        self.others.spawn("housekeeping", upkeep.clone().housekeeping(vitals.pulse("housekeeping"), stop.clone()));
        self.others.spawn("erasing", upkeep.erasing(vitals.pulse("erasing"), stop));
    }

    fn start_gauges(&mut self, shared: &Shared, hashing: HashPool, transport: Transport) {
        let Shared { pool, database, broker, metrics, vitals, .. } = shared.clone();
        let stop = self.others.stop.clone();
        let gauges = Arc::new(Gauges { pool, database, broker, hashing, transport, metrics });
        self.others.spawn("gauges", Arc::clone(&gauges).often(vitals.pulse("gauges"), stop.clone()));
        self.others.spawn("queue depths", gauges.seldom(vitals.pulse("queue depths"), stop));
    }

    fn start_lanes(&mut self, shared: &Shared, hashing: HashPool, mail: Handover, events: Arc<Notify>) {
        let Shared { config, keys, templates, pool, database, broker, metrics, vitals, .. } = shared.clone();
        let query_places = Arc::new(Semaphore::new((config.load().database.max_connections / 3).max(2)));
        let publisher = broker.publisher();
        let engine = Arc::new(Engine {
            config,
            keys,
            templates,
            pool,
            database,
            query_places,
            broker,
            publisher,
            hashing,
            mail,
            events,
            metrics,
            vitals,
        });
        let intake = self.lanes.stop.clone();
        for lane in Lane::ALL {
            self.lanes.spawn(lane.as_str(), lane::run(Arc::clone(&engine), lane, intake.clone()));
        }
        self.lanes.spawn("unknown", lane::run_unknown(engine, intake));
    }

    /// The name of a part that ended by itself; waits for ever while there is none.
    pub(super) async fn died(&mut self) -> String {
        tokio::select! {
            name = self.lanes.died() => name,
            name = self.senders.died() => name,
            name = self.others.died() => name,
        }
    }

    pub(super) async fn stop(&mut self, broker: Broker) {
        self.lanes.stop().await;
        self.senders.stop().await;
        self.others.stop().await;
        broker.close().await;
    }
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
