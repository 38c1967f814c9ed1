//! Password proofs: worked out on the hashing pool before a batch's transaction begins.

use std::path::Path;

use futures_util::future::join_all;

use crate::commands::proofs::{self, BlocklistError, Job, Proofs, Verified};
use crate::hashing::HashError;

use super::Engine;

/// Why a proof could not be worked out.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The hashing pool failed.
    #[error(transparent)]
    Hashing(#[from] HashError),
    /// The blocklist could not be read.
    #[error(transparent)]
    Blocklist(#[from] BlocklistError),
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
            Job::Blocklist(password) => Proof::Blocklisted(proofs::is_blocklisted(blocklist, password).await?),
        })
    }
}

enum Proof {
    Verified(Verified),
    Hash(String),
    Blocklisted(bool),
    Nothing,
}
