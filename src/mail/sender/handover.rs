//! Where committed mail is handed over to be sent.
//!
//! Where there is a place for it, a mail's first attempt begins with the transaction that asks for it: its row is born with
//! the attempt on record, and nothing has to be read or written again before it is sent. The others wait in memory for a
//! place; and if memory, too, is full, for the poll.

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
use super::leases::Moment;
use super::places::{Place, Places, Reserved, domain};

/// Mails that may wait in memory for their first attempt. More are left to the poll: a row is all that they need.
pub(super) const HANDOVER: usize = 65_536;

/// How long commands wait at most for mail that was asked for before to go out.
const PATIENCE: Duration = Duration::from_millis(250);
/// And if for so long not one mail has gone out, they do not wait: the mail server takes its time.
const STANDSTILL: Duration = Duration::from_millis(50);

/// Where committed mail is handed over. Cheap to clone.
#[derive(Clone)]
pub struct Handover {
    fresh: mpsc::Sender<(Uuid, String)>,
    // Bounded by the places: each of these has one.
    begun: mpsc::UnboundedSender<Claimed>,
    places: Arc<Places>,
    phase: watch::Receiver<Phase>,
    waiting: Arc<AtomicUsize>,
}

/// Places for mail that a transaction is about to ask for. What is not used is free again when it is dropped.
pub struct Room(Reserved);

/// The other end of a [`Handover`], for [`super::Sender::run`].
pub struct Intake {
    /// Batches of mail that may be on their way to the mail server at once: one for each connection.
    pub(super) workers: usize,
    pub(super) fresh: mpsc::Receiver<(Uuid, String)>,
    pub(super) begun: mpsc::UnboundedReceiver<Claimed>,
    pub(super) places: Arc<Places>,
    pub(super) circuit: Circuit,
    /// How many wait in memory, for whoever comes after them.
    pub(super) waiting: Arc<AtomicUsize>,
}

/// A mail whose attempt is on record, or will be with the transaction that asks for it.
pub struct Claimed {
    pub(super) mail: QueuedEmail,
    pub(super) ticket: Option<TicketOfMail>,
    pub(super) person: PersonOfMail,
    pub(super) place: Place,
    /// Before the attempt began.
    pub(super) from: Moment,
}

impl Handover {
    /// A handover and its other end, for a mail server to which there are so many connections.
    pub fn new(connections: usize, metrics: &Metrics) -> (Self, Intake) {
        let (fresh, handed_over) = mpsc::channel(HANDOVER);
        let (begun, beginning) = mpsc::unbounded_channel();
        let (places, circuit) = (Places::for_connections(connections), Circuit::new(metrics.clone()));
        let (phase, waiting) = (circuit.phase(), Arc::<AtomicUsize>::default());
        let intake = Intake {
            workers: connections,
            fresh: handed_over,
            begun: beginning,
            places: Arc::clone(&places),
            circuit,
            waiting: Arc::clone(&waiting),
        };
        (Self { fresh, begun, places, phase, waiting }, intake)
    }

    /// Takes a place of `room` for the first attempt of a mail that is about to be committed as begun; given back when it is dropped,
    /// as it is if the transaction comes to nothing. None: it is to be committed as waiting, and handed over by
    /// [`Self::hand_over`].
    pub fn claim(
        &self,
        room: &mut Room,
        mail: QueuedEmail,
        ticket: Option<TicketOfMail>,
        person: PersonOfMail,
        now: DateTime<Utc>,
    ) -> Option<Claimed> {
        let sent = verdict(&mail, ticket.as_ref(), Some(&person), false, now) == Verdict::Send;
        if !sent || self.before() > 0 || *self.phase.borrow() != Phase::Closed {
            return None;
        }
        let place = room.0.take(&domain(&mail.to_address))?;
        let mail = QueuedEmail { attempts: 1, ..mail };
        Some(Claimed { mail, ticket, person, place, from: Moment::now() })
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

    /// Places for so many mails, or as many as there are; waits a moment for them if mail flows: a backlog of commands then
    /// goes no faster than its mail, which is sent at once instead of being put down and taken up again. Where the mail server is
    /// slower than the commands, so that mail gathers, nobody waits for it.
    pub async fn room(&self, mails: usize) -> Room {
        let until = Instant::now() + PATIENCE;
        loop {
            let given_back = self.places.given_back();
            let before = self.before();
            let enough = before == 0 && self.places.room() >= mails.min(self.places.most());
            let flows = *self.phase.borrow() == Phase::Closed && before <= self.places.limit();
            let worth_waiting = flows && Instant::now() < until;
            if enough || !worth_waiting || timeout(STANDSTILL, given_back).await.is_err() {
                return Room(self.places.reserve(mails));
            }
        }
    }
}
