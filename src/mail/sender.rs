//! Sends queued mail: what was just committed at once, what a crash or a refusal left behind by a slow poll.
//!
//! The beginning of an attempt is on record, with a lease, before the message is handed over; so after a crash only mails
//! that were in flight can come twice, with the same Message-ID. Results are written back in batches.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use uuid::Uuid;

use crate::config::Config;
use crate::keys::KeyRing;
use crate::metrics::Metrics;
use crate::store::emails::{self, Outcome, QueuedEmail};
use crate::store::health::Health;
use crate::store::{self, Pool};
use crate::vitals::{Pulse, Vitals};

use super::message::dkim::Dkim;
use super::render::TemplateSet;
use super::transport::Transport;

mod attempts;
mod circuit;
mod compose;
mod fair_queue;
mod handover;
mod in_flight;
mod late;
mod leases;
mod results;
mod take_up;

pub use handover::{Claimed, Handover, Intake, Reservation};
pub use in_flight::domain;

use attempts::{Attempts, Waiting};
use circuit::{Circuit, Phase};
use fair_queue::FairQueue;
use handover::HANDOVER;
use in_flight::{Fresh, InFlightLimit, Permit};
use leases::{Leases, Moment};
use take_up::Progress;

/// How long an attempt is this daemon's alone; prolonged while it lasts.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often leases are prolonged.
const PROLONG: Duration = Duration::from_secs(3);
/// The age from which on a lease that was not prolonged may be over before the mail server has the mail.
const DOUBTFUL: Duration = Duration::from_secs(10);
/// The time after an outage of the database in which other daemons may write the results of their mails and prolong their leases.
const OTHERS_FIRST: Duration = Duration::from_secs(5);
/// How often the table is asked for mail that is due.
const POLL: Duration = Duration::from_secs(1);

/// What sending needs.
pub struct Sender {
    /// The configuration; a reload replaces it.
    pub config: Arc<ArcSwap<Config>>,
    /// Derives links and codes.
    pub keys: Arc<ArcSwap<KeyRing>>,
    /// The templates; a reload replaces them.
    pub templates: Arc<ArcSwap<TemplateSet>>,
    /// The database.
    pub pool: Pool,
    /// Whether the database answers.
    pub database: Health,
    /// The way out.
    pub transport: Transport,
    /// Signs, if configured.
    pub dkim: Option<Arc<Dkim>>,
    /// Wakes the relay of events.
    pub events: Arc<Notify>,
    /// The metrics.
    pub metrics: Metrics,
    /// Where its loops show that they run.
    pub vitals: Vitals,
}

/// A finished attempt on its way to the table.
struct Finished {
    outcome: Outcome,
    mail: QueuedEmail,
    /// Only the mail server stands in its way.
    waits_for_server: bool,
    /// Given back when the result is written.
    #[expect(dead_code, reason = "held, not read")]
    permit: Option<Permit>,
}

/// What a running sender shares with its attempts.
struct Running {
    leases: Leases,
    queue: Arc<FairQueue<Waiting>>,
    in_flight: Arc<InFlightLimit>,
    circuit: Circuit,
    /// Mails that wait for the mail server, and how often each was tried: as soon as it works again they are due.
    waiting: Mutex<HashMap<Uuid, i32>>,
}

/// Tasks that work while a sender runs.
struct Tasks {
    /// Writes results; ends when nobody can bring it any more.
    writer: JoinHandle<()>,
    /// Starts what is committed with its attempt on record.
    beginning: JoinHandle<()>,
    workers: TaskTracker,
    prolonging: JoinHandle<()>,
    guarding: JoinHandle<()>,
}

impl Sender {
    /// Sends until `stop`; then finishes what is in flight and writes the results.
    pub async fn run(self: Arc<Self>, intake: Intake, stop: CancellationToken) {
        let pulse = self.vitals.pulse("mail sender");
        let Intake { workers, fresh: mut handed_over, begun, in_flight, circuit, waiting: in_memory } = intake;
        let queue = FairQueue::new(workers);
        let running =
            Arc::new(Running { leases: Leases::default(), queue, in_flight, circuit, waiting: Mutex::default() });
        let (results, finished) = mpsc::channel(running.in_flight.limit());
        let attempts = Attempts { running: Arc::clone(&running), results };
        let mut tasks = self.start(workers, &attempts, (begun, finished), &stop);
        let mut phase = running.circuit.phase();
        let mut fresh = Fresh::default();
        let mut next_poll = Instant::now();
        let (mut more_due, mut held_back, mut progress) = (false, false, Progress::default());
        loop {
            in_memory.store(fresh.len(), Ordering::Relaxed);
            let ready = async {
                self.database.wait_until_up().await;
                running.in_flight.wait_until_free().await;
                phase.wait_for(|phase| *phase != Phase::Open).await.map_or(Phase::Closed, |phase| *phase)
            };
            let phase = tokio::select! {
                () = stop.cancelled() => break,
                // Nothing may be sent whose result is not written, nor without a lease.
                () = tasks.ended() => return,
                phase = pulse.waiting(ready) => phase,
            };
            while fresh.len() < HANDOVER
                && let Ok((id, domain)) = handed_over.try_recv()
            {
                fresh.push(id, domain);
            }
            // Half open, one mail finds out whether the server works.
            let most = if phase == Phase::HalfOpen { 1 } else { running.in_flight.free().max(1) };
            let poll = next_poll <= Instant::now();
            let chosen = if poll { Vec::new() } else { fresh.next(&running.in_flight, most) };
            let taken = if !chosen.is_empty() {
                self.take_fresh(chosen).await
            } else if poll || more_due {
                next_poll = Instant::now() + POLL;
                // Mail that is due goes on also while there is always some that is fresh, which goes first.
                let most = if fresh.is_empty() { most } else { most.div_ceil(4) };
                let taken = self.take_due(most, &running, &mut progress).await;
                more_due = taken.claimed.len() + taken.settled >= most;
                held_back = taken.held_back > 0;
                taken
            } else {
                tokio::select! {
                    () = stop.cancelled() => break,
                    Some((id, domain)) = handed_over.recv(), if fresh.len() < HANDOVER => fresh.push(id, domain),
                    // Some of those that their domain's share held back may go now.
                    () = running.in_flight.freed(), if held_back || !fresh.is_empty() => more_due = held_back,
                    () = sleep_until(next_poll) => {}
                }
                continue;
            };
            for claimed in taken.claimed {
                if phase != Phase::HalfOpen {
                    attempts.start(claimed, None).await;
                    continue;
                }
                let (trial, over) = oneshot::channel();
                attempts.start(claimed, Some(trial)).await;
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = pulse.waiting(over) => {}
                }
            }
        }
        self.wind_down(tasks, attempts, &pulse).await;
    }

    fn start(
        self: &Arc<Self>,
        workers: usize,
        attempts: &Attempts,
        (begun, finished): (mpsc::UnboundedReceiver<Claimed>, mpsc::Receiver<Finished>),
        stop: &CancellationToken,
    ) -> Tasks {
        let running = &attempts.running;
        let tasks = Tasks {
            writer: tokio::spawn(Arc::clone(self).write_results(finished, Arc::clone(running), stop.clone())),
            beginning: tokio::spawn(attempts.clone().begin(begun, stop.clone())),
            workers: TaskTracker::new(),
            prolonging: tokio::spawn(Arc::clone(self).prolong(Arc::clone(running))),
            guarding: tokio::spawn(Arc::clone(self).guard(attempts.clone())),
        };
        for _ in 0..workers {
            tasks.workers.spawn(Arc::clone(self).work(attempts.clone()));
        }
        tasks
    }

    /// Finishes what is in flight and writes the results.
    async fn wind_down(&self, tasks: Tasks, attempts: Attempts, pulse: &Pulse) {
        let Tasks { writer, beginning, workers, prolonging, guarding } = tasks;
        // What was committed with its attempt on record is sent too: nobody else would before the lease is over.
        let _ = pulse.waiting(beginning).await;
        attempts.running.queue.close();
        workers.close();
        pulse.waiting(workers.wait()).await;
        // The writer ends when nobody can bring it anything any more.
        guarding.abort();
        let _ = guarding.await;
        drop(attempts);
        let _ = writer.await;
        prolonging.abort();
        self.transport.close().await;
    }

    /// Sees to it that mail does not wait for a server that does not work, and is tried again as soon as it works again.
    async fn guard(self: Arc<Self>, attempts: Attempts) {
        let running = &attempts.running;
        let mut phase = running.circuit.phase();
        let changes = async {
            while phase.changed().await.is_ok() {
                let now = *phase.borrow_and_update();
                match now {
                    Phase::Open => attempts.postpone_waiting().await,
                    Phase::Closed => self.wake_waiting(running).await,
                    Phase::HalfOpen => {}
                }
            }
        };
        tokio::join!(running.circuit.guard(&self.transport), changes);
    }

    /// Makes the mails due that waited for the mail server.
    async fn wake_waiting(&self, running: &Running) {
        let waiting: Vec<(Uuid, i32)> = lock(&running.waiting).drain().collect();
        if waiting.is_empty() {
            return;
        }
        let woken = async { emails::make_due(&*self.pool.get().await?, &waiting).await };
        if let Err(error) = woken.await {
            // They are tried again all the same, at the time that was noted when they failed.
            self.trouble("mail that waited for the mail server could not be made due", &error);
        }
    }

    /// Keeps other daemons from mails that are still being handed over here.
    async fn prolong(self: Arc<Self>, running: Arc<Running>) {
        let pulse = self.vitals.pulse("mail leases");
        loop {
            pulse.waiting(tokio::time::sleep(PROLONG)).await;
            let old = running.leases.older_than(PROLONG);
            if old.is_empty() {
                continue;
            }
            if let Err(error) = self.prolong_leases(&running.leases, &old).await {
                self.trouble("leases of mails could not be prolonged", &error);
            }
        }
    }

    /// Prolongs what is still this daemon's.
    async fn prolong_leases(&self, leases: &Leases, mails: &[(Uuid, i32)]) -> Result<Vec<Uuid>, store::Error> {
        let connection = self.pool.get().await?;
        let from = Moment::now();
        let ours = emails::prolong(&connection, mails, LEASE).await?;
        leases.prolonged(&ours, from);
        Ok(ours)
    }

    fn trouble(&self, what: &str, error: &store::Error) {
        if error.is_unavailable() {
            self.database.report_down_for_leases(error);
        } else {
            warn!(%error, "{what}");
        }
    }
}

impl Tasks {
    /// Ends when one of those has ended that never do while the sender runs: it panicked.
    async fn ended(&mut self) {
        tokio::select! {
            _ = &mut self.writer => {}
            _ = &mut self.prolonging => {}
            _ = &mut self.guarding => {}
        }
    }
}

/// Nothing panics while they are held, so a poisoned lock protects sound data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
