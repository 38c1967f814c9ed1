//! The commands: one file each, with its body, its permission, its decision and its tests. [`ALL`] is the one list of them
//! (`registry.rs`); `pace.rs` says when an answer leaves, `secret_fields.rs` which fields hold secrets.
//!
//! A command that changes something implements [`Command`]: a pure decision on loaded accounts. A read-only one
//! implements [`query::Query`]. The engine in [`crate::lane`] knows neither by name.

pub mod body;
pub mod context;
pub mod credentials;
pub mod document;
pub mod email;
pub mod history;
pub mod invite;
pub mod mail_request;
pub mod password;
pub mod proofs;
pub mod query;
pub mod session;
pub mod tokens;
pub mod user;

#[cfg(test)]
mod authorization_tests;
mod daemon;
mod fingerprint;
mod handle;
#[cfg(test)]
mod invariant_tests;
mod pace;
mod registry;
mod secret_fields;
#[cfg(test)]
pub mod testing;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::access::Audience;
use crate::domain::rejection::{Outcome, Rejection};
use crate::keys::KeyRing;
use crate::metrics::Metrics;
use crate::world::{Wants, World};

use body::Client;
use context::Context;

pub use pace::Asked;
pub use registry::{ALL, Invalid, Parse, Parsed, Ready, Spec, Unopened, find, names, nearest};
pub use secret_fields::{SECRET_FIELDS, SECRET_NAMES, is_secret_name};

/// The queue that a command waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Only state and mail.
    State,
    /// Hashes or checks a password.
    Credentials,
    /// Read-only.
    Queries,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 3] = [Self::State, Self::Credentials, Self::Queries];

    /// The last part of the queue's name, and the metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Credentials => "credentials",
            Self::Queries => "queries",
        }
    }
}

/// What a command is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// `result`.
    pub result: Map<String, Value>,
    /// Fields of `result` that are told once and never recorded.
    pub secrets: &'static [&'static str],
}

impl Reply {
    /// A reply of these fields.
    ///
    /// # Panics
    /// When `answer` is anything but a struct or a map: a bug, as any panic in a decision is one.
    pub fn of(answer: impl Serialize) -> Self {
        Self { result: fields_of(answer), secrets: &[] }
    }
}

/// The fields of a struct.
fn fields_of(value: impl Serialize) -> Map<String, Value> {
    let written = serde_json::to_value(value).expect("text, numbers and lists of them can be written as JSON");
    let Value::Object(fields) = written else { panic!("what has fields is written as an object") };
    fields
}

/// Why a decision did not end in a reply.
#[derive(Debug)]
pub enum Stop {
    /// A rule refuses it.
    Rejected(Rejection),
    /// A rule refuses it, and these details are told once and never recorded.
    RejectedWithSecret(Rejection, &'static [&'static str]),
    /// Proofs about passwords are needed first.
    Unproven,
    /// The daemon contradicts itself: the command is tried again later.
    Bug(&'static str),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// A command that changes something.
///
/// `decide` runs more than once: first on a snapshot, to learn which password proofs it needs, and last on locked
/// accounts, inside the transaction. Before it refuses, it must have changed nothing but what a refusal is meant to
/// leave behind (counters of wrong tries).
pub trait Command: DeserializeOwned + Send + Sync + 'static {
    /// The routing key.
    const NAME: &'static str;
    /// The queue.
    const LANE: Lane;
    /// Who may send it.
    const AUDIENCE: Audience;
    /// Fields that may be sealed, and must be if `secrets.require_sealed` is set.
    const SECRETS: &'static [&'static str] = &[];

    /// What must be loaded before it can decide.
    fn wants(&self, wants: &mut Wants, keys: &KeyRing);

    /// Keys of the limits that it falls under, once the people are known.
    fn limits(&self, _client: &Client, _world: &World, _keys: &KeyRing) -> Vec<Uuid> {
        Vec::new()
    }

    /// Decides.
    ///
    /// # Errors
    /// [`Stop`].
    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop>;

    /// For answers whose moment would tell what their words do not, such as whether a name is known: they leave so long after
    /// the command's arrival, or a multiple of it. Zero for all others: they leave at once.
    fn pace(&self, _asked: Asked<'_>) -> Duration {
        Duration::ZERO
    }

    /// Counts how one ended, where the metrics of every command do not tell enough.
    fn observe(_outcome: Outcome, _metrics: &Metrics) {}
}

/// A [`Command`] behind a pointer.
pub trait Decide: Send + Sync {
    /// As [`Command::wants`].
    fn wants(&self, wants: &mut Wants, keys: &KeyRing);
    /// As [`Command::limits`].
    fn limits(&self, client: &Client, world: &World, keys: &KeyRing) -> Vec<Uuid>;
    /// As [`Command::decide`].
    ///
    /// # Errors
    /// As there.
    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop>;
    /// As [`Command::pace`].
    fn pace(&self, asked: Asked<'_>) -> Duration;
}

impl<C: Command> Decide for C {
    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        Command::wants(self, wants, keys);
    }
    fn limits(&self, client: &Client, world: &World, keys: &KeyRing) -> Vec<Uuid> {
        Command::limits(self, client, world, keys)
    }
    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        Command::decide(self, cx)
    }
    fn pace(&self, asked: Asked<'_>) -> Duration {
        Command::pace(self, asked)
    }
}
