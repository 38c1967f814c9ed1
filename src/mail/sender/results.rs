//! What became of attempts: into the table, with the events, and told.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use rand::SeedableRng;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::domain::email_state::EmailState;
use crate::events::{self, EmailNews, Event, Origin};
use crate::ids::Ids;
use crate::mail::smtp::mask_addresses;
use crate::metrics::EmailOutcome;
use crate::store::emails::{self, Outcome};
use crate::store::{self, event_outbox};
use crate::vitals::Pulse;

use super::circuit::Phase;
use super::{Finished, Running, Sender, lock};

/// Results written together.
const TOGETHER: usize = 512;
/// How long the first result waits for those that are still in flight: a transaction for many costs hardly more than one.
const GATHER: Duration = Duration::from_millis(10);
/// How long results are tried to be written while the daemon stops.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Mails of which it is remembered that they only wait for the mail server. The others wait for the time that was noted.
const MOST_WAITING: usize = 10_000;

/// Comes when the daemon stops and results were tried to be written for long enough.
type Over = Shared<BoxFuture<'static, ()>>;

impl Sender {
    /// Writes results as they come, those that are there together in one transaction.
    pub(super) async fn write_results(
        self: Arc<Self>,
        mut finished: mpsc::Receiver<Finished>,
        running: Arc<Running>,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::new();
        let pulse = self.vitals.pulse("mail results");
        let over = async move {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        let over = over.boxed().shared();
        while pulse.waiting(finished.recv_many(&mut batch, TOGETHER)).await > 0 {
            let until = Instant::now() + GATHER;
            while batch.len() < TOGETHER.min(running.leases.len())
                && let Ok(1..) = timeout_at(until, finished.recv_many(&mut batch, TOGETHER)).await
            {}
            // Mails are locked in this order by whoever locks several.
            batch.sort_unstable_by_key(|finished| finished.outcome.id);
            self.record_surely(&batch, &pulse, &over).await;
            for finished in batch.drain(..) {
                running.leases.release(finished.outcome.id);
                let mut waiting = lock(&running.waiting);
                if finished.waits_for_server && waiting.len() < MOST_WAITING {
                    waiting.insert(finished.mail.id, finished.mail.attempts);
                }
                drop(waiting);
                self.tell(&finished);
            }
            // It may work again before it was written that they wait for it.
            if *running.circuit.phase().borrow() == Phase::Closed {
                self.wake_waiting(&running).await;
            }
        }
    }

    /// Tries until the results are written: a mail that was accepted would be sent again otherwise. Gives up only when it is
    /// `over`, or on results that the database refuses for good.
    async fn record_surely(&self, batch: &[Finished], pulse: &Pulse, over: &Over) {
        loop {
            pulse.beat();
            match self.record(batch).await {
                Ok(()) => return,
                Err(error) if error.is_unavailable() => self.database.report_down_for_leases(&error),
                // Somebody holds a row or the whole table: until then the leases are prolonged.
                Err(error) if error.is_passing() && batch.len() == 1 => {
                    debug!(%error, "the result of a mail waits");
                }
                Err(error) if batch.len() == 1 => {
                    let email_id = batch[0].mail.id;
                    error!(%error, %email_id, "the result of a mail cannot be written: it may be sent again");
                    return;
                }
                Err(error) => {
                    warn!(%error, "results of mails could not be written together; trying each alone");
                    for (number, one) in batch.iter().enumerate() {
                        if over.peek().is_some() {
                            return given_up(batch.len() - number);
                        }
                        Box::pin(self.record_surely(std::slice::from_ref(one), pulse, over)).await;
                    }
                    return;
                }
            }
            let again = async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.database.wait_until_up().await;
            };
            tokio::select! {
                () = pulse.waiting(again) => {}
                () = over.clone() => return given_up(batch.len()),
            }
        }
    }

    async fn record(&self, batch: &[Finished]) -> Result<(), store::Error> {
        let now = crate::clock::now();
        let mut connection = self.pool.get().await?;
        connection
            .transaction::<_, store::Error, _>(async |connection| self.settle(connection, batch, now).await)
            .await?;
        self.events.notify_one();
        Ok(())
    }

    /// Writes results, and the events of those that settle anything.
    #[expect(clippy::disallowed_methods, reason = "the seed of event ids")]
    pub(super) async fn settle(
        &self,
        connection: &mut AsyncPgConnection,
        batch: &[Finished],
        now: DateTime<Utc>,
    ) -> Result<(), store::Error> {
        let outcomes: Vec<Outcome> = batch.iter().map(|f| f.outcome.clone()).collect();
        let settled = emails::finish(connection, &outcomes, now).await?;
        let (mut ids, mut rng) = (Ids::default(), rand::rngs::StdRng::from_rng(&mut rand::rng()));
        let config = self.config.load_full();
        let queued: Vec<events::QueuedEvent> = batch
            .iter()
            .filter(|finished| settled.contains(&finished.mail.id))
            .filter_map(|finished| Some((finished, event(finished)?)))
            .map(|(finished, event)| {
                let origin = Origin {
                    command_id: finished.mail.command_id.as_deref(),
                    traceparent: finished.mail.traceparent.as_deref(),
                    ..Origin::default()
                };
                let id = ids.next(now, &mut rng);
                events::cloud_event(&event, &finished.mail.user_id, id, now, &config.events.source, &origin)
            })
            .collect();
        event_outbox::insert(connection, &queued, now).await
    }

    pub(super) fn tell(&self, finished: &Finished) {
        let Finished { outcome, mail, .. } = finished;
        let counted = match outcome.state {
            EmailState::Queued => EmailOutcome::Retried,
            // The last three are said of what was sent, by the provider and later.
            EmailState::Sent | EmailState::Delivered | EmailState::Bounced | EmailState::Complained => {
                EmailOutcome::Sent
            }
            EmailState::Failed => EmailOutcome::Failed,
            EmailState::Cancelled => EmailOutcome::Cancelled,
            EmailState::Expired => EmailOutcome::Expired,
            EmailState::Suppressed => EmailOutcome::Suppressed,
        };
        self.metrics.email(&mail.template, counted);
        if let Some(sent_at) = outcome.sent_at {
            self.metrics.email_delivery((sent_at - mail.queued_at).to_std().unwrap_or_default());
        }
        let reply = outcome.reply.as_deref().map(mask_addresses);
        let (email_id, template, attempt) = (mail.id, mail.template.as_str(), mail.attempts);
        // Which command asked for it, and in which trace.
        let command_id = mail.command_id.as_deref();
        let (trace_id, span_id) = mail.traceparent.as_deref().and_then(crate::telemetry::trace_ids).unzip();
        match counted {
            EmailOutcome::Sent | EmailOutcome::Cancelled | EmailOutcome::Expired | EmailOutcome::Suppressed => {
                info!(%email_id, template, outcome = counted.as_str(), attempt, reply, command_id, trace_id, span_id, "mail");
            }
            _ => {
                warn!(%email_id, template, outcome = counted.as_str(), attempt, reply, command_id, trace_id, span_id, "mail");
            }
        }
    }
}

fn given_up(mails: usize) {
    error!(mails, "results of mails could not be written before the daemon ended: they may be sent again");
}

/// What upstream apps hear of a result.
fn event(finished: &Finished) -> Option<Event> {
    let news = EmailNews::of(finished.outcome.state)?;
    let reply = finished.outcome.reply.as_deref().or(finished.mail.smtp_reply.as_deref());
    Some(Event::Email {
        email_id: finished.mail.id,
        template: finished.mail.template.clone(),
        news,
        smtp_reply: reply.map(mask_addresses),
    })
}
