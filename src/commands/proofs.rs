//! Expensive facts about passwords, found out before a decision and outside of any transaction.
//!
//! A decision asks for a proof; if it is not there, the decision stops with [`Stop::Unproven`](super::Stop), the engine works the
//! missing proofs out on the hashing pool and runs the decision again. So each rule is written once, as if hashing cost
//! nothing, and a hash that changed in between is simply proven anew.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::domain::account::Profile;
use crate::domain::policy::{Personal, Policy, Violation};
use crate::hashing::blocklist;

/// Which of a command's passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Which {
    /// The one that proves who it is.
    Given,
    /// The one to be set.
    New,
}

/// One piece of work for the hashing pool.
#[derive(Debug, Clone)]
pub enum Job {
    /// Whether a password belongs to a stored hash.
    Verify(Which, SecretString, String),
    /// As much work as a verification, for people who do not exist.
    Pretend(SecretString),
    /// A password's hash.
    Hash(Which, SecretString),
    /// Whether a new password keeps the policy, and its hash if so.
    Judge(Box<Judging>),
}

/// A new password, and all that the policy needs to judge it.
#[derive(Debug, Clone)]
pub struct Judging {
    /// The password.
    pub password: SecretString,
    /// The rules.
    pub policy: Policy,
    /// The list of passwords that are refused, if there is one.
    pub blocklist: Option<PathBuf>,
    /// Whose it would be.
    pub profile: Profile,
    /// What the person's site is called.
    pub site_name: String,
}

impl Judging {
    /// Accepts it, or says every rule that it breaks.
    ///
    /// # Errors
    /// The rules that it breaks.
    pub fn verdict(&self, blocklisted: bool) -> Result<(), Vec<Violation>> {
        let (password, personal) = (self.password.expose_secret(), personal(&self.profile));
        let violations = self.policy.violations(password, &personal, &self.site_name, blocklisted);
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }
}

/// What somebody's own passwords must not hold.
pub fn personal(profile: &Profile) -> Personal<'_> {
    Personal {
        username: &profile.username,
        email: &profile.email,
        display_name: profile.display_name.as_deref().unwrap_or_default(),
    }
}

/// What a verification found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The password belongs to the hash.
    pub matches: bool,
    /// The hash was made with other parameters than today's.
    pub outdated: bool,
}

/// What a job has found out.
pub enum Proof {
    /// Of this password and stored hash.
    Verified(Which, String, Verified),
    /// The work was done.
    Pretended,
    /// This password's hash.
    Hashed(Which, String),
    /// Of the new password of the person with this id: its hash, or the rules that it breaks.
    Judged(String, Result<String, Vec<Violation>>),
}

/// The proofs that one command has gathered so far, and those it still needs.
#[derive(Debug, Default)]
pub struct Proofs {
    /// By password and stored hash.
    pub verified: HashMap<(Which, String), Verified>,
    /// New hashes.
    pub hashed: HashMap<Which, String>,
    /// Whether the work for an unknown person was done.
    pub pretended: bool,
    /// Of a person's new password: its hash, or the rules that it breaks.
    pub judged: HashMap<String, Result<String, Vec<Violation>>>,
    /// The temporary password that the command made: the hash above belongs to it.
    pub made: Option<SecretString>,
    /// What is missing.
    pub missing: Vec<Job>,
}

impl Proofs {
    /// Adds one.
    pub fn add(&mut self, proof: Proof) {
        match proof {
            Proof::Verified(which, stored, found) => drop(self.verified.insert((which, stored), found)),
            Proof::Pretended => self.pretended = true,
            Proof::Hashed(which, hash) => drop(self.hashed.insert(which, hash)),
            Proof::Judged(user, verdict) => drop(self.judged.insert(user, verdict)),
        }
    }
}

/// The blocklist could not be read.
#[derive(Debug, thiserror::Error)]
#[error("password.policy.blocklist_file {path}: {reason}")]
pub struct BlocklistError {
    path: PathBuf,
    reason: std::io::Error,
}

/// Whether a password is on the blocklist, if there is one. The file is read on a thread that may wait.
///
/// # Errors
/// When the file cannot be read.
pub async fn is_blocklisted(list: Option<&Path>, password: &SecretString) -> Result<bool, BlocklistError> {
    let Some(path) = list else { return Ok(false) };
    let (file, password) = (path.to_owned(), password.clone());
    let found = tokio::task::spawn_blocking(move || blocklist::contains(&file, password.expose_secret())).await;
    found
        .unwrap_or_else(|_| Err(std::io::Error::other("the look-up panicked")))
        .map_err(|reason| BlocklistError { path: path.to_owned(), reason })
}
