//! Publishes events from the outbox: at least once, and in order for each person.
//!
//! One relay at a time, of all daemons, holds an advisory lock for the length of a transaction: it takes the oldest events,
//! publishes them with confirms, and deletes those that the broker took. See [`crate::store::event_outbox`] for the order.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::TimeDelta;
use diesel_async::AsyncConnection;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::broker::{Outgoing, Properties, Publisher};
use crate::crash_point::crash_point;
use crate::keys::KeyRing;
use crate::store::event_outbox;
use crate::store::health::Health;
use crate::store::packed_events::Waiting;
use crate::store::{self, Pool};
use crate::vitals::Pulse;

use super::refused::{Again, Refused};
use super::steps::{Outcome, Steps};

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
/// How long an event stays that is encrypted with a key which this daemon does not have: another daemon may have it, or this one
/// after it read its key file again.
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
    /// Decrypt events about people who were erased.
    pub keys: Arc<ArcSwap<KeyRing>>,
    /// Rung after each commit that queued events.
    pub woken: Arc<Notify>,
    /// Shows that it runs.
    pub pulse: Pulse,
}

/// What a round came to.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// Nothing waits but what is passed over.
    Empty,
    /// What was taken is published, or stays and is passed over from now on.
    Done {
        /// As many as go together: there are more.
        full: bool,
    },
    /// Another daemon is at it.
    Taken,
    /// The broker takes no events now.
    Stuck,
}

impl Relay {
    /// Relays until `stop`; then a last time, so that what was committed before is out.
    pub async fn run(self, stop: CancellationToken) {
        let mut refused = Refused::default();
        // What stays is tried again then.
        let mut again = None;
        let mut rest = SHORTEST;
        let mut nobody_rang = false;
        while stop.run_until_cancelled(self.pulse.waiting(self.database.wait_until_up())).await.is_some() {
            if again.is_some_and(|at| at <= Instant::now()) {
                refused.begin_again();
                again = None;
            }
            let round = if nobody_rang { self.look(&mut refused).await } else { self.round(&mut refused).await };
            let pause = match round {
                Ok(Round::Done { full: true }) if !stop.is_cancelled() => continue,
                // Whoever committed meanwhile has rung.
                Ok(Round::Done { .. } | Round::Empty) => {
                    match refused.again() {
                        Again::Nothing => {
                            rest = SHORTEST;
                            refused.told_of_keys = false;
                        }
                        Again::AtOnce if again.is_none() => {
                            rest = SHORTEST;
                            again = Some(Instant::now());
                        }
                        Again::Later if again.is_none() => {
                            rest = (rest * 2).min(LONGEST);
                            again = Some(Instant::now() + rest);
                        }
                        Again::AtOnce | Again::Later => {}
                    }
                    POLL
                }
                Ok(Round::Taken) => TURN,
                Ok(Round::Stuck) => {
                    rest = (rest * 2).min(LONGEST);
                    rest
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
            let rings = pause == POLL;
            let until = again.map_or(pause, |at| at.saturating_duration_since(Instant::now()).min(pause));
            nobody_rang = false;
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.woken.notified(), if rings => tokio::time::sleep(GATHER).await,
                () = self.pulse.waiting(tokio::time::sleep(until)) => nobody_rang = rings && again.is_none(),
            }
        }
        if self.database.problem().is_some() {
            return;
        }
        while let Ok(Round::Done { full: true }) = self.round(&mut refused).await {}
    }

    /// A round if anything waits; mostly nothing does.
    async fn look(&self, refused: &mut Refused) -> Result<Round, store::Error> {
        let mut connection = self.pool.get().await?;
        if event_outbox::is_empty(&mut connection).await? {
            return Ok(Round::Empty);
        }
        drop(connection);
        self.round(refused).await
    }

    async fn round(&self, refused: &mut Refused) -> Result<Round, store::Error> {
        if refused.is_full() {
            return Ok(Round::Empty);
        }
        let mut connection = self.pool.get().await?;
        let relayed = connection
            .transaction::<_, store::Error, _>(async |connection| {
                let Some(rows) = event_outbox::lead(connection, TOGETHER, &refused.rows()).await? else {
                    return Ok(None);
                };
                if rows.is_empty() {
                    return Ok(Some(Outcome::default()));
                }
                let outcome = self.publish(rows, refused).await?;
                crash_point("events published");
                event_outbox::forget(connection, &outcome.rows).await?;
                Ok(Some(outcome))
            })
            .await;
        let Some(Outcome { rows, unsent, trouble, without_key }) = relayed? else { return Ok(Round::Taken) };
        if rows.is_empty() {
            return Ok(Round::Empty);
        }
        for row in &rows {
            if !row.stay.is_empty() && !unsent.contains(&row.seq) {
                refused.pass_over(row.seq);
            }
        }
        if without_key && !refused.told_of_keys {
            refused.told_of_keys = true;
            warn!(
                "events wait that are encrypted with a key which this daemon does not have: another daemon \
                 publishes them, or this one after SIGHUP or a restart; see `regrant keys show`"
            );
        }
        if let Some(error) = trouble {
            warn!(
                %error,
                names = refused.names(),
                people = refused.people(),
                "events could not be published; trying again, and what follows about the same people waits. If the broker is \
                 well, a queue that is bound to these names is full and refuses them"
            );
        }
        Ok(if unsent.is_empty() {
            Round::Done { full: i64::try_from(rows.len()) == Ok(TOGETHER) }
        } else {
            Round::Stuck
        })
    }

    /// Publishes what may be published of the rows.
    async fn publish(&self, rows: Vec<event_outbox::Row>, refused: &mut Refused) -> Result<Outcome, store::Error> {
        let too_old = crate::clock::now() - WITHOUT_KEY;
        let keys = self.keys.load();
        let mut steps = Steps::new(refused);
        for row in rows {
            let events = match row.unpack() {
                Ok(events) => events,
                Err(error) => {
                    // A daemon of another version may have written it and know it. Everybody else's events go on.
                    if steps.add_strange_row(row.seq) {
                        error!(
                            %error,
                            "its events wait until a daemon of the version that wrote them runs, or somebody deletes the row"
                        );
                    }
                    continue;
                }
            };
            steps.add_row(row.seq, events.len());
            for (place, event) in events.into_iter().enumerate() {
                match readable(&keys, event) {
                    Ok(event) => steps.add(place, event),
                    Err(event) if row.created_at > too_old => steps.add_unreadable(place, event),
                    Err(Waiting { name, .. }) => {
                        error!(name, "an event is lost: for an hour no daemon could decrypt it");
                    }
                }
            }
        }
        loop {
            let step = steps.next();
            if step.is_empty() {
                return Ok(steps.finish());
            }
            let messages = step.into_iter().map(|event| self.message(event)).collect();
            steps.settle(self.publisher.publish(messages).await);
            self.pulse.beat();
        }
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

/// An event about somebody who was erased waits encrypted: it stays so if this daemon does not have the key. What was encrypted must be
/// a `CloudEvent`: anything else is never published.
fn readable(keys: &KeyRing, event: Waiting) -> Result<Waiting, Waiting> {
    /// Who the event is about, in place of the pseudonym under which it waited.
    #[derive(Deserialize)]
    struct Envelope {
        subject: String,
    }
    if event.body.starts_with('{') {
        return Ok(event);
    }
    let Some(body) = keys.decrypt_at_rest(&event.body) else { return Err(event) };
    match serde_json::from_str(&body) {
        Ok(Envelope { subject }) => Ok(Waiting { subject, body, ..event }),
        Err(_) => Err(event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(body: String) -> Waiting {
        Waiting { subject: "erased:x".to_owned(), name: "user.erased".to_owned(), body }
    }

    #[test]
    fn only_an_event_is_published_of_what_was_encrypted() {
        let now = crate::clock::now();
        let keys = KeyRing::generate(now);
        let told = r#"{"subject":"ada","id":"1"}"#;
        let event = readable(&keys, waiting(keys.encrypt_at_rest(told).unwrap())).unwrap();
        assert_eq!((event.subject.as_str(), event.body.as_str()), ("ada", told));
        let other = KeyRing::generate(now).encrypt_at_rest(told).unwrap();
        let none = ["", "null", "[]", r#"{"id":"1"}"#].map(|text| keys.encrypt_at_rest(text).unwrap());
        for body in none.into_iter().chain([other, String::new()]) {
            let event = waiting(body);
            assert_eq!(readable(&keys, event.clone()), Err(event));
        }
    }
}
