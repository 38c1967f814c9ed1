//! Publishes events from the outbox: at least once, and in order for each person.
//!
//! One relay at a time, of all daemons, holds an advisory lock for the length of a transaction: it takes the oldest events,
//! publishes them with confirms, and deletes those that the broker took. See [`crate::store::event_outbox`] for the order.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::TimeDelta;
use diesel_async::AsyncConnection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::broker::{Outgoing, Properties, Publisher};
use crate::crash_point::crash_point;
use crate::keys::KeyRing;
use crate::store::event_outbox::{self, Relayed};
use crate::store::health::Health;
use crate::store::{self, Pool};
use crate::vitals::Pulse;

use super::packed::Waiting;

/// Rows a transaction, of some fifteen events each where many are written together: bounds how long it lasts, and the memory
/// that it takes.
const TOGETHER: i64 = 64;
/// How long the first event waits for others: a round for many costs hardly more than one.
const GATHER: Duration = Duration::from_millis(10);
/// How often to look for events that another daemon left behind.
const POLL: Duration = Duration::from_secs(1);
/// How long to rest while the broker does not take events: doubled each time.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(4);
/// How soon to look again while another daemon is at it.
const TURN: Duration = Duration::from_millis(20);
/// So long an event waits that is enclosed with a key which this daemon does not have: another one may have it, or this one once
/// it read its key file again.
const WITHOUT_KEY: TimeDelta = TimeDelta::hours(1);

/// What relaying needs.
pub struct Relay {
    /// The database.
    pub pool: Pool,
    /// Whether the database answers.
    pub database: Health,
    /// The way out.
    pub publisher: Publisher,
    /// The exchange of events.
    pub exchange: String,
    /// Open events that wait enclosed.
    pub keys: Arc<ArcSwap<KeyRing>>,
    /// Rung after each commit that queued events.
    pub woken: Arc<Notify>,
    /// Shows that it runs.
    pub pulse: Pulse,
}

/// What a round came to.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// Nothing waits.
    Empty,
    /// Everything that was taken is published.
    Published {
        /// As many as go together: there are more.
        full: bool,
    },
    /// Another daemon is at it.
    Taken,
    /// The broker does not take all of them now.
    Stuck,
    /// All that was taken waits for a key.
    WithoutKey,
}

/// Whose events stay, since one of them failed.
#[derive(Default)]
struct Held {
    people: HashSet<String>,
}

impl Held {
    /// Whether the next event stays. What follows a failed one of the same person does too; everybody else's is done, or a
    /// subscriber that takes nothing would flood the others with repetitions.
    fn stays(&mut self, subject: String, failed: bool) -> bool {
        if failed {
            self.people.insert(subject);
            return true;
        }
        self.people.contains(&subject)
    }
}

impl Relay {
    /// Relays until `stop`; then a last time, so that what was committed before is out.
    pub async fn run(self, stop: CancellationToken) {
        let mut stuck = SHORTEST;
        let (mut nobody_rang, mut without_key) = (false, false);
        while stop.run_until_cancelled(self.pulse.waiting(self.database.wait_until_up())).await.is_some() {
            let round = if nobody_rang { self.look().await } else { self.round().await };
            let pause = match round {
                Ok(Round::Published { full }) => {
                    stuck = SHORTEST;
                    if stop.is_cancelled() {
                        break;
                    }
                    if full {
                        continue;
                    }
                    // Whoever committed meanwhile has rung.
                    POLL
                }
                Ok(Round::Empty) => {
                    without_key = false;
                    POLL
                }
                Ok(Round::WithoutKey) => {
                    if !without_key {
                        warn!(
                            "events wait that are enclosed with a key which this daemon does not have: another daemon \
                             publishes them, or this one after SIGHUP or a restart; see `regrant keys show`"
                        );
                    }
                    without_key = true;
                    POLL
                }
                Ok(Round::Taken) => TURN,
                Ok(Round::Stuck) => {
                    stuck = (stuck * 2).min(LONGEST);
                    stuck
                }
                Err(error) => {
                    if error.is_unavailable() {
                        self.database.report_down(&error);
                    } else {
                        warn!(%error, "events could not be relayed; trying again");
                    }
                    Duration::from_millis(500)
                }
            };
            nobody_rang = false;
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.woken.notified(), if pause == POLL => tokio::time::sleep(GATHER).await,
                () = self.pulse.waiting(tokio::time::sleep(pause)) => nobody_rang = pause == POLL,
            }
        }
        if self.database.problem().is_some() {
            return;
        }
        while let Ok(Round::Published { .. }) = self.round().await {}
    }

    /// A round if anything waits; mostly nothing does.
    async fn look(&self) -> Result<Round, store::Error> {
        let mut connection = self.pool.get().await?;
        if event_outbox::is_empty(&mut connection).await? {
            return Ok(Round::Empty);
        }
        drop(connection);
        self.round().await
    }

    async fn round(&self) -> Result<Round, store::Error> {
        let mut connection = self.pool.get().await?;
        connection
            .transaction::<_, store::Error, _>(async |connection| {
                let Some(rows) = event_outbox::lead(connection, TOGETHER).await? else {
                    return Ok(Round::Taken);
                };
                let full = i64::try_from(rows.len()) == Ok(TOGETHER);
                if rows.is_empty() {
                    return Ok(Round::Empty);
                }
                let mut waits = false;
                let too_old = crate::clock::now() - WITHOUT_KEY;
                let mut relayed = Vec::with_capacity(rows.len());
                let (mut places, mut messages) = (Vec::new(), Vec::new());
                for (index, row) in rows.into_iter().enumerate() {
                    let events = row.unpack()?;
                    relayed.push(Relayed { seq: row.seq, count: events.len(), stay: Vec::new() });
                    for (place, event) in events.into_iter().enumerate() {
                        match self.readable(event) {
                            Ok(event) => {
                                places.push((index, place, event.subject.clone()));
                                messages.push(self.message(event));
                            }
                            Err(_) if row.created_at > too_old => {
                                relayed[index].stay.push(place);
                                waits = true;
                            }
                            Err(Waiting { name, .. }) => error!(
                                name,
                                "an event is lost: for an hour no daemon had the key that it was enclosed with"
                            ),
                        }
                    }
                }
                if waits && messages.is_empty() {
                    return Ok(Round::WithoutKey);
                }
                let fates = self.publisher.publish(messages).await;
                let mut held = Held::default();
                let mut trouble = None;
                for ((index, place, subject), fate) in places.into_iter().zip(fates) {
                    if held.stays(subject, fate.is_err()) {
                        relayed[index].stay.push(place);
                    }
                    trouble = fate.err().or(trouble);
                }
                crash_point("events published");
                event_outbox::forget(connection, &relayed).await?;
                if let Some(error) = trouble {
                    warn!(%error, people = held.people.len(), "events could not be published; trying again");
                    return Ok(Round::Stuck);
                }
                Ok(Round::Published { full })
            })
            .await
    }

    /// An event about somebody who was erased waits enclosed: it stays so if this daemon does not have the key.
    fn readable(&self, event: Waiting) -> Result<Waiting, Waiting> {
        if event.body.starts_with('{') {
            return Ok(event);
        }
        let Some(body) = self.keys.load().disclose(&event.body) else { return Err(event) };
        let envelope: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let subject = envelope["subject"].as_str().map_or(event.subject, str::to_owned);
        Ok(Waiting { subject, body, ..event })
    }

    fn message(&self, event: Waiting) -> Outgoing {
        Outgoing {
            exchange: self.exchange.clone(),
            routing_key: event.name,
            properties: Properties {
                content_type: Some("application/cloudevents+json".to_owned()),
                app_id: Some("regrant".to_owned()),
                ..Properties::default()
            },
            body: event.body.into_bytes(),
            persistent: true,
            mandatory: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_failed_event_of_the_same_person_stays_and_nothing_else() {
        let mut held = Held::default();
        let fates = [("ada", true), ("bob", false), ("ada", false), ("eve", true), ("bob", false), ("eve", true)];
        let stay = fates.map(|(subject, failed)| held.stays(subject.to_owned(), failed));
        assert_eq!(stay, [true, false, true, true, false, true]);
    }
}
