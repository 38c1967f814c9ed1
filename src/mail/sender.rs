//! Sends queued mail: what was just committed at once, what a crash or a refusal left behind by a slow poll.
//!
//! The beginning of an attempt is on record, with a lease, before the message is handed over; so after a crash only mails
//! that were in flight can come twice, with the same Message-ID. Results are written back in batches.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use diesel_async::AsyncConnection;
use futures_util::FutureExt;
use rand::SeedableRng;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use uuid::Uuid;

use crate::config::Config;
use crate::crash_point::crash_point;
use crate::domain::email_address::email_key;
use crate::domain::explain::unsent;
use crate::keys::KeyRing;
use crate::metrics::Metrics;
use crate::store::emails::{self, Outcome, PersonOfMail, Queued, TicketOfMail, Which};
use crate::store::health::Health;
use crate::store::{self, Pool, accounts};
use crate::vitals::Vitals;

use super::catalogue::Template;
use super::message::dkim::Dkim;
use super::render::TemplateSet;
use super::transport::{Accepted, Failure, SendError, Transport};
use super::verdict::{self, Verdict};

mod circuit;
mod compose;
mod handover;
mod line;
mod places;
mod results;

pub use handover::{Claimed, Handover, Intake, Room};
pub use places::domain;

use circuit::{Circuit, News, Phase};
use compose::Unwritten;
use handover::HANDOVER;
use line::Line;
use places::{Fresh, Place, Places};

/// How long an attempt is this daemon's alone; prolonged while it lasts.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often leases are prolonged.
const PROLONG: Duration = Duration::from_secs(3);
/// Mails that travel together at most. When their connection is lost, all of those that the server had not answered for may have
/// been accepted, and go out again.
const TOGETHER: usize = 4;
/// What is noted of a mail at which this program failed.
const PANICKED: &str = "sending panicked";
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
    pub dkim: Option<Dkim>,
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
    mail: Queued,
    /// Only the mail server stands in its way.
    waits_for_server: bool,
    /// Free again when the result is written.
    #[expect(dead_code, reason = "held, not read")]
    place: Option<Place>,
}

/// What one look at the table came to.
#[derive(Default)]
struct Taken {
    claimed: Vec<Claimed>,
    /// Mails that were not sent any more.
    settled: usize,
    /// Mails whose domain has had its share.
    held_back: usize,
}

/// A mail that waits to be carried.
struct Waiting {
    claimed: Claimed,
    /// Dropped when the attempt is over.
    trial: Option<oneshot::Sender<()>>,
}

impl Waiting {
    /// Not tried, so there is no attempt to be noted.
    fn postponed(self) -> Finished {
        let Claimed { mail, place, .. } = self.claimed;
        let mut outcome = Outcome::of(mail.id, mail.attempts, crate::clock::now());
        outcome.failed = false;
        Sender::postpone(&mut outcome, &mail, Failure::Unreachable);
        Finished { outcome, mail, waits_for_server: true, place: Some(place) }
    }
}

/// Starts attempts.
#[derive(Clone)]
struct Attempts {
    running: Arc<Running>,
    results: mpsc::Sender<Finished>,
}

impl Attempts {
    /// Starts those that were committed as begun, until `stop` and there is none left.
    async fn begin(self, mut begun: mpsc::UnboundedReceiver<Claimed>, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                Some(claimed) = begun.recv() => self.start(claimed, None).await,
                () = stop.cancelled() => return,
            }
        }
    }

    async fn start(&self, claimed: Claimed, trial: Option<oneshot::Sender<()>>) {
        lock(&self.running.leases).insert(claimed.mail.id, Instant::now());
        let domain = domain(&claimed.mail.to_address);
        self.running.line.push(&domain, Waiting { claimed, trial });
        // The last look is after the push: whoever opens the circuit either finds the mail or is seen here.
        if self.running.circuit.is_open() {
            self.postpone_waiting().await;
        }
    }

    /// Gives up for now on whatever waits: all carriers may be busy with a server that does not answer.
    async fn postpone_waiting(&self) {
        for waiting in self.running.line.drain() {
            self.finish(waiting.postponed()).await;
        }
    }

    async fn finish(&self, finished: Finished) {
        // The writer ends only after the last of these, or with the daemon.
        let _ = self.results.send(finished).await;
    }
}

type Leases = Mutex<HashMap<Uuid, Instant>>;

/// What a running sender shares with its attempts.
struct Running {
    leases: Leases,
    line: Arc<Line<Waiting>>,
    places: Arc<Places>,
    circuit: Circuit,
    /// Mails that wait for the mail server, and how often each was tried: as soon as it works again they are due.
    waiting: Mutex<HashMap<Uuid, i32>>,
}

impl Sender {
    /// Sends until `stop`; then finishes what is in flight and writes the results.
    pub async fn run(self: Arc<Self>, intake: Intake, stop: CancellationToken) {
        let pulse = self.vitals.pulse("mail sender");
        let Intake { carriers, fresh: mut handed_over, begun, places, circuit, waiting: in_memory } = intake;
        let line = Line::new(carriers);
        let running = Arc::new(Running { leases: Leases::default(), line, places, circuit, waiting: Mutex::default() });
        let (results, finished) = mpsc::channel(running.places.limit());
        let attempts = Attempts { running: Arc::clone(&running), results };
        let mut writer = tokio::spawn(Arc::clone(&self).write_results(finished, Arc::clone(&running), stop.clone()));
        let prolonging = tokio::spawn(Arc::clone(&self).prolong(Arc::clone(&running)));
        let guarding = tokio::spawn(Arc::clone(&self).guard(attempts.clone()));
        let carrying = TaskTracker::new();
        for _ in 0..carriers {
            carrying.spawn(Arc::clone(&self).carry(attempts.clone()));
        }
        let beginning = tokio::spawn(attempts.clone().begin(begun, stop.clone()));
        let mut phase = running.circuit.phase();
        let mut fresh = Fresh::default();
        let mut next_poll = Instant::now();
        let (mut more_due, mut held_back) = (false, false);
        loop {
            in_memory.store(fresh.len(), Ordering::Relaxed);
            let ready = async {
                self.database.wait_until_up().await;
                running.places.wait_for_room().await;
                phase.wait_for(|phase| *phase != Phase::Open).await.map_or(Phase::Closed, |phase| *phase)
            };
            let phase = tokio::select! {
                () = stop.cancelled() => break,
                // Nothing may be sent whose result is not written.
                _ = &mut writer => return,
                phase = pulse.waiting(ready) => phase,
            };
            while fresh.len() < HANDOVER
                && let Ok((id, domain)) = handed_over.try_recv()
            {
                fresh.push(id, domain);
            }
            // Half open, one mail finds out whether the server works.
            let most = if phase == Phase::HalfOpen { 1 } else { running.places.room().max(1) };
            let poll = next_poll <= Instant::now();
            let chosen = if poll { Vec::new() } else { fresh.next(&running.places, most) };
            let taken = if !chosen.is_empty() {
                self.take_fresh(chosen).await
            } else if poll || more_due {
                next_poll = Instant::now() + POLL;
                // Mail that is due goes on also while there is always some that is fresh, which goes first.
                let most = if fresh.is_empty() { most } else { most.div_ceil(4) };
                let taken = self.take_due(most, &running).await;
                more_due = taken.claimed.len() + taken.settled >= most;
                held_back = taken.held_back > 0;
                taken
            } else {
                tokio::select! {
                    () = stop.cancelled() => break,
                    Some((id, domain)) = handed_over.recv(), if fresh.len() < HANDOVER => fresh.push(id, domain),
                    // Some of those that their domain's share held back may go now.
                    () = running.places.freed(), if held_back || !fresh.is_empty() => more_due = held_back,
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
        // What was committed with its attempt on record is sent too: nobody else would before the lease is over.
        let _ = pulse.waiting(beginning).await;
        running.line.close();
        carrying.close();
        pulse.waiting(carrying.wait()).await;
        // The writer ends when nobody can bring it anything any more.
        guarding.abort();
        let _ = guarding.await;
        drop(attempts);
        let _ = writer.await;
        prolonging.abort();
        self.transport.close().await;
    }

    /// Takes up mails that were just committed, each with its place.
    async fn take_fresh(&self, chosen: Vec<(Uuid, Place)>) -> Taken {
        let ids: Vec<Uuid> = chosen.iter().map(|(id, _)| *id).collect();
        let mut places: HashMap<Uuid, Place> = chosen.into_iter().collect();
        self.take_up(Which::Fresh(&ids), |mail| places.remove(&mail.id)).await
    }

    /// Takes up mails whose time has come, of domains that have not had their share.
    async fn take_due(&self, most: usize, running: &Running) -> Taken {
        let own: Vec<Uuid> = lock(&running.leases).keys().copied().collect();
        let full = running.places.full();
        let due = Which::Due { most: i64::try_from(most).unwrap_or(1), but: &own, but_domains: &full };
        let mut taken = self.take_up(due, |mail| running.places.take(&domain(&mail.to_address))).await;
        taken.held_back += full.len();
        taken
    }

    /// Puts the beginning of attempts on record; settles mails that have nothing to say any more.
    async fn take_up(&self, which: Which<'_>, place: impl FnMut(&Queued) -> Option<Place> + Send) -> Taken {
        self.try_to_take_up(which, place).await.unwrap_or_else(|error| {
            self.trouble("mail could not be taken up", &error);
            Taken::default()
        })
    }

    async fn try_to_take_up(
        &self,
        which: Which<'_>,
        mut place: impl FnMut(&Queued) -> Option<Place> + Send,
    ) -> Result<Taken, store::Error> {
        let mut connection = self.pool.get().await?;
        // Mostly nothing is.
        if matches!(which, Which::Due { .. }) && !emails::any_due(&mut connection).await? {
            return Ok(Taken::default());
        }
        let templates = self.templates.load_full();
        let (taken, dropped) = connection
            .transaction::<_, store::Error, _>(async |connection| {
                let (mails, tickets, people) = emails::lock(connection, which).await?;
                let now = crate::clock::now();
                let keys: BTreeSet<String> = mails.iter().map(|mail| email_key(&mail.to_address)).collect();
                let suppressed = accounts::suppressed(connection, &keys).await?;
                let tickets: HashMap<Uuid, TicketOfMail> = tickets.into_iter().map(|t| (t.id, t)).collect();
                let people: HashMap<String, PersonOfMail> = people.into_iter().map(|p| (p.id.clone(), p)).collect();
                let (mut taken, mut dropped) = (Taken::default(), Vec::new());
                for mail in mails {
                    let ticket = mail.ticket_id.and_then(|id| tickets.get(&id));
                    let person = people.get(&mail.user_id);
                    let is_suppressed = suppressed.contains(&email_key(&mail.to_address));
                    let mut verdict = verdict::verdict(&mail, ticket, person, is_suppressed, now);
                    let template = mail.template.parse::<Template>();
                    if template.is_ok_and(|t| !templates.enabled(t, &mail.site, mail.locale.as_deref())) {
                        verdict = Verdict::Cancel(unsent::TEMPLATE_OFF);
                    }
                    let settle = |state, why: Option<&str>| {
                        let reply = why.map(str::to_owned);
                        Outcome { state, reply, failed: false, ..Outcome::of(mail.id, mail.attempts, now) }
                    };
                    let outcome = match (verdict, person) {
                        (Verdict::Send, Some(person)) => {
                            let Some(place) = place(&mail) else {
                                taken.held_back += 1;
                                continue;
                            };
                            taken.claimed.push(Claimed {
                                ticket: ticket.cloned(),
                                person: person.clone(),
                                mail,
                                place,
                            });
                            continue;
                        }
                        (Verdict::Cancel(why), _) => settle("cancelled", Some(why)),
                        (Verdict::Expire, _) => settle("expired", None),
                        (Verdict::Suppress, _) => settle("suppressed", Some("the address bounced or complained")),
                        (Verdict::GiveUp, _) | (Verdict::Send, None) => settle("failed", None),
                    };
                    dropped.push(Finished { outcome, mail, waits_for_server: false, place: None });
                }
                let ids: Vec<Uuid> = taken.claimed.iter().map(|c| c.mail.id).collect();
                emails::begin(connection, &ids, LEASE).await?;
                for claimed in &mut taken.claimed {
                    claimed.mail.attempts += 1;
                }
                self.settle(connection, &dropped, now).await?;
                taken.settled = dropped.len();
                Ok((taken, dropped))
            })
            .await?;
        for finished in &dropped {
            self.tell(finished);
            self.events.notify_one();
        }
        Ok(taken)
    }

    /// Carries what waits to the mail server, until the line is closed and empty.
    async fn carry(self: Arc<Self>, attempts: Attempts) {
        let Running { line, circuit, .. } = &*attempts.running;
        while let Some(mut group) = line.next(TOGETHER).await {
            // It may have opened just now.
            if circuit.is_open() {
                for waiting in group.mails.drain(..) {
                    attempts.finish(waiting.postponed()).await;
                }
                continue;
            }
            // Held until their results are on their way.
            let (mails, trials): (Vec<_>, Vec<_>) =
                group.mails.drain(..).map(|waiting| (waiting.claimed, waiting.trial)).unzip();
            for finished in self.attempt(mails, circuit).await {
                attempts.finish(finished).await;
            }
            drop(trials);
        }
    }

    /// One attempt for each, from rendering to the server's last word. Each ends with a result whatever happens.
    async fn attempt(&self, mails: Vec<Claimed>, circuit: &Circuit) -> Vec<Finished> {
        let mut finished = Vec::with_capacity(mails.len());
        let (mut ids, mut messages, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
        // Written only now: what waits takes no room for a message, and it is sent while it is fresh in the cache.
        for Claimed { mail, ticket, person, place } in mails {
            let mut outcome = Outcome::of(mail.id, mail.attempts, crate::clock::now());
            let written = catch_unwind(AssertUnwindSafe(|| self.write(&mail, ticket.as_ref(), &person)));
            match written.unwrap_or_else(|_| Err(Unwritten::ForNow(PANICKED.to_owned()))) {
                Ok((subject, built)) => {
                    outcome.subject = Some(subject);
                    ids.push(mail.id);
                    messages.push(built);
                    attempts.push((outcome, mail, place));
                    continue;
                }
                Err(Unwritten::Final(why)) => {
                    outcome.state = "failed";
                    outcome.reply = Some(why);
                }
                Err(Unwritten::ForNow(why)) => {
                    outcome.reply = Some(why);
                    Self::postpone(&mut outcome, &mail, Failure::Transient);
                }
            }
            finished.push(Finished { outcome, mail, waits_for_server: false, place: Some(place) });
        }
        crash_point("mail claimed");
        let sending = AssertUnwindSafe(self.transport.send(&ids, &messages)).catch_unwind().await;
        crash_point("mail accepted");
        let mut sent = sending.unwrap_or_default().into_iter();
        for (mut outcome, mail, place) in attempts {
            let waits_for_server = if let Some(sent) = sent.next() {
                Self::conclude(&mut outcome, &mail, sent, circuit)
            } else {
                outcome.reply = Some(PANICKED.to_owned());
                Self::postpone(&mut outcome, &mail, Failure::Transient);
                false
            };
            finished.push(Finished { outcome, mail, waits_for_server, place: Some(place) });
        }
        finished
    }

    /// Takes in what the server made of a mail; whether the mail only waits for the server to work.
    fn conclude(outcome: &mut Outcome, mail: &Queued, sent: Result<Accepted, SendError>, circuit: &Circuit) -> bool {
        let is_open = match &sent {
            Err(error) if error.with_another => circuit.is_open(),
            _ => circuit.hear(&News::of(&sent, &domain(&mail.to_address))),
        };
        match sent {
            Ok(accepted) => {
                outcome.state = "sent";
                outcome.sent_at = Some(crate::clock::now());
                outcome.reply = Some(accepted.reply);
                outcome.failed = false;
                false
            }
            Err(error) => {
                if error.kind == Failure::Permanent {
                    outcome.state = "failed";
                } else {
                    Self::postpone(outcome, mail, error.kind);
                }
                outcome.reply = Some(error.reply);
                is_open && error.kind == Failure::Unreachable
            }
        }
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

    #[expect(clippy::disallowed_methods, reason = "the seed of a delay's jitter")]
    fn postpone(outcome: &mut Outcome, mail: &Queued, failure: Failure) {
        let mut rng = rand::rngs::StdRng::from_rng(&mut rand::rng());
        // Never past its end: at that moment it is settled as expired or failed.
        let at = crate::clock::now() + verdict::delay(mail.attempts, failure, &mut rng);
        outcome.next_attempt_at = at.min(mail.give_up_at);
    }

    /// Keeps other daemons from mails that are still being handed over here.
    async fn prolong(self: Arc<Self>, running: Arc<Running>) {
        let pulse = self.vitals.pulse("mail leases");
        loop {
            pulse.waiting(tokio::time::sleep(PROLONG)).await;
            let ids: Vec<Uuid> = lock(&running.leases)
                .iter()
                .filter(|(_, since)| since.elapsed() >= PROLONG)
                .map(|(id, _)| *id)
                .collect();
            if ids.is_empty() {
                continue;
            }
            let prolonged = async { emails::prolong(&*self.pool.get().await?, &ids, LEASE).await };
            if let Err(error) = prolonged.await {
                self.trouble("leases of mails could not be prolonged", &error);
            }
        }
    }

    fn trouble(&self, what: &str, error: &store::Error) {
        if error.is_unavailable() {
            self.database.report_down(error);
        } else {
            warn!(%error, "{what}");
        }
    }
}

/// Nothing panics while they are held, so a poisoned lock protects sound data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
