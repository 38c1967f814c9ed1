//! `[password.hashing]` and `[password.policy]`: how passwords are kept, and which are good enough.

use std::io::Read as _;
use std::path::PathBuf;

use super::{
    Problems,
    visit::{Section, Visitor},
};

/// The longest password there can be, in characters.
pub const MAX_PASSWORD_LENGTH: u32 = 256;

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
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own, switched by its own key")]
pub struct Policy {
    /// The shortest length in characters, from 1. Default 12.
    pub min_length: u32,
    /// The longest length in characters, up to 256. Default 256.
    pub max_length: u32,
    /// A capital letter. Default true.
    pub require_uppercase: bool,
    /// A small letter. Default true.
    pub require_lowercase: bool,
    /// A digit. Default true.
    pub require_digit: bool,
    /// A character that is neither letter nor digit. Default true.
    pub require_special: bool,
    /// At least this zxcvbn score: 0 (anything) to 4 (very hard to guess). Default 2.
    pub min_strength: u8,
    /// Nothing of the person's own names and addresses. Default true.
    pub forbid_personal: bool,
    /// How many of the latest passwords, including the present one, may not be used again; 0 to 24. Default 3.
    pub history: u32,
    /// None of those in this file: one a line, or sorted SHA-1 sums; relative to the working directory. Default: none.
    pub blocklist_file: Option<PathBuf>,
}

impl Default for Hashing {
    fn default() -> Self {
        Self { memory_kib: 19_456, time_cost: 2, parallelism: 1, threads: 0 }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_length: 12,
            max_length: MAX_PASSWORD_LENGTH,
            require_uppercase: true,
            require_lowercase: true,
            require_digit: true,
            require_special: true,
            min_strength: 2,
            forbid_personal: true,
            history: 3,
            blocklist_file: None,
        }
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
        visitor.field("min_length", &mut self.min_length);
        visitor.field("max_length", &mut self.max_length);
        visitor.field("require_uppercase", &mut self.require_uppercase);
        visitor.field("require_lowercase", &mut self.require_lowercase);
        visitor.field("require_digit", &mut self.require_digit);
        visitor.field("require_special", &mut self.require_special);
        visitor.field("min_strength", &mut self.min_strength);
        visitor.field("forbid_personal", &mut self.forbid_personal);
        visitor.field("history", &mut self.history);
        visitor.field("blocklist_file", &mut self.blocklist_file);
    }
}

impl Policy {
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
        let policy = &self.policy;
        problems.range(policy.max_length, 1..=MAX_PASSWORD_LENGTH, "password.policy.max_length");
        let most = policy.max_length.clamp(1, MAX_PASSWORD_LENGTH);
        let (shortest, key) = (policy.min_length, "password.policy.min_length");
        if shortest > most && !problems.origins.contains_key(key) {
            let reason = format!("{most} is less than `{key}`, which is {shortest} unless it is set, too");
            problems.wrong("password.policy.max_length", reason);
        } else {
            problems.range(shortest, 1..=most, key);
        }
        problems.range(policy.min_strength, 0..=4, "password.policy.min_strength");
        problems.range(policy.history, 0..=24, "password.policy.history");
    }
}
