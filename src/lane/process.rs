//! From deliveries to what becomes of each: reads them, runs them portion by portion.

use std::time::Instant;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::broker::Delivery;
use crate::commands::{Invalid, Lane};
use crate::crash_point::crash_point;
use crate::domain::rejection::Code;
use crate::metrics::Lane as LaneLabel;
use crate::store;
use crate::vitals::Pulse;

use super::Engine;
use super::batch::Ran;
use super::command_log::CommandLog;
use super::conclude::Handled;
use super::incoming::{self, Incoming, Read};
use super::observe;
use super::settle::Disposition;
use super::turns::{People, Turn};

/// What a worker goes by while it works on a batch.
pub(super) struct Round<'a> {
    pub(super) lane: Lane,
    pub(super) started: Instant,
    pub(super) turn: &'a Turn,
    pub(super) pulse: &'a Pulse,
    pub(super) stop: &'a CancellationToken,
}

/// What became of a batch.
#[derive(Default)]
pub(super) struct Processed {
    pub(super) dispositions: Vec<Disposition>,
    /// Why some go back: the database went away.
    pub(super) away: Option<store::Error>,
}

/// How many of these commands run together, by how many people each of them names. A command may name a thousand: a portion is
/// cut so that it does not lock and load a hundred thousand.
fn portion_size(sizes: impl Iterator<Item = usize>) -> usize {
    const PEOPLE: usize = 2000;
    let mut people = 0;
    let fits = |size: &usize| {
        people += size;
        people <= PEOPLE
    };
    sizes.take_while(fits).count().max(1)
}

/// Says whom the commands name that were understood, so that later batches wait for them.
fn announce(read: &[Read], turn: &Turn) {
    let mut people = People::new();
    for read in read {
        if let Read::Understood(incoming) = read {
            turn.add(&mut people, &incoming.wants);
        }
    }
    turn.announce(people);
}

impl Engine {
    /// Runs deliveries; says what became of each.
    pub(super) async fn process(&self, deliveries: Vec<Delivery>, round: &Round<'_>) -> Processed {
        let _in_flight = self.metrics.in_flight(observe::lane(round.lane), deliveries.len());
        if round.lane != Lane::Credentials {
            self.hashing.make_way();
        }
        let read = self.read_all(round.lane, deliveries);
        if round.lane != Lane::Queries {
            announce(&read, round.turn);
        }
        let (understood, processed) = self.turn_away(read, round).await;
        crash_point("taken");
        let commands: Vec<&Incoming> = understood.iter().map(AsRef::as_ref).collect();
        self.run_portions(&commands, round, processed).await
    }

    fn read_all(&self, lane: Lane, deliveries: Vec<Delivery>) -> Vec<Read> {
        let now = crate::clock::now();
        let require_sealed = self.config.load().secrets.require_sealed;
        let keys = self.keys.load_full();
        let read = |delivery| {
            observe::ahead(&self.metrics, &delivery, now);
            incoming::read(delivery, lane, &keys, require_sealed, now)
        };
        deliveries.into_iter().map(read).collect()
    }

    /// Ends what is not to be run; what is, comes back.
    async fn turn_away(&self, read: Vec<Read>, round: &Round<'_>) -> (Vec<Box<Incoming>>, Processed) {
        let Round { lane, started, .. } = *round;
        let (mut understood, mut handled) = (Vec::with_capacity(read.len()), Vec::new());
        let mut processed = Processed::default();
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
                        processed.dispositions.push(Disposition::Returned(incoming.delivery.tag));
                        processed.away = Some(error);
                    }
                },
            }
        }
        processed.dispositions.extend(self.send(handled).await);
        (understood, processed)
    }

    /// Runs commands when it is their turn, and ends each portion before the next one begins.
    async fn run_portions(&self, commands: &[&Incoming], round: &Round<'_>, mut processed: Processed) -> Processed {
        let Round { lane, started, turn, pulse, stop } = *round;
        if lane != Lane::Queries && !commands.is_empty() {
            pulse.waiting(turn.come()).await;
        }
        let mut rest = commands;
        while !rest.is_empty() {
            // What was begun is finished; what was not can wait for another daemon.
            if processed.away.is_some() || stop.is_cancelled() && rest.len() < commands.len() {
                let returned = rest.iter().map(|incoming| Disposition::Returned(incoming.delivery.tag));
                processed.dispositions.extend(returned);
                break;
            }
            pulse.beat();
            let (portion, after) = rest.split_at(portion_size(rest.iter().map(|command| command.wants.users.len())));
            let ran = self.run_portion(lane, portion, pulse).await;
            if after.is_empty() {
                turn.end();
            }
            let mut handled = Vec::with_capacity(portion.len());
            for (incoming, ended) in portion.iter().zip(ran.ended) {
                match ended {
                    Some(ended) => handled.push(self.finish(lane, incoming, ended, started).await),
                    None => processed.dispositions.push(Disposition::Returned(incoming.delivery.tag)),
                }
            }
            processed.dispositions.extend(self.send(handled).await);
            processed.away = ran.away;
            rest = after;
        }
        processed
    }

    async fn run_portion(&self, lane: Lane, commands: &[&Incoming], pulse: &Pulse) -> Ran {
        match lane {
            Lane::Queries => {
                let mut ran = Ran { ended: Vec::with_capacity(commands.len()), away: None };
                for answer in join_all(commands.iter().map(|query| self.answer(query))).await {
                    ran.ended.push(answer.map_err(|error| ran.away = Some(error)).ok());
                }
                ran
            }
            Lane::State | Lane::Credentials => self.run_batch(commands, pulse).await,
        }
    }

    /// Answers and buries what no lane takes.
    pub(super) async fn process_unknown(&self, deliveries: Vec<Delivery>) -> Processed {
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
        Processed { dispositions: self.send(handled).await, away: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_names_two_thousand_people_or_is_one_command() {
        for (sizes, portion) in [
            (vec![1; 128], 128),
            (vec![0; 128], 128),
            (vec![1000, 1000, 1, 1], 2),
            (vec![1999, 2, 1], 1),
            (vec![2001, 1], 1),
            (vec![1], 1),
        ] {
            assert_eq!(portion_size(sizes.into_iter()), portion);
        }
    }
}
