//! Password hashing: Argon2id (RFC 9106) on a fixed number of threads.
//!
//! A hash costs tens of milliseconds of CPU and tens of MiB, so it never runs on a thread that serves messages: a job goes
//! into a bounded queue, first come first served, and each thread keeps its memory from one job to the next (allocating it
//! anew costs half as much again as the hash itself) until there has been none for a while.
//!
//! Our own hashes are PHC strings; others, made elsewhere and imported, are verified as they are (`formats`) and replaced at
//! the next sign-in. With a pepper, its id stands in the string's `keyid` parameter, so that hashes made before a
//! pepper was added, or with an older one, still verify; `keyid` is the base64 of the id's bytes, and is missing without a pepper:
//! `$argon2id$v=19$m=19456,t=2,p=1,keyid=a2V5cGVwcGU$<salt>$<hash>`.

pub mod blocklist;
mod formats;
mod memory;
mod pool;
mod thread_priority;
#[cfg(test)]
mod vectors;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretSlice;

pub use formats::{HashKind, ImportError, Limits, check_importable};
pub use pool::HashPool;

/// Told how long each hash or verification took on its thread, waiting not counted.
pub type Observer = Arc<dyn Fn(Duration) + Send + Sync>;

/// How passwords are hashed.
#[derive(Clone)]
pub struct Options {
    /// Memory of a hash in KiB (Argon2's `m`).
    pub memory_kib: u32,
    /// Passes over the memory (Argon2's `t`).
    pub time_cost: u32,
    /// Lanes (Argon2's `p`). They are worked on one after the other: what runs at the same time is hashes.
    pub parallelism: u32,
    /// Threads; 0 means as many as the machine has cores.
    pub threads: usize,
    /// Jobs that may wait. Who comes then waits for a place.
    pub queue: usize,
    /// The first one that is not on standby goes into new hashes; the others verify older hashes.
    pub peppers: Vec<Pepper>,
    /// What hashes that were made elsewhere may cost.
    pub limits: Limits,
    /// Where durations are counted.
    pub observer: Option<Observer>,
}

impl Default for Options {
    /// The first choice of the OWASP password storage cheat sheet: 19 MiB, 2 passes, 1 lane.
    fn default() -> Self {
        Self {
            memory_kib: 19_456,
            time_cost: 2,
            parallelism: 1,
            threads: 0,
            queue: 1024,
            peppers: Vec::new(),
            limits: Limits::default(),
            observer: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("memory_kib", &self.memory_kib)
            .field("time_cost", &self.time_cost)
            .field("parallelism", &self.parallelism)
            .field("threads", &self.threads)
            .field("queue", &self.queue)
            .field("peppers", &self.peppers)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A secret that goes into every hash and is not in the database (RFC 9106, section 3.1: the secret value K).
#[derive(Clone)]
pub struct Pepper {
    id: String,
    secret: SecretSlice<u8>,
    standby: bool,
}

impl Pepper {
    /// `id` has at most 8 bytes: what the `keyid` of a PHC string may hold.
    pub fn new(id: &str, secret: &[u8]) -> Self {
        Self { id: id.to_owned(), secret: secret.to_vec().into(), standby: false }
    }

    /// The same, known but not yet used for new hashes: other daemons that share the database may not have it.
    #[must_use]
    pub fn on_standby(self, standby: bool) -> Self {
        Self { standby, ..self }
    }

    /// What hashes name it by.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pepper").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a verification found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verification {
    /// Whether it is the password.
    pub matches: bool,
    /// Whether the stored hash is of another algorithm, version, cost or pepper than new ones: time to hash again.
    pub outdated: bool,
}

/// Why a password cannot be hashed or verified. None of these says anything about the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The configured costs are outside of what Argon2 allows.
    #[error("password.hashing: {0}")]
    Options(String),
    /// The operating system gave no thread.
    #[error("cannot start a thread for password hashing: {0}")]
    Thread(String),
    /// The stored hash is damaged, or of a kind or cost that is not accepted.
    #[error("the stored password hash cannot be used: {0}")]
    Stored(ImportError),
    /// The pepper that the stored hash was made with is not in the key file.
    #[error(
        "the stored password hash was made with pepper {0:?}, which is not in the key file: put it back, or have the person reset their password"
    )]
    PepperMissing(String),
    /// The operating system gave no random salt, or the thread failed in the middle.
    #[error("password hashing failed: {0}")]
    Failed(&'static str),
}
