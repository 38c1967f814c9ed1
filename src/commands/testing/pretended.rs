//! Proofs of passwords without the work.

use std::collections::BTreeSet;

use secrecy::ExposeSecret;

use crate::commands::proofs::{Job, Proof, Proofs, Verified};

/// Stands for Argon2: what matters here is which hash was made of what.
pub(super) fn hash(password: &str) -> String {
    format!("hash of {password}")
}

/// A hash that was made with other parameters.
fn outdated_hash(password: &str) -> String {
    format!("old {}", hash(password))
}

/// Does what a decision asked for; says what that was.
pub(super) fn prove(proofs: &mut Proofs, blocklist: &BTreeSet<String>) -> Vec<&'static str> {
    let jobs = std::mem::take(&mut proofs.missing).into_iter();
    jobs.map(|job| {
        let (work, proof) = match job {
            Job::Verify(which, password, stored) => {
                let outdated = stored == outdated_hash(password.expose_secret());
                let matches = outdated || stored == hash(password.expose_secret());
                ("verify", Proof::Verified(which, stored, Verified { matches, outdated }))
            }
            Job::Hash(which, password) => ("hash", Proof::Hashed(which, hash(password.expose_secret()))),
            Job::Pretend(_) => ("pretend", Proof::Pretended),
            Job::Judge(judging) => {
                let password = judging.password.expose_secret();
                let blocklisted = judging.blocklist.is_some() && blocklist.contains(password);
                let verdict = judging.verdict(blocklisted).map(|()| hash(password));
                let work = if verdict.is_ok() { "hash" } else { "judge" };
                (work, Proof::Judged(judging.profile.id.clone(), verdict))
            }
        };
        proofs.add(proof);
        work
    })
    .collect()
}
