//! From deliveries to what becomes of each: reads them, runs them, answers them or puts them aside.

use std::time::Instant;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tracing::{Level, warn};

use crate::broker::{Delivery, Outgoing};
use crate::commands::{Asked, Invalid, Lane, Ready, Spec};
use crate::crash_point::{crash_point, panic_point};
use crate::domain::rejection::{Code, Outcome, Rejection};
use crate::metrics::{CommandOutcome, Lane as LaneLabel};
use crate::store;
use crate::vitals::Pulse;

use super::Engine;
use super::batch::Ended;
use super::command_log::CommandLog;
use super::delayed_replies::{self, DelayedReply};
use super::guard::guarded;
use super::incoming::{self, Incoming, Read};
use super::observe;
use super::refuse::Reason;
use super::reply;
use super::settle::Disposition;
use super::turns::{People, Turn};

/// A delivery that has been handled.
struct Handled {
    tag: u64,
    reply: Option<Outgoing>,
    /// Must be stored by the broker before the delivery may be acknowledged.
    aside: Option<Outgoing>,
    /// Not to be answered before this moment.
    due: Option<Instant>,
}

impl Handled {
    /// Answered as soon as what is put aside is safe.
    fn now(tag: u64, reply: Option<Outgoing>, aside: Option<Outgoing>) -> Self {
        Self { tag, reply, aside, due: None }
    }
}

/// How many of these commands run together, by how many people each of them names. A command may name a thousand: a portion is
/// cut so that it does not lock and load a hundred thousand.
fn portion_size(sizes: &[usize]) -> usize {
    const PEOPLE: usize = 2000;
    let mut people = 0;
    let fits = |size: &&usize| {
        people += **size;
        people <= PEOPLE
    };
    sizes.iter().take_while(fits).count().max(1)
}

impl Engine {
    /// Runs deliveries; says what became of each, and whether the database went away: then the rest goes back.
    pub(super) async fn process(
        &self,
        lane: Lane,
        deliveries: Vec<Delivery>,
        turn: &Turn,
        pulse: &Pulse,
        stop: &CancellationToken,
    ) -> (Vec<Disposition>, Option<store::Error>) {
        let started = Instant::now();
        let _in_flight = self.metrics.in_flight(observe::lane(lane), deliveries.len());
        if lane != Lane::Credentials {
            self.hashing.make_way();
        }
        let now = crate::clock::now();
        let require_sealed = self.config.load().secrets.require_sealed;
        let keys = self.keys.load_full();
        let mut dispositions = Vec::with_capacity(deliveries.len());
        let mut handled = Vec::new();
        let mut understood = Vec::new();
        let mut away = None;
        let mut read = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            observe::ahead(&self.metrics, &delivery, now);
            read.push(incoming::read(delivery, lane, &keys, require_sealed, now));
        }
        let sizes = if lane == Lane::Queries { Vec::new() } else { Self::announce(&read, turn) };
        for read in read {
            match read {
                Read::Understood(incoming) => {
                    observe::lag(&self.metrics, lane, &incoming);
                    understood.push(incoming);
                }
                Read::Invalid(delivery, invalid) => {
                    handled.push(self.invalid_message(lane.as_str(), &delivery, invalid, started).await);
                }
                Read::Failed(delivery, spec, panicked) => {
                    let entry = CommandLog::of_any(&delivery, lane.as_str(), started);
                    handled.push(self.failed(spec, &delivery, entry, &panicked.to_string(), started).await);
                }
                Read::Expired(incoming) => match self.expired(lane, &incoming, started).await {
                    Ok(one) => handled.push(one),
                    Err(error) => {
                        dispositions.push(Disposition::Returned(incoming.delivery.tag));
                        away = Some(error);
                    }
                },
            }
        }
        dispositions.extend(self.send(handled).await);
        crash_point("taken");
        let commands: Vec<&Incoming> = understood.iter().map(AsRef::as_ref).collect();
        let (mut rest, mut sizes) = (commands.as_slice(), sizes.as_slice());
        if lane != Lane::Queries && !rest.is_empty() {
            pulse.waiting(turn.come()).await;
        }
        while !rest.is_empty() {
            pulse.beat();
            let size = if lane == Lane::Queries { rest.len() } else { portion_size(sizes) };
            let (portion, after) = rest.split_at(size);
            sizes = sizes.get(size..).unwrap_or_default();
            // What was begun is finished; what was not can wait for another daemon.
            let ended = if away.is_some() || stop.is_cancelled() && rest.len() < commands.len() {
                portion.iter().map(|_| None).collect()
            } else {
                self.run_portion(lane, portion, &mut away, pulse).await
            };
            if after.is_empty() {
                turn.end();
            }
            let mut handled = Vec::with_capacity(portion.len());
            for (incoming, ended) in portion.iter().zip(ended) {
                match ended {
                    Some(ended) => handled.push(self.finish(lane, incoming, ended, started).await),
                    None => dispositions.push(Disposition::Returned(incoming.delivery.tag)),
                }
            }
            dispositions.extend(self.send(handled).await);
            rest = after;
        }
        (dispositions, away)
    }

    /// Says whom the commands name that were understood, so that later batches wait for them; how many people each of them names.
    fn announce(read: &[Read], turn: &Turn) -> Vec<usize> {
        let (mut people, mut sizes) = (People::new(), Vec::with_capacity(read.len()));
        for read in read {
            if let Read::Understood(incoming) = read {
                turn.add(&mut people, &incoming.wants);
                sizes.push(incoming.wants.users.len());
            }
        }
        turn.announce(people);
        sizes
    }

    /// How each command ended; `None` where the database was away.
    async fn run_portion(
        &self,
        lane: Lane,
        commands: &[&Incoming],
        away: &mut Option<store::Error>,
        pulse: &Pulse,
    ) -> Vec<Option<Ended>> {
        match lane {
            Lane::Queries => {
                let answers = join_all(commands.iter().map(|query| self.answer(query))).await;
                answers.into_iter().map(|answer| answer.map_err(|error| *away = Some(error)).ok()).collect()
            }
            Lane::State | Lane::Credentials => self.run_batch(commands, away, pulse).await,
        }
    }

    pub(super) async fn process_unknown(&self, deliveries: Vec<Delivery>) -> Vec<Disposition> {
        let started = Instant::now();
        let _in_flight = self.metrics.in_flight(LaneLabel::Unknown, deliveries.len());
        let mut handled = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            if crate::commands::find(&delivery.routing_key).is_some() {
                // Its lane's queue was missing for a moment: it was declared again, or will be.
                handled.push(Handled::now(delivery.tag, None, Some(self.return_to_lane(&delivery).await)));
                continue;
            }
            let name: String = delivery.routing_key.chars().filter(|c| !c.is_control()).take(100).collect();
            let hint = crate::commands::nearest(&name).map(|meant| format!("; did you mean `{meant}`?"));
            let detail = format!("no command is called `{name}`{}", hint.unwrap_or_default());
            let invalid = Invalid { code: Code::UnknownCommand, detail };
            handled.push(self.invalid_message("unknown", &delivery, invalid, started).await);
        }
        self.send(handled).await
    }

    async fn finish(&self, lane: Lane, incoming: &Incoming, ended: Ended, started: Instant) -> Handled {
        let delivery = &incoming.delivery;
        let name = incoming.spec.name;
        let (outcome, word, refused, body) = match ended {
            Ended::Answered(answer) => {
                let outcome = match answer.outcome {
                    Outcome::Done => CommandOutcome::Ok,
                    Outcome::Refused(_) => CommandOutcome::Rejected,
                };
                self.observe(incoming.spec, &incoming.delivery, answer.outcome);
                (outcome, answer.outcome.as_str(), answer.outcome.refused(), answer.told)
            }
            Ended::Repeated(reply) => (CommandOutcome::Duplicate, "duplicate", None, reply),
            Ended::Failed(what) => {
                let entry = CommandLog::of(incoming, lane.as_str(), started);
                return self.failed(incoming.spec, delivery, entry, &what, started).await;
            }
            Ended::Postponed(why) => return self.postponed(lane, incoming, &why, started).await,
        };
        self.metrics.command(name, outcome);
        self.metrics.command_duration(name, started.elapsed());
        CommandLog::of(incoming, lane.as_str(), started).write(Level::INFO, word, None);
        Handled {
            tag: delivery.tag,
            reply: reply::message(delivery, &body),
            aside: None,
            due: self.due(incoming, refused, started),
        }
    }

    /// Lets a command count how it ended. Nothing depends on that, so nothing is done about a panic.
    fn observe(&self, spec: &Spec, delivery: &Delivery, outcome: Outcome) {
        let _ = guarded("counting it", || {
            panic_point("observing", delivery.properties.message_id.as_deref());
            (spec.observe)(outcome, &self.metrics);
        });
    }

    /// When an answer leaves, if its moment must tell nothing.
    fn due(&self, incoming: &Incoming, refused: Option<Code>, started: Instant) -> Option<Instant> {
        let Ok(Ready::Command(command)) = &incoming.parsed.ready else { return None };
        let config = self.config.load();
        let by_the_person = incoming.parsed.envelope.actor.is_none();
        let pace = guarded("its pace", || {
            panic_point("pace", incoming.delivery.properties.message_id.as_deref());
            command.pace(Asked { by_the_person, refused, config: &config })
        });
        // It is done, and must be answered; at a moment that tells nothing, whichever command it is.
        let pace = pace.unwrap_or_else(|_| config.login.answer_after.max(config.password_reset.answer_after));
        (!pace.is_zero()).then(|| delayed_replies::due(started, Instant::now(), pace))
    }

    /// Nobody's failure, so it does not count as one: again a little later, however often.
    async fn postponed(&self, lane: Lane, incoming: &Incoming, why: &str, started: Instant) -> Handled {
        let delivery = &incoming.delivery;
        self.metrics.command(incoming.spec.name, CommandOutcome::Postponed);
        CommandLog::of(incoming, lane.as_str(), started).write(Level::WARN, "postponed", Some(why));
        Handled::now(delivery.tag, None, Some(self.return_to_lane(delivery).await))
    }

    /// An unexpected failure: again later, and in the end a dead letter. The caller hears of it only then.
    async fn failed(
        &self,
        spec: &Spec,
        delivery: &Delivery,
        entry: CommandLog<'_>,
        what: &str,
        started: Instant,
    ) -> Handled {
        let name = spec.name;
        let message_id = delivery.properties.message_id.as_deref();
        if let Some(again) = self.retry(delivery).await {
            self.metrics.command(name, CommandOutcome::Retried);
            entry.write(Level::WARN, "retried", Some(what));
            return Handled::now(delivery.tag, None, Some(again));
        }
        entry.write(Level::ERROR, "buried", Some(what));
        self.metrics.command(name, CommandOutcome::Buried);
        self.observe(spec, delivery, Outcome::Refused(Code::Internal));
        self.metrics.command_duration(name, started.elapsed());
        self.metrics.dead_letter(Code::Internal.as_str());
        let reason = Reason { code: Code::Internal, detail: what.to_owned() };
        let letter = self.dead_letter(delivery, &reason, crate::clock::now()).await;
        let rejection = Rejection::new(Code::Internal, "the command failed; it is kept for the operators");
        let answer = reply::refused(message_id, &rejection, &[]);
        Handled::now(delivery.tag, reply::message(delivery, &answer.told), Some(letter))
    }

    async fn invalid_message(&self, lane: &str, delivery: &Delivery, invalid: Invalid, started: Instant) -> Handled {
        let message_id = delivery.properties.message_id.as_deref();
        self.metrics.command(&delivery.routing_key, CommandOutcome::Invalid);
        self.metrics.dead_letter(invalid.code.as_str());
        CommandLog::of_any(delivery, lane, started).write(Level::WARN, invalid.code.as_str(), Some(&invalid.detail));
        let answer = reply::refused(message_id, &Rejection::new(invalid.code, invalid.detail.clone()), &[]);
        let reason = Reason { code: invalid.code, detail: invalid.detail };
        let letter = self.dead_letter(delivery, &reason, crate::clock::now()).await;
        Handled::now(delivery.tag, reply::message(delivery, &answer.told), Some(letter))
    }

    /// Nobody waits any more. What was done before all the same (its acknowledgement was lost) is answered as before.
    async fn expired(&self, lane: Lane, incoming: &Incoming, started: Instant) -> Result<Handled, store::Error> {
        if lane != Lane::Queries
            && let Some(before) = self.answered(incoming).await?
        {
            return Ok(self.finish(lane, incoming, before, started).await);
        }
        let delivery = &incoming.delivery;
        let (command, message_id) = (incoming.spec.name, delivery.properties.message_id.as_deref());
        self.metrics.command(command, CommandOutcome::Expired);
        self.observe(incoming.spec, delivery, Outcome::Refused(Code::Expired));
        CommandLog::of(incoming, lane.as_str(), started).write(Level::INFO, "expired", None);
        let rejection = Rejection::new(Code::Expired, "the command's expiration passed before it could be executed");
        let answer = reply::refused(message_id, &rejection, &[]);
        Ok(Handled::now(delivery.tag, reply::message(delivery, &answer.told), None))
    }

    /// Sends replies, and stores what is put aside, before anything is acknowledged.
    async fn send(&self, handled: Vec<Handled>) -> Vec<Disposition> {
        let mut dispositions = Vec::with_capacity(handled.len());
        let (mut aside, mut of) = (Vec::new(), Vec::new());
        let mut replies = Vec::new();
        for one in handled {
            let tag = one.tag;
            if let Some(message) = one.aside {
                aside.push(message);
                of.push((tag, one.reply));
            } else if let Some(due) = one.due {
                dispositions.push(Disposition::Delayed(Box::new(DelayedReply { tag, reply: one.reply, due })));
            } else {
                replies.extend(one.reply);
                dispositions.push(Disposition::Done(tag));
            }
        }
        for ((tag, reply), stored) in of.into_iter().zip(self.publisher.publish(aside).await) {
            match stored {
                Ok(()) => {
                    replies.extend(reply);
                    dispositions.push(Disposition::Done(tag));
                }
                Err(error) => {
                    warn!(%error, "a message could not be put aside; it goes back to its queue");
                    dispositions.push(Disposition::Returned(tag));
                }
            }
        }
        crash_point("put aside");
        for result in join_all(replies.into_iter().map(|reply| self.publisher.reply(reply))).await {
            if let Err(error) = result {
                warn!(%error, "a reply could not be delivered");
            }
        }
        dispositions
    }
}
