//! Expensive facts about passwords, found out before a decision and outside of any transaction.
//!
//! A decision asks for a proof; if it is not there, the decision stops with [`Stop::Unproven`](super::Stop), the engine works the
//! missing proofs out on the hashing pool and runs the decision again. So each rule is written once, as if hashing cost
//! nothing, and a hash that changed in between is simply proven anew.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::domain::policy::Violation;
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
    /// Whether a password is on the blocklist.
    Blocklist(SecretString),
}

/// What a verification found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The password belongs to the hash.
    pub matches: bool,
    /// The hash was made with other parameters than today's.
    pub outdated: bool,
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
    /// Whether the new password is on the blocklist.
    pub blocklisted: Option<bool>,
    /// The policy's verdict for a person, which costs milliseconds: kept for the second run.
    pub judged: HashMap<String, Vec<Violation>>,
    /// The temporary password that the command made: the hash above belongs to it.
    pub made: Option<SecretString>,
    /// What is missing.
    pub missing: Vec<Job>,
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
