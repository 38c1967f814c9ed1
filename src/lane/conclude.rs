//! How a delivery ends: it is answered, or put aside to be tried again or to be looked at by an operator.

use std::time::Instant;

use futures_util::future::join_all;
use tracing::{Level, warn};

use crate::broker::{Delivery, Outgoing};
use crate::commands::{Asked, Invalid, Lane, Ready, Spec};
use crate::crash_point::{crash_point, panic_point};
use crate::domain::rejection::{Code, Outcome, Rejection};
use crate::metrics::CommandOutcome;
use crate::store;

use super::Engine;
use super::batch::Ended;
use super::command_log::CommandLog;
use super::delayed_replies::{self, DelayedReply};
use super::guard::guarded;
use super::incoming::Incoming;
use super::refuse::Reason;
use super::reply;
use super::settle::Disposition;

/// A delivery that has been handled.
pub(super) struct Handled {
    tag: u64,
    reply: Option<Outgoing>,
    /// Must be stored by the broker before the delivery may be acknowledged.
    aside: Option<Outgoing>,
    /// Not to be answered before this moment.
    due: Option<Instant>,
}

impl Handled {
    /// Answered as soon as what is put aside is safe.
    pub(super) fn now(tag: u64, reply: Option<Outgoing>, aside: Option<Outgoing>) -> Self {
        Self { tag, reply, aside, due: None }
    }
}

impl Engine {
    /// Answers what has ended, or puts it aside.
    pub(super) async fn finish(&self, lane: Lane, incoming: &Incoming, ended: Ended, started: Instant) -> Handled {
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
    pub(super) async fn failed(
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

    /// What cannot be understood: a dead letter at once.
    pub(super) async fn invalid_message(
        &self,
        lane: &str,
        delivery: &Delivery,
        invalid: Invalid,
        started: Instant,
    ) -> Handled {
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
    pub(super) async fn expired(
        &self,
        lane: Lane,
        incoming: &Incoming,
        started: Instant,
    ) -> Result<Handled, store::Error> {
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
    pub(super) async fn send(&self, handled: Vec<Handled>) -> Vec<Disposition> {
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
