//! Runs commands together: one transaction for all of them, or one for each when that fails.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use rand::SeedableRng;
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::commands::proofs::Proofs;
use crate::config::Config;
use crate::crash_point::crash_point;
use crate::domain::rejection::{Code, Outcome, Rejection};
use crate::ids::Ids;
use crate::keys::KeyRing;
use crate::mail::sender::{Claimed, Handover, LEASE, Reservation};
use crate::metrics::EmailOutcome;
use crate::store::inbox::{self, Answered, Found};
use crate::store::world::{self, Record};
use crate::store::{self, erasure};
use crate::vitals::Pulse;
use crate::world::NewActivity;
use crate::world::mailing::Begins;
use crate::world::{Wants, World};

use super::begin::{begin, tell_suppressed};
use super::decide::{self, Decided, DecisionInputs};
use super::guard::{guarded, guarded_future};
use super::incoming::Incoming;
use super::reply::{self, Answer};
use super::{Engine, Snapshot};

/// How long pollers leave fresh mail to the daemon that committed it.
pub const GRACE: TimeDelta = TimeDelta::seconds(10);

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

/// Why a whole batch came to nothing.
enum Abort {
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

/// A command in its batch.
struct Slot<'a> {
    incoming: &'a Incoming,
    proofs: Proofs,
}

impl Engine {
    /// Runs commands; says of each how it ended. Where it does not, nothing was done and nothing may be acknowledged: the
    /// database is `away`.
    pub(super) async fn run_batch(
        &self,
        commands: &[&Incoming],
        away: &mut Option<store::Error>,
        pulse: &Pulse,
    ) -> Vec<Option<Ended>> {
        let mut ended: Vec<Option<Ended>> = vec![None; commands.len()];
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
                    ended[i] = Some(end);
                }
            }
            // Somebody's fault, or rows that somebody holds: found by running each alone.
            Err(abort) => match self.unusable(abort).await {
                Some(error) => {
                    *away = Some(error);
                    return ended;
                }
                None => later = (0..commands.len()).collect(),
            },
        }
        for i in later {
            // Each alone may wait for locks: together they may take long, and that is no standstill.
            pulse.beat();
            match self.run_alone(commands[i]).await {
                Ok(end) => ended[i] = Some(end),
                Err(error) => {
                    *away = Some(error);
                    break;
                }
            }
        }
        ended
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
            let repeated = guarded("comparing it", || repeat(incoming, before, &self.keys.load()));
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
        let hashes = commands.iter().any(|c| c.spec.lane == crate::commands::Lane::Credentials);
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
                    commit(connection, &mut slots, &snapshot, (&self.mail, reservation)).await
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

/// What a transaction came to.
struct Committed {
    ended: Vec<Ended>,
    world: World,
    /// Mails whose first attempt began with the commit.
    begun: Vec<Claimed>,
    /// Templates of stored mails that were cancelled.
    cancelled: Vec<String>,
    now: DateTime<Utc>,
}

/// Everything inside the transaction.
async fn commit(
    connection: &mut AsyncPgConnection,
    slots: &mut [Slot<'_>],
    snapshot: &Snapshot,
    (mail, reservation): (&Handover, Reservation),
) -> Result<Committed, Abort> {
    let (keys, since) = (keys(slots), remembered_since(&snapshot.config));
    // Few were answered before, so it is not waited for that answer.
    let loading = load(connection, slots, true, crate::clock::now());
    let (answered, world) = tokio::join!(biased; inbox::find(connection, &keys, since), loading);
    let (Found { answered, outdated }, mut world) = (answered?, world?);
    let fresh = slots.iter().filter(|slot| !answered.contains_key(&slot.incoming.key));
    let limits: BTreeSet<Uuid> =
        fresh.flat_map(|slot| decide::limits(slot.incoming, &world, snapshot.environment())).collect();
    world::load_limits(connection, &mut world, &limits).await?;
    // Only now: whoever waited for somebody's lock comes after them by the times and ids that it makes, too.
    let now = crate::clock::now();
    let (mut rng, mut ids) = (rng(), Ids::default());
    let mut inputs = DecisionInputs { env: snapshot.environment(), now, rng: &mut rng, ids: &mut ids };
    let mut ended = Vec::with_capacity(slots.len());
    let mut done: Vec<Done> = Vec::new();
    let mut erasing = Vec::new();
    let mut unproven = false;
    for slot in slots.iter_mut() {
        let incoming = slot.incoming;
        if let Some(before) = answered.get(&incoming.key) {
            ended.push(repeat(incoming, before, inputs.env.keys));
            continue;
        }
        match decide::decide(incoming, &mut world, &mut slot.proofs, &mut inputs) {
            Decided::Answered(answer, rows) => {
                erasing.resize(world.erased.len(), done.len());
                let answered = Answered {
                    key: incoming.key,
                    fingerprint: incoming.parsed.fingerprint,
                    reply: answer.recorded.clone(),
                    received_at: now,
                };
                done.push(Done { outcome: answer.outcome, activity: rows, answered });
                ended.push(Ended::Answered(answer));
            }
            // Go on: the others may need proofs too, and all are worked out together.
            Decided::Unproven => unproven = true,
            Decided::Failed(what) => return Err(Abort::Decision(what)),
        }
    }
    if unproven {
        return Err(Abort::Unproven);
    }
    let cancelled = erasure::erase(connection, &mut world, snapshot.environment().keys).await?;
    forget(&mut done, &world, &erasing);
    tell_suppressed(&mut world, &mut inputs);
    let begun = begin(&mut world, mail, reservation, now);
    let (activity, answers): (Vec<_>, Vec<_>) = done.into_iter().map(|d| (d.activity, d.answered)).unzip();
    inbox::remove(connection, &outdated, since).await?;
    let record = Record { lease: LEASE, grace: GRACE, activity: &activity.concat(), answers: &answers };
    world::write(connection, &world, record, now).await?;
    crash_point("before the commit");
    Ok(Committed { ended, world, begun, cancelled, now })
}

/// What is to be written of a command that was decided.
struct Done {
    outcome: Outcome,
    activity: Vec<NewActivity>,
    answered: Answered,
}

/// Takes people whom the batch erased out of what is written of its commands; `erasing` are the places of the commands that
/// did it. What comes after one of these is about somebody new, if there is somebody.
fn forget(done: &mut [Done], world: &World, erasing: &[usize]) {
    for (person, by) in world.erased.iter().zip(erasing) {
        let replaced = world.account(&person.id).is_some();
        for (place, done) in done.iter_mut().enumerate().filter(|(place, _)| !replaced || place <= by) {
            let mut about_them = false;
            for row in &mut done.activity {
                about_them |= person.redact(row);
            }
            if about_them && place != *by {
                done.answered.reply = inbox::forgotten(done.outcome.as_str());
            }
        }
    }
}

/// From when on answers are remembered.
fn remembered_since(config: &Config) -> DateTime<Utc> {
    crate::clock::now() - config.retention.commands
}

fn repeat(incoming: &Incoming, before: &Answered, keys: &KeyRing) -> Ended {
    let message_id = incoming.delivery.properties.message_id.as_deref();
    let is_the_same = before.fingerprint == incoming.parsed.fingerprint
        || incoming.spec.was_fingerprint(before.fingerprint, &incoming.delivery.body, keys);
    if is_the_same {
        return Ended::Repeated(reply::repeated(message_id, before.reply.clone()));
    }
    let rejection = Rejection::new(
        Code::MessageIdReused,
        "this message_id was used for another command or body; each command needs an id of its own",
    );
    Ended::Answered(reply::refused(message_id, &rejection, &[]))
}

async fn load(
    connection: &AsyncPgConnection,
    slots: &[Slot<'_>],
    lock: bool,
    now: DateTime<Utc>,
) -> Result<World, store::Error> {
    let mut wants = Wants::default();
    for slot in slots {
        wants.merge(&slot.incoming.wants);
    }
    world::load(connection, &wants, lock, now).await
}

fn keys(slots: &[Slot<'_>]) -> Vec<Uuid> {
    slots.iter().map(|slot| slot.incoming.key).collect()
}

pub(super) fn rng() -> StdRng {
    StdRng::from_rng(&mut thread_rng())
}

#[expect(clippy::disallowed_methods, reason = "the seed of a batch's randomness comes from the operating system")]
fn thread_rng() -> rand::rngs::ThreadRng {
    rand::rng()
}
