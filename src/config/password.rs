//! `[password.hashing]` and `[password.policy]`: how passwords are kept, and which are good enough.

use std::io::Read as _;
use std::path::PathBuf;

use crate::domain::policy::{self, Described};

use super::{
    Problems,
    visit::{Section, Visitor},
};

/// `[password]`: two tables.
#[derive(Clone, Debug, Default)]
pub struct Password {
    /// `[password.hashing]`
    pub hashing: Hashing,
    /// `[password.policy]`
    pub policy: Policy,
}

/// `[password.hashing]`: Argon2id (RFC 9106). Stored hashes are made again at sign-in when this changes.
#[derive(Clone, Debug)]
pub struct Hashing {
    /// Memory in KiB, 8 × `parallelism` to 1048576 (1 GiB). Default 19456.
    pub memory_kib: u32,
    /// Passes, 1 to 100. Default 2.
    pub time_cost: u32,
    /// Lanes, 1 to 64. Default 1.
    pub parallelism: u32,
    /// Passwords hashed in parallel, up to 1024; 0 = one per core. Default 0.
    pub threads: usize,
}

/// `[password.policy]`: what a new password must be.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The keys that are rules by themselves, with the defaults of [`policy::Policy`].
    pub rules: policy::Policy,
    /// None of those in this file: one a line, or sorted SHA-1 sums; relative to the working directory. Default: none.
    pub blocklist_file: Option<PathBuf>,
}

impl Default for Hashing {
    fn default() -> Self {
        Self { memory_kib: 19_456, time_cost: 2, parallelism: 1, threads: 0 }
    }
}

impl Section for Password {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.section("hashing", &mut self.hashing);
        visitor.section("policy", &mut self.policy);
    }
}

impl Section for Hashing {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("memory_kib", &mut self.memory_kib);
        visitor.field("time_cost", &mut self.time_cost);
        visitor.field("parallelism", &mut self.parallelism);
        visitor.field("threads", &mut self.threads);
    }
}

impl Section for Policy {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        let rules = &mut self.rules;
        visitor.field("min_length", &mut rules.min_length);
        visitor.field("max_length", &mut rules.max_length);
        visitor.field("require_uppercase", &mut rules.require_uppercase);
        visitor.field("require_lowercase", &mut rules.require_lowercase);
        visitor.field("require_digit", &mut rules.require_digit);
        visitor.field("require_special", &mut rules.require_special);
        visitor.field("min_strength", &mut rules.min_strength);
        visitor.field("forbid_personal", &mut rules.forbid_personal);
        visitor.field("history", &mut rules.history);
        visitor.field("blocklist_file", &mut self.blocklist_file);
    }
}

impl Policy {
    /// The policy for clients.
    pub fn describe(&self) -> Described {
        self.rules.describe(self.blocklist_file.is_some())
    }

    /// A list that cannot be read would fail every new password.
    pub(super) fn missing(&self, problems: &mut Problems) {
        if let Some(path) = &self.blocklist_file
            && let Err(error) = std::fs::File::open(path).and_then(|mut file| file.read(&mut [0]))
        {
            let reason = format!("cannot read {}: {error}; put the list there, or leave the key out", path.display());
            problems.check(false, "password.policy.blocklist_file", reason);
        }
    }
}

impl Password {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let hashing = &self.hashing;
        problems.range(hashing.time_cost, 1..=100, "password.hashing.time_cost");
        problems.range(hashing.parallelism, 1..=64, "password.hashing.parallelism");
        // RFC 9106 3.1: at least 8 blocks of 1 KiB a lane.
        let least = 8 * hashing.parallelism.clamp(1, 64);
        problems.range(hashing.memory_kib, least..=1_048_576, "password.hashing.memory_kib");
        problems.range(hashing.threads, 0..=1024, "password.hashing.threads");
        let rules = &self.policy.rules;
        problems.range(rules.max_length, 1..=policy::MAX_LENGTH, "password.policy.max_length");
        let most = rules.max_length.clamp(1, policy::MAX_LENGTH);
        let (shortest, key) = (rules.min_length, "password.policy.min_length");
        if shortest > most && !problems.origins.contains_key(key) {
            let reason = format!("{most} is less than `{key}`, which is {shortest} unless it is set, too");
            problems.wrong("password.policy.max_length", reason);
        } else {
            problems.range(shortest, 1..=most, key);
        }
        problems.range(rules.min_strength, 0..=4, "password.policy.min_strength");
        problems.range(rules.history, 0..=24, "password.policy.history");
    }
}
