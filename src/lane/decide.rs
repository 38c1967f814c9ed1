//! Runs one decision on a world: who may, then what.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::commands::context::{Context, Environment, erased_key};
use crate::commands::history::activity::own_details;
use crate::commands::proofs::Proofs;
use crate::commands::{Ready, Stop};
use crate::crash_point::panic_point;
use crate::domain::access::{ActorName, SYSTEM, Sender, authorise};
use crate::domain::rejection::Rejection;
use crate::ids::Ids;
use crate::world::{NewActivity, World};

use super::incoming::Incoming;
use super::reply::{self, Answer};

/// What a decision came to.
pub enum Decided {
    /// An answer, and what the activity log says of it.
    Answered(Answer, Vec<NewActivity>),
    /// Password proofs are needed first.
    Unproven,
    /// The daemon failed: nothing that the decision did may be kept.
    Failed(String),
}

/// The parts of a batch that decisions share.
pub struct DecisionInputs<'a> {
    /// Configuration, keys, templates.
    pub env: Environment<'a>,
    /// The time.
    pub now: DateTime<Utc>,
    /// Randomness.
    pub rng: &'a mut StdRng,
    /// Identifiers.
    pub ids: &'a mut Ids,
}

/// Keys of the limits that a command falls under.
pub fn limits(incoming: &Incoming, world: &World, env: Environment<'_>) -> Vec<Uuid> {
    panic_point("limits", incoming.delivery.properties.message_id.as_deref());
    match &incoming.parsed.ready {
        Ok(Ready::Command(command)) => command.limits(&incoming.parsed.envelope.client, world, env.keys),
        _ => Vec::new(),
    }
}

/// Decides.
pub fn decide(incoming: &Incoming, world: &mut World, proofs: &mut Proofs, inputs: &mut DecisionInputs<'_>) -> Decided {
    let envelope = &incoming.parsed.envelope;
    let message_id = incoming.delivery.properties.message_id.as_deref();
    panic_point("decision", message_id);
    let config = inputs.env.config;
    let sender = Sender { name: &incoming.publisher, rules: config.publishers.get(&incoming.publisher) };
    let actor = match &envelope.actor {
        Some(ActorName::Id(id)) => world.actor(id),
        _ => None,
    };
    let authority =
        authorise(incoming.spec.name, incoming.spec.audience, sender, envelope.actor.as_ref(), actor, &config.roles);
    let runnable = authority.and_then(|authority| match &incoming.parsed.ready {
        Ok(ready) => Ok((authority, ready)),
        Err(unopened) => Err(unopened.rejection.clone()),
    });
    let (authority, ready) = match runnable {
        Ok(runnable) => runnable,
        Err(rejection) => return refuse(incoming, world, inputs, &rejection),
    };
    let Ready::Command(command) = ready else {
        return Decided::Failed("a query came into a lane of commands".to_owned());
    };
    let system = || authority.is_administrative().then(|| SYSTEM.to_owned());
    let actor = match &envelope.actor {
        Some(ActorName::Id(id)) => Some(id.clone()),
        Some(ActorName::System) => Some(SYSTEM.to_owned()),
        None => system(),
    };
    let record = Record { incoming, actor: recorded_actor(incoming, world, inputs).or_else(system), now: inputs.now };
    let mut cx = Context {
        env: inputs.env,
        now: inputs.now,
        requested_at: incoming.requested_at,
        command: incoming.spec.name,
        message_id,
        publisher: &incoming.publisher,
        traceparent: incoming.traceparent.as_deref(),
        authority,
        actor,
        client: &envelope.client,
        world,
        proofs,
        rng: inputs.rng,
        ids: inputs.ids,
        touched: Vec::new(),
        subject_key: None,
        details: Map::new(),
    };
    let result = command.decide(&mut cx);
    let (touched, subject, details) = (cx.touched, cx.subject_key, cx.details);
    let answer = match result {
        Ok(reply) => reply::done(message_id, reply),
        Err(Stop::Rejected(rejection)) => reply::refused(message_id, &rejection, &[]),
        Err(Stop::RejectedWithSecret(rejection, secrets)) => reply::refused(message_id, &rejection, secrets),
        Err(Stop::Unproven) => return Decided::Unproven,
        Err(Stop::Bug(what)) => return Decided::Failed(what.to_owned()),
    };
    let activity = record.rows(inputs, &answer, touched, subject, &details);
    Decided::Answered(answer, activity)
}

/// Refuses a command without asking it.
pub fn refuse(incoming: &Incoming, world: &World, inputs: &mut DecisionInputs<'_>, rejection: &Rejection) -> Decided {
    let answer = reply::refused(incoming.delivery.properties.message_id.as_deref(), rejection, &[]);
    let record = Record { incoming, actor: recorded_actor(incoming, world, inputs), now: inputs.now };
    let activity = record.rows(inputs, &answer, named(incoming, world), None, &Map::new());
    Decided::Answered(answer, activity)
}

/// Who acts, as the activity log has it.
fn recorded_actor(incoming: &Incoming, world: &World, inputs: &DecisionInputs<'_>) -> Option<String> {
    match &incoming.parsed.envelope.actor {
        // Whom no profile has may have been erased: commands in their name must not bring it back.
        Some(ActorName::Id(id)) if world.actor(id).is_none() => Some(erased_key(inputs.env.keys, id)),
        Some(ActorName::Id(id)) => Some(id.clone()),
        Some(ActorName::System) => Some(SYSTEM.to_owned()),
        None => None,
    }
}

/// The people whom a command names: in their histories stands, too, what somebody was not allowed to do.
fn named(incoming: &Incoming, world: &World) -> Vec<String> {
    let people: BTreeSet<String> = incoming.wants.users.iter().flat_map(|user| world.find(user)).collect();
    people.into_iter().collect()
}

/// Makes the activity log's rows: one for each person whom the command touched.
struct Record<'a> {
    incoming: &'a Incoming,
    actor: Option<String>,
    now: DateTime<Utc>,
}

impl Record<'_> {
    fn rows(
        &self,
        inputs: &mut DecisionInputs<'_>,
        answer: &Answer,
        touched: Vec<String>,
        subject_key: Option<Uuid>,
        details: &Map<String, Value>,
    ) -> Vec<NewActivity> {
        let people = if touched.is_empty() { vec![None] } else { touched.into_iter().map(Some).collect() };
        let client = &self.incoming.parsed.envelope.client;
        // One person's history does not tell what was decided about another, nor who else has the address: not even by
        // rows that stay when that other person is erased.
        let of =
            |id: Option<&String>| Value::Object(own_details(Value::Object(details.clone()), id.map(String::as_str)));
        people
            .into_iter()
            .map(|user_id| NewActivity {
                id: inputs.ids.next(self.now, inputs.rng),
                at: self.now,
                kind: self.incoming.spec.name.to_owned(),
                details: of(user_id.as_ref()),
                user_id,
                actor: self.actor.clone(),
                publisher: self.incoming.publisher.clone(),
                command_id: self.incoming.delivery.properties.message_id.clone(),
                outcome: answer.outcome.as_str().to_owned(),
                ip: client.ip.map(|ip| ip.to_string()),
                subject_key,
            })
            .collect()
    }
}
