//! Runs commands together: one transaction for all of them, or one for each when that fails.

use std::collections::HashMap;

use diesel_async::{AsyncConnection, SimpleAsyncConnection};

use crate::commands::Lane;
use crate::commands::proofs::Proofs;
use crate::crash_point::crash_point;
use crate::ids::Ids;
use crate::metrics::EmailOutcome;
use crate::store::{self, inbox};
use crate::vitals::Pulse;
use crate::world::mailing::Begins;

use super::decide::{self, DecisionInputs};
use super::guard::{guarded, guarded_future};
use super::incoming::Incoming;
use super::reply::Answer;
use super::transaction::{Committed, Slot, Transaction, keys, late_answer, load, remembered_since};
use super::{Engine, Snapshot, rng};

/// How often proofs are worked out for one command: verify, hash anew, and once more if the hash changed meanwhile.
const MAX_ROUNDS: usize = 6;

/// How a command ended.
#[derive(Debug, Clone)]
pub enum Ended {
    /// With an answer.
    Answered(Answer),
    /// With the answer that it got before.
    Repeated(serde_json::Value),
    /// Unexpectedly: to be retried.
    Failed(String),
    /// Not yet: somebody else keeps locked what it needs.
    Postponed(String),
}

/// What running commands came to.
pub(super) struct Ran {
    /// How each ended. Where it did not, nothing was done and nothing may be acknowledged.
    pub(super) ended: Vec<Option<Ended>>,
    /// Why some did not end: the database is away.
    pub(super) away: Option<store::Error>,
}

/// Why a whole batch came to nothing.
pub(super) enum Abort {
    Store(store::Error),
    /// The decision of one command failed, or needs more proofs.
    Decision(String),
    Unproven,
}

impl From<store::Error> for Abort {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<diesel::result::Error> for Abort {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

/// How long a transaction waits for what somebody else has locked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// As every statement.
    AsConfigured,
    /// Others wait meanwhile.
    Short,
}

const SHORT: &str = "set local lock_timeout = '250ms'";

impl Engine {
    /// Runs commands; says of each how it ended.
    pub(super) async fn run_batch(&self, commands: &[&Incoming], pulse: &Pulse) -> Ran {
        let mut ran = Ran { ended: vec![None; commands.len()], away: None };
        // The same message twice in one batch: the second must see what the first was answered.
        let mut seen = HashMap::new();
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for (i, command) in commands.iter().enumerate() {
            if seen.insert(command.key, i).is_none() { first.push(i) } else { later.push(i) }
        }
        let together: Vec<&Incoming> = first.iter().map(|i| commands[*i]).collect();
        match self.attempt(&together, Patience::AsConfigured).await {
            Ok(done) => {
                for (i, end) in first.into_iter().zip(done) {
                    ran.ended[i] = Some(end);
                }
            }
            // Somebody's fault, or rows that somebody holds: found by running each alone.
            Err(abort) => match self.unusable(abort).await {
                Some(error) => return Ran { away: Some(error), ..ran },
                None => later = (0..commands.len()).collect(),
            },
        }
        for i in later {
            // Each alone may wait for locks: together they may take long, and that is no standstill.
            pulse.beat();
            match self.run_alone(commands[i]).await {
                Ok(end) => ran.ended[i] = Some(end),
                Err(error) => return Ran { away: Some(error), ..ran },
            }
        }
        ran
    }

    /// Why nothing at all can be done now, if that is what a failure means.
    async fn unusable(&self, abort: Abort) -> Option<store::Error> {
        match abort {
            Abort::Store(error) if error.is_unavailable() => self.of_one_command(error).await.err(),
            Abort::Store(store::Error::Locked(_)) => self.locked_table().await.err(),
            _ => None,
        }
    }

    /// Why one command fails where the database cannot do what it asks, and can do what others ask: a right is missing that few
    /// need, or a trigger fails.
    ///
    /// # Errors
    /// The error, if it concerns everybody.
    pub(super) async fn of_one_command(&self, error: store::Error) -> Result<String, store::Error> {
        if !error.is_of_something_missing() {
            return Err(error);
        }
        let Ok(mut connection) = self.pool.get().await else { return Err(error) };
        match store::health::is_prepared(&mut connection).await {
            Ok(true) => Ok(error.to_string()),
            Ok(false) | Err(_) => Err(error),
        }
    }

    /// Whether somebody has locked a whole table: then each command would wait in vain.
    ///
    /// # Errors
    /// [`store::Error::Unavailable`] if so, or if there is nobody to ask.
    pub(super) async fn locked_table(&self) -> Result<(), store::Error> {
        let mut connection = self.pool.get().await?;
        let held =
            store::locks::of_a_table(&mut connection).await.map_err(|e| store::Error::Unavailable(e.to_string()))?;
        held.map_or(Ok(()), |held| Err(store::Error::Unavailable(held)))
    }

    /// What a command was answered before, if it was.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn answered(&self, incoming: &Incoming) -> Result<Option<Ended>, store::Error> {
        let connection = self.pool.get().await?;
        let before = inbox::find(&connection, &[incoming.key], remembered_since(&self.config.load())).await?.answered;
        Ok(before.get(&incoming.key).map(|before| {
            let repeated = guarded("comparing it", || late_answer(incoming, before, &self.keys.load()));
            repeated.unwrap_or_else(|panicked| Ended::Failed(panicked.to_string()))
        }))
    }

    async fn run_alone(&self, command: &Incoming) -> Result<Ended, store::Error> {
        let mut last = String::new();
        for _ in 0..3 {
            match self.attempt(&[command], Patience::Short).await {
                Ok(mut done) => return Ok(done.pop().unwrap_or_else(|| Ended::Failed("no answer".to_owned()))),
                Err(Abort::Store(error @ store::Error::Unavailable(_))) => {
                    return self.of_one_command(error).await.map(Ended::Failed);
                }
                // Neighbours must not wait for it.
                Err(Abort::Store(error @ store::Error::Locked(_))) => return Ok(Ended::Postponed(error.to_string())),
                // Another daemon was first: now its work can be seen.
                Err(Abort::Store(error @ store::Error::Conflict(_))) => last = error.to_string(),
                Err(Abort::Store(error)) => return Ok(Ended::Failed(error.to_string())),
                Err(Abort::Decision(what)) => return Ok(Ended::Failed(what)),
                Err(Abort::Unproven) => "the password changed again and again meanwhile".clone_into(&mut last),
            }
        }
        Ok(Ended::Failed(last))
    }

    /// Runs them in one transaction. A connection on which a transaction is left open by a panic is not used again: the pool sees to it.
    async fn attempt(&self, commands: &[&Incoming], patience: Patience) -> Result<Vec<Ended>, Abort> {
        let done = guarded_future("carrying it out", self.try_together(commands, patience)).await;
        done.unwrap_or_else(|panicked| Err(Abort::Decision(panicked.to_string())))
    }

    async fn try_together(&self, commands: &[&Incoming], patience: Patience) -> Result<Vec<Ended>, Abort> {
        let snapshot = self.snapshot();
        let mut slots: Vec<Slot<'_>> =
            commands.iter().map(|incoming| Slot { incoming, proofs: Proofs::default() }).collect();
        let hashes = commands.iter().any(|c| c.spec.lane == Lane::Credentials);
        for _ in 0..MAX_ROUNDS {
            if hashes {
                self.rehearse(&mut slots, &snapshot).await?;
            }
            let reservation = self.mail.reserve(slots.len()).await;
            let mut connection = self.pool.get().await?;
            let result = connection
                .transaction::<_, Abort, _>(async |connection| {
                    if patience == Patience::Short {
                        connection.batch_execute(SHORT).await?;
                    }
                    let (slots, snapshot, mail) = (slots.as_mut_slice(), &snapshot, &self.mail);
                    Transaction { connection, slots, snapshot, mail, reservation }.run().await
                })
                .await;
            drop(connection);
            match result {
                Ok(committed) => return Ok(self.after_commit(committed)),
                Err(Abort::Unproven) => self.prove_all(&mut slots).await?,
                Err(abort) => return Err(abort),
            }
        }
        Err(Abort::Unproven)
    }

    /// Lets the decisions run on a snapshot, without locks, to learn which proofs they need; and works those out.
    async fn rehearse(&self, slots: &mut [Slot<'_>], snapshot: &Snapshot) -> Result<(), Abort> {
        for _ in 0..MAX_ROUNDS {
            let now = crate::clock::now();
            let connection = self.pool.get().await?;
            let since = remembered_since(&snapshot.config);
            let answered = inbox::find(&connection, &keys(slots), since).await?.answered;
            let mut world = load(&connection, slots, false, now).await?;
            drop(connection);
            let (mut rng, mut ids) = (rng(), Ids::default());
            let mut inputs = DecisionInputs { env: snapshot.environment(), now, rng: &mut rng, ids: &mut ids };
            for slot in slots.iter_mut().filter(|slot| !answered.contains_key(&slot.incoming.key)) {
                // What it decides here is thrown away; only what it asked for counts.
                decide::decide(slot.incoming, &mut world, &mut slot.proofs, &mut inputs);
            }
            if slots.iter().all(|slot| slot.proofs.missing.is_empty()) {
                return Ok(());
            }
            self.prove_all(slots).await?;
        }
        Ok(())
    }

    async fn prove_all(&self, slots: &mut [Slot<'_>]) -> Result<(), Abort> {
        let proving = slots.iter_mut().filter(|s| !s.proofs.missing.is_empty()).map(|s| self.prove(&mut s.proofs));
        for result in futures_util::future::join_all(proving).await {
            result.map_err(|e| Abort::Decision(e.to_string()))?;
        }
        Ok(())
    }

    /// Hands over what must happen now that it is true.
    fn after_commit(&self, committed: Committed) -> Vec<Ended> {
        crash_point("after the commit");
        let waiting = committed.world.emails.iter().filter(|mail| mail.begins == Begins::Queued);
        self.mail.hand_over(waiting.map(|mail| (mail.id, mail.to.as_str())));
        self.mail.begin(committed.begun);
        for mail in &committed.world.emails {
            match mail.begins {
                Begins::Queued | Begins::Begun => {}
                Begins::Cancelled => self.metrics.email(mail.template.as_str(), EmailOutcome::Cancelled),
                Begins::Suppressed => self.metrics.email(mail.template.as_str(), EmailOutcome::Suppressed),
            }
        }
        for template in &committed.cancelled {
            self.metrics.email(template, EmailOutcome::Cancelled);
        }
        if !committed.world.events.is_empty() {
            self.events.notify_one();
        }
        super::observe::committed(&self.metrics, &committed.world, committed.now);
        committed.ended
    }
}
