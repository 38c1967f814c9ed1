//! The engine: deliveries in, decisions made, everything written in one transaction, replies and acknowledgements out.
//! It names no command.
//!
//! `consume` waits for deliveries, hands what is there to a free worker and acknowledges; `process` says what becomes of each;
//! `incoming` reads a message's envelope and body; `turns` lets batches about the same
//! people work one after the other; `batch` runs commands together, `transaction` is what happens in their transaction; `begin` lets the
//! attempts of their mails begin with it; `prove` works out password proofs before it; `decide` runs one decision; `query`
//! answers what only reads; `guard` makes a panic the failure of one message; `conclude` answers what has ended or puts it aside;
//! `refuse` makes dead letters and retries; `reply` writes answers; `delayed_replies`
//! keeps those back whose moment would tell something; `settle` acknowledges; `backoff` is what a lane does while the database fails;
//! `command_log` is the log's line about each delivery; `dead_letter` is one as operators see it.

mod backoff;
mod batch;
mod begin;
mod command_log;
mod conclude;
mod consume;
pub mod dead_letter;
mod decide;
mod delayed_replies;
mod guard;
mod incoming;
mod observe;
mod process;
mod prove;
mod query;
mod redact;
mod refuse;
mod reply;
mod settle;
mod transaction;
mod turns;

use std::sync::Arc;

use arc_swap::ArcSwap;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Notify, Semaphore};

use crate::broker::{Broker, Publisher};
use crate::commands::context::Environment;
use crate::config::Config;
use crate::hashing::HashPool;
use crate::keys::KeyRing;
use crate::mail::catalogue::Template;
use crate::mail::render::TemplateSet;
use crate::mail::sender::Handover;
use crate::metrics::Metrics;
use crate::store::Pool;
use crate::store::health::Health;
use crate::vitals::Vitals;

pub use consume::{run, run_unknown};

/// Everything that lanes share.
pub struct Engine {
    /// The configuration; a reload replaces it.
    pub config: Arc<ArcSwap<Config>>,
    /// The keys; a reload replaces them.
    pub keys: Arc<ArcSwap<KeyRing>>,
    /// The templates; a reload replaces them.
    pub templates: Arc<ArcSwap<TemplateSet>>,
    /// The database.
    pub pool: Pool,
    /// Whether the database answers.
    pub database: Health,
    /// Connections that queries may hold together, so that they never starve the other lanes.
    pub query_places: Arc<Semaphore>,
    /// The broker.
    pub broker: Broker,
    /// For replies, dead letters and retries.
    pub publisher: Publisher,
    /// Threads that hash.
    pub hashing: HashPool,
    /// Where committed mail is handed over.
    pub mail: Handover,
    /// Wakes the relay of events.
    pub events: Arc<Notify>,
    /// The metrics.
    pub metrics: Metrics,
    /// Where workers show that they run.
    pub vitals: Vitals,
}

/// Whether a template is switched on for a site and language.
type Enabled = dyn Fn(Template, &str, Option<&str>) -> bool + Send + Sync;

/// What one batch sees of configuration and templates: the same from beginning to end.
struct Snapshot {
    config: Arc<Config>,
    keys: Arc<KeyRing>,
    enabled: Box<Enabled>,
}

impl Engine {
    fn snapshot(&self) -> Snapshot {
        let templates = self.templates.load_full();
        Snapshot {
            config: self.config.load_full(),
            keys: self.keys.load_full(),
            enabled: Box::new(move |template, site, locale| templates.enabled(template, site, locale)),
        }
    }
}

impl Snapshot {
    fn environment(&self) -> Environment<'_> {
        Environment { config: &self.config, keys: &self.keys, template_enabled: &*self.enabled }
    }
}

/// Randomness for a batch.
fn rng() -> StdRng {
    StdRng::from_rng(&mut thread_rng())
}

#[expect(clippy::disallowed_methods, reason = "the seed of a batch's randomness comes from the operating system")]
fn thread_rng() -> rand::rngs::ThreadRng {
    rand::rng()
}
