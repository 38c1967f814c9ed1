//! Where committed mail is handed over to be sent.
//!
//! Where there is a permit for it, a mail's first attempt begins with the transaction that asks for it: its row is born with
//! the attempt on record, and nothing has to be read or written again before it is sent. The others wait in memory for a
//! permit; and if memory, too, is full, for the poll.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tracing::debug;
use uuid::Uuid;

use crate::mail::verdict::{Verdict, verdict};
use crate::metrics::Metrics;
use crate::store::emails::{PersonOfMail, QueuedEmail, TicketOfMail};

use super::circuit::{Circuit, Phase};
use super::in_flight::{InFlightLimit, Permit, ReservedPermits, domain};
use super::leases::Moment;

/// Mails that may wait in memory for their first attempt. More are left to the poll: a row is all that they need.
pub(super) const HANDOVER: usize = 65_536;

/// The longest that commands wait for mail that was asked for before to go out.
const PATIENCE: Duration = Duration::from_millis(250);
/// They wait no longer if not one mail has gone out for this long: the mail server takes its time.
const STANDSTILL: Duration = Duration::from_millis(50);

/// Where committed mail is handed over. Cheap to clone.
#[derive(Clone)]
pub struct Handover {
    fresh: mpsc::Sender<(Uuid, String)>,
    // Bounded by the limit: each of these has a permit.
    begun: mpsc::UnboundedSender<Claimed>,
    in_flight: Arc<InFlightLimit>,
    phase: watch::Receiver<Phase>,
    waiting: Arc<AtomicUsize>,
}

/// Permits for mail that a transaction is about to ask for. What is not used is free again when it is dropped.
pub struct Reservation(ReservedPermits);

/// The other end of a [`Handover`], for [`super::Sender::run`].
pub struct Intake {
    /// Batches of mail that may be on their way to the mail server at once: one for each connection.
    pub(super) workers: usize,
    pub(super) fresh: mpsc::Receiver<(Uuid, String)>,
    pub(super) begun: mpsc::UnboundedReceiver<Claimed>,
    pub(super) in_flight: Arc<InFlightLimit>,
    pub(super) circuit: Circuit,
    /// How many wait in memory, for whoever comes after them.
    pub(super) waiting: Arc<AtomicUsize>,
}

/// A mail whose attempt is on record, or will be with the transaction that asks for it.
pub struct Claimed {
    pub(super) mail: QueuedEmail,
    pub(super) ticket: Option<TicketOfMail>,
    pub(super) person: PersonOfMail,
    pub(super) permit: Permit,
    /// Before the attempt began.
    pub(super) from: Moment,
}

impl Handover {
    /// A handover and its other end, for a mail server to which there are `connections` connections.
    pub fn new(connections: usize, metrics: &Metrics) -> (Self, Intake) {
        let (fresh, handed_over) = mpsc::channel(HANDOVER);
        let (begun, beginning) = mpsc::unbounded_channel();
        let (in_flight, circuit) = (InFlightLimit::for_connections(connections), Circuit::new(metrics.clone()));
        let (phase, waiting) = (circuit.phase(), Arc::<AtomicUsize>::default());
        let intake = Intake {
            workers: connections,
            fresh: handed_over,
            begun: beginning,
            in_flight: Arc::clone(&in_flight),
            circuit,
            waiting: Arc::clone(&waiting),
        };
        (Self { fresh, begun, in_flight, phase, waiting }, intake)
    }

    /// Takes a permit of the reservation for the first attempt of a mail that is about to be committed as begun; given back when it is dropped,
    /// as it is if the transaction comes to nothing. None: it is to be committed as waiting, and handed over by
    /// [`Self::hand_over`].
    pub fn claim(
        &self,
        reservation: &mut Reservation,
        mail: QueuedEmail,
        ticket: Option<TicketOfMail>,
        person: PersonOfMail,
        now: DateTime<Utc>,
    ) -> Option<Claimed> {
        let sent = verdict(&mail, ticket.as_ref(), Some(&person), false, now) == Verdict::Send;
        if !sent || self.before() > 0 || *self.phase.borrow() != Phase::Closed {
            return None;
        }
        let permit = reservation.0.take(&domain(&mail.to_address))?;
        let mail = QueuedEmail { attempts: 1, ..mail };
        Some(Claimed { mail, ticket, person, permit, from: Moment::now() })
    }

    /// How many wait in memory: those that came before go first.
    fn before(&self) -> usize {
        self.waiting.load(Ordering::Relaxed) + (self.fresh.max_capacity() - self.fresh.capacity())
    }

    /// Sends what was committed as begun.
    pub fn begin(&self, claimed: impl IntoIterator<Item = Claimed>) {
        for claimed in claimed {
            // The other end goes last, with the daemon.
            let _ = self.begun.send(claimed);
        }
    }

    /// Hands mails over that were committed as waiting, each with its address; those that find no room are taken up by the
    /// poll.
    pub fn hand_over<'a>(&self, mails: impl Iterator<Item = (Uuid, &'a str)>) {
        for (id, address) in mails {
            if self.fresh.try_send((id, domain(address))).is_err() {
                debug!("mail is left to the poll");
                return;
            }
        }
    }

    /// Permits for `mails` mails, or as many as there are; waits a moment for them if mail flows: a backlog of commands then
    /// goes no faster than its mail, which is sent at once instead of being put down and taken up again. Where the mail server is
    /// slower than the commands, so that mail gathers, nobody waits for it.
    pub async fn reserve(&self, mails: usize) -> Reservation {
        let until = Instant::now() + PATIENCE;
        loop {
            let given_back = self.in_flight.given_back();
            let before = self.before();
            let enough = before == 0 && self.in_flight.free() >= mails.min(self.in_flight.most());
            let flows = *self.phase.borrow() == Phase::Closed && before <= self.in_flight.limit();
            let worth_waiting = flows && Instant::now() < until;
            if enough || !worth_waiting || timeout(STANDSTILL, given_back).await.is_err() {
                return Reservation(self.in_flight.reserve(mails));
            }
        }
    }
}
