//! Password proofs: worked out on the hashing pool before a batch's transaction begins.

use futures_util::future::try_join_all;

use crate::commands::proofs::{BlocklistError, Job, Proof, Proofs, Verified, is_blocklisted};
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
        let jobs = std::mem::take(&mut proofs.missing).into_iter();
        for proof in try_join_all(jobs.map(|job| self.work(job))).await? {
            proofs.add(proof);
        }
        Ok(())
    }

    async fn work(&self, job: Job) -> Result<Proof, ProofError> {
        Ok(match job {
            Job::Verify(which, password, stored) => {
                let found = match self.hashing.verify(password.clone(), &stored).await {
                    Ok(found) => Verified { matches: found.matches, outdated: found.outdated },
                    // A damaged or foreign hash opens nothing, but must not keep its owner from a reset.
                    Err(error @ (HashError::Stored(_) | HashError::PepperMissing(_))) => {
                        tracing::warn!(%error, "a stored password hash cannot be verified");
                        self.hashing.verify_dummy(password).await?;
                        Verified { matches: false, outdated: false }
                    }
                    Err(error) => return Err(error.into()),
                };
                Proof::Verified(which, stored, found)
            }
            Job::Hash(which, password) => Proof::Hashed(which, self.hashing.hash(password).await?),
            Job::Pretend(password) => {
                self.hashing.verify_dummy(password).await?;
                Proof::Pretended
            }
            Job::Judge(judging) => {
                let blocklisted = is_blocklisted(judging.blocklist.as_deref(), &judging.password).await?;
                let (user, password) = (judging.profile.id.clone(), judging.password.clone());
                let verdict = self.hashing.hash_if(password, move |_| judging.verdict(blocklisted)).await?;
                Proof::Judged(user, verdict)
            }
        })
    }
}
