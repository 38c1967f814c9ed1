//! Publishes events from the outbox: at least once, and in order for each person.
//!
//! One relay at a time, of all daemons, holds an advisory lock for the length of a transaction: it takes the oldest events,
//! publishes them with confirms, and deletes those that the broker took. See [`crate::store::event_outbox`] for the order.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use diesel_async::AsyncConnection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::broker::{Outgoing, Properties, Publisher};
use crate::crash_point::crash_point;
use crate::keys::KeyRing;
use crate::store::event_outbox::{self, Waiting};
use crate::store::health::Health;
use crate::store::{self, Pool};
use crate::vitals::Pulse;

/// Events a transaction: bounds how long it lasts.
const TOGETHER: i64 = 512;
/// How long the first event waits for others: a round for many costs hardly more than one.
const GATHER: Duration = Duration::from_millis(10);
/// How often to look for events that another daemon left behind.
const POLL: Duration = Duration::from_secs(1);
/// How long to rest while the broker does not take events: doubled each time.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(4);
/// How soon to look again while another daemon is at it.
const TURN: Duration = Duration::from_millis(20);

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
}

impl Relay {
    /// Relays until `stop`; then a last time, so that what was committed before is out.
    pub async fn run(self, stop: CancellationToken) {
        let mut stuck = SHORTEST;
        let mut nobody_rang = false;
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
                Ok(Round::Empty) => POLL,
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
                let Some(waiting) = event_outbox::lead(connection, TOGETHER).await? else {
                    return Ok(Round::Taken);
                };
                let full = i64::try_from(waiting.len()) == Ok(TOGETHER);
                if waiting.is_empty() {
                    return Ok(Round::Empty);
                }
                let mut confirmed = Vec::with_capacity(waiting.len());
                let (mut places, mut messages) = (Vec::new(), Vec::new());
                for event in waiting {
                    match self.readable(event) {
                        Ok(event) => {
                            places.push((event.seq, event.subject.clone()));
                            messages.push(self.message(event));
                        }
                        Err(seq) => confirmed.push(seq),
                    }
                }
                let fates = self.publisher.publish(messages).await;
                // What follows a failed event of the same person stays too; everybody else's is done, or a subscriber
                // that takes nothing would flood the others with repetitions.
                let mut held = HashSet::new();
                let mut trouble = None;
                for ((seq, subject), fate) in places.into_iter().zip(fates) {
                    match fate {
                        Ok(()) if !held.contains(&subject) => confirmed.push(seq),
                        Ok(()) => {}
                        Err(error) => {
                            held.insert(subject);
                            trouble = Some(error);
                        }
                    }
                }
                crash_point("events published");
                event_outbox::delete(connection, &confirmed).await?;
                if let Some(error) = trouble {
                    warn!(%error, events = held.len(), "events could not be published; trying again");
                    return Ok(Round::Stuck);
                }
                Ok(Round::Published { full })
            })
            .await
    }

    /// An event about somebody who was erased waits enclosed. If the key is gone it can never be published: it must not hold
    /// up the others.
    fn readable(&self, event: Waiting) -> Result<Waiting, i64> {
        if event.body.starts_with('{') {
            return Ok(event);
        }
        let Some(body) = self.keys.load().disclose(&event.body) else {
            error!(
                name = event.name,
                "an event is lost: it was enclosed with a key that the key file does not have any more"
            );
            return Err(event.seq);
        };
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
