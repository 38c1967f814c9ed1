//! Password proofs: worked out on the hashing pool before a batch's transaction begins.

use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use secrecy::{ExposeSecret, SecretString};

use crate::commands::proofs::{Job, Proofs, Verified};
use crate::domain::blocklist;
use crate::hashing::HashError;

use super::Engine;

/// Why a proof could not be worked out.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The hashing pool failed.
    #[error(transparent)]
    Hashing(#[from] HashError),
    /// The blocklist could not be read.
    #[error("password.policy.blocklist_file {path}: {reason}")]
    Blocklist {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: std::io::Error,
    },
}

impl Engine {
    /// Works out what is missing, all jobs side by side.
    pub(super) async fn prove(&self, proofs: &mut Proofs) -> Result<(), ProofError> {
        let jobs = std::mem::take(&mut proofs.missing);
        let blocklist = self.config.load().password.policy.blocklist_file.clone();
        let done = join_all(jobs.iter().map(|job| self.work(job, blocklist.as_deref()))).await;
        for (job, result) in jobs.into_iter().zip(done) {
            match (job, result?) {
                (Job::Verify(which, _, stored), Proof::Verified(verified)) => {
                    proofs.verified.insert((which, stored), verified);
                }
                (Job::Hash(which, _), Proof::Hash(hash)) => {
                    proofs.hashed.insert(which, hash);
                }
                (Job::Pretend(_), _) => proofs.pretended = true,
                (Job::Blocklist(_), Proof::Blocklisted(found)) => proofs.blocklisted = Some(found),
                _ => {}
            }
        }
        Ok(())
    }

    async fn work(&self, job: &Job, blocklist: Option<&Path>) -> Result<Proof, ProofError> {
        Ok(match job {
            Job::Verify(_, password, stored) => match self.hashing.verify(password.clone(), stored).await {
                Ok(found) => Proof::Verified(Verified { matches: found.matches, outdated: found.outdated }),
                // A damaged or foreign hash opens nothing, but must not keep its owner from a reset.
                Err(error @ (HashError::Stored(_) | HashError::PepperMissing(_))) => {
                    tracing::warn!(%error, "a stored password hash cannot be verified");
                    self.hashing.verify_dummy(password.clone()).await?;
                    Proof::Verified(Verified { matches: false, outdated: false })
                }
                Err(error) => return Err(error.into()),
            },
            Job::Hash(_, password) => Proof::Hash(self.hashing.hash(password.clone()).await?),
            Job::Pretend(password) => {
                self.hashing.verify_dummy(password.clone()).await?;
                Proof::Nothing
            }
            Job::Blocklist(password) => match blocklist {
                None => Proof::Blocklisted(false),
                Some(path) => Proof::Blocklisted(look_up(path.to_owned(), password.clone()).await?),
            },
        })
    }
}

enum Proof {
    Verified(Verified),
    Hash(String),
    Blocklisted(bool),
    Nothing,
}

async fn look_up(path: PathBuf, password: SecretString) -> Result<bool, ProofError> {
    let file = path.clone();
    let found = tokio::task::spawn_blocking(move || blocklist::contains(&file, password.expose_secret())).await;
    found
        .unwrap_or_else(|_| Err(std::io::Error::other("the look-up panicked")))
        .map_err(|reason| ProofError::Blocklist { path, reason })
}
