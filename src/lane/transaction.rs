//! One transaction: what the commands want is loaded, each is decided, and what changed is written. ARCHITECTURE.md has its statements
//! in a table.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use crate::commands::proofs::Proofs;
use crate::config::Config;
use crate::crash_point::crash_point;
use crate::domain::rejection::{Code, Outcome, Rejection};
use crate::ids::Ids;
use crate::keys::KeyRing;
use crate::mail::sender::{Claimed, Handover, LEASE, Reservation};
use crate::store::inbox::{self, Answered, Found};
use crate::store::world::{self, Record};
use crate::store::{self, erasure};
use crate::world::{NewActivity, Wants, World};

use super::batch::{Abort, Ended};
use super::begin::{begin, tell_suppressed};
use super::decide::{self, Decided, DecisionInputs};
use super::incoming::Incoming;
use super::{Snapshot, reply, rng};

/// How long pollers leave fresh mail to the daemon that committed it.
const GRACE: TimeDelta = TimeDelta::seconds(10);

/// A command in its batch.
pub(super) struct Slot<'a> {
    pub(super) incoming: &'a Incoming,
    pub(super) proofs: Proofs,
}

/// A transaction that has begun.
pub(super) struct Transaction<'a, 'b> {
    pub(super) connection: &'a mut AsyncPgConnection,
    pub(super) slots: &'a mut [Slot<'b>],
    pub(super) snapshot: &'a Snapshot,
    pub(super) mail: &'a Handover,
    /// Permits for mails whose first attempt begins with the commit.
    pub(super) reservation: Reservation,
}

/// What a transaction came to.
pub(super) struct Committed {
    pub(super) ended: Vec<Ended>,
    pub(super) world: World,
    /// Mails whose first attempt began with the commit.
    pub(super) begun: Vec<Claimed>,
    /// Templates of stored mails that were cancelled.
    pub(super) cancelled: Vec<String>,
    pub(super) now: DateTime<Utc>,
}

/// What the commands came to.
#[derive(Default)]
struct Decisions {
    ended: Vec<Ended>,
    /// Those of which something is to be written.
    done: Vec<Done>,
    /// For each person whom the batch erased, the place in `done` of the command that did it.
    erasing: Vec<usize>,
}

/// What is to be written of a command that was decided.
struct Done {
    outcome: Outcome,
    activity: Vec<NewActivity>,
    /// How it will be answered if it comes again; not if another command was answered under its id.
    answered: Option<Answered>,
}

impl Transaction<'_, '_> {
    /// All of it, but for the commit.
    pub(super) async fn run(mut self) -> Result<Committed, Abort> {
        let since = remembered_since(&self.snapshot.config);
        let (Found { answered, outdated }, mut world) = self.load(since).await?;
        // Only now: whoever waited for somebody's lock comes after them by the times and ids that it makes, too.
        let now = crate::clock::now();
        let (mut rng, mut ids) = (rng(), Ids::default());
        let env = self.snapshot.environment();
        let mut inputs = DecisionInputs { env, now, rng: &mut rng, ids: &mut ids };
        let mut decisions = self.decide(&mut world, &answered, &mut inputs)?;
        let cancelled = erasure::erase(self.connection, &mut world, env.keys).await?;
        decisions.forget(&world);
        tell_suppressed(&mut world, &mut inputs);
        let begun = begin(&mut world, self.mail, self.reservation, now);
        inbox::remove(self.connection, &outdated, since).await?;
        let ended = decisions.write(self.connection, &world, now).await?;
        crash_point("before the commit");
        Ok(Committed { ended, world, begun, cancelled, now })
    }

    /// Which commands were answered before, and the world that all of them want.
    async fn load(&self, since: DateTime<Utc>) -> Result<(Found, World), store::Error> {
        let Self { connection, slots, snapshot, .. } = self;
        // Few were answered before, so it is not waited for that answer.
        let keys = keys(slots);
        let loading = load(connection, slots, true, crate::clock::now());
        let (found, world) = tokio::join!(biased; inbox::find(connection, &keys, since), loading);
        let (found, mut world) = (found?, world?);
        let fresh = slots.iter().filter(|slot| !found.answered.contains_key(&slot.incoming.key));
        let limits: BTreeSet<Uuid> =
            fresh.flat_map(|slot| decide::limits(slot.incoming, &world, snapshot.environment())).collect();
        world::load_limits(connection, &mut world, &limits).await?;
        Ok((found, world))
    }

    /// Every decision, in the order of delivery.
    fn decide(
        &mut self,
        world: &mut World,
        answered: &HashMap<Uuid, Answered>,
        inputs: &mut DecisionInputs<'_>,
    ) -> Result<Decisions, Abort> {
        let mut decisions = Decisions { ended: Vec::with_capacity(self.slots.len()), ..Decisions::default() };
        let mut unproven = false;
        for slot in self.slots.iter_mut() {
            let incoming = slot.incoming;
            let before = answered.get(&incoming.key);
            if let Some(before) = before
                && is_the_same(incoming, before, inputs.env.keys)
            {
                decisions.ended.push(repeat(incoming, before));
                continue;
            }
            let decided = match before {
                Some(_) => decide::refuse(incoming, world, inputs, &id_is_reused()),
                None => decide::decide(incoming, world, &mut slot.proofs, inputs),
            };
            match decided {
                Decided::Answered(answer, activity) => {
                    decisions.erasing.resize(world.erased.len(), decisions.done.len());
                    let answered = before.is_none().then(|| Answered {
                        key: incoming.key,
                        fingerprint: incoming.parsed.fingerprint,
                        reply: answer.recorded.clone(),
                        received_at: inputs.now,
                    });
                    decisions.done.push(Done { outcome: answer.outcome, activity, answered });
                    decisions.ended.push(Ended::Answered(answer));
                }
                // Go on: the others may need proofs too, and all are worked out together.
                Decided::Unproven => unproven = true,
                Decided::Failed(what) => return Err(Abort::Decision(what)),
            }
        }
        if unproven { Err(Abort::Unproven) } else { Ok(decisions) }
    }
}

impl Decisions {
    /// Takes people whom the batch erased out of what is written of its commands. What comes after the command that did it is about
    /// somebody new, if there is somebody.
    fn forget(&mut self, world: &World) {
        for (person, by) in world.erased.iter().zip(&self.erasing) {
            let replaced = world.account(&person.id).is_some();
            for (place, done) in self.done.iter_mut().enumerate().filter(|(place, _)| !replaced || place <= by) {
                let mut about_them = false;
                for row in &mut done.activity {
                    about_them |= person.redact(row);
                }
                if about_them
                    && place != *by
                    && let Some(answered) = &mut done.answered
                {
                    answered.reply = inbox::forgotten(done.outcome.as_str());
                }
            }
        }
    }

    /// Writes what changed, and last what the commands were answered.
    async fn write(
        self,
        connection: &AsyncPgConnection,
        world: &World,
        now: DateTime<Utc>,
    ) -> Result<Vec<Ended>, store::Error> {
        let (activity, answers): (Vec<_>, Vec<_>) = self.done.into_iter().map(|d| (d.activity, d.answered)).unzip();
        let answers: Vec<Answered> = answers.into_iter().flatten().collect();
        let record = Record { lease: LEASE, grace: GRACE, activity: &activity.concat(), answers: &answers };
        world::write(connection, world, record, now).await?;
        Ok(self.ended)
    }
}

/// From when on answers are remembered.
pub(super) fn remembered_since(config: &Config) -> DateTime<Utc> {
    crate::clock::now() - config.retention.commands
}

/// Whether a command is the one that was answered under its id.
fn is_the_same(incoming: &Incoming, before: &Answered, keys: &KeyRing) -> bool {
    before.fingerprint == incoming.parsed.fingerprint
        || incoming.spec.was_fingerprint(before.fingerprint, &incoming.delivery.body, keys)
}

fn repeat(incoming: &Incoming, before: &Answered) -> Ended {
    let message_id = incoming.delivery.properties.message_id.as_deref();
    Ended::Repeated(reply::repeated(message_id, before.reply.clone()))
}

fn id_is_reused() -> Rejection {
    Rejection::new(
        Code::MessageIdReused,
        "this message_id was used for another command or body; each command needs an id of its own",
    )
}

/// The answer to a command that comes too late to be carried out, where something was answered under its id.
pub(super) fn late_answer(incoming: &Incoming, before: &Answered, keys: &KeyRing) -> Ended {
    if is_the_same(incoming, before, keys) {
        return repeat(incoming, before);
    }
    Ended::Answered(reply::refused(incoming.delivery.properties.message_id.as_deref(), &id_is_reused(), &[]))
}

/// What these commands want.
pub(super) async fn load(
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

/// Under what the answers of these commands are remembered.
pub(super) fn keys(slots: &[Slot<'_>]) -> Vec<Uuid> {
    slots.iter().map(|slot| slot.incoming.key).collect()
}
