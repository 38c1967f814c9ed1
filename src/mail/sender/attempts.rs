//! Attempts: who waits for one, and what it comes to, from rendering to the server's last word.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use rand::SeedableRng;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::crash_point::crash_point;
use crate::domain::email_state::EmailState;
use crate::mail::quoted::Quoted;
use crate::mail::transport::{Accepted, Failure, SendError};
use crate::mail::verdict;
use crate::store::emails::{Outcome, QueuedEmail};

use super::circuit::{Circuit, News};
use super::compose::{Unwritten, Written};
use super::handover::Claimed;
use super::late::{Heard, Learnt};
use super::leases::Leases;
use super::{DOUBTFUL, Finished, Running, Sender};

/// Mails that travel together at most. When their connection is lost, all of those that the server had not answered for may have
/// been accepted, and go out again.
const TOGETHER: usize = 4;
/// What is noted of a mail at which this program failed.
const PANICKED: &str = "sending panicked";

/// A mail that waits for a connection.
pub(super) struct Waiting {
    claimed: Claimed,
    /// Dropped when the attempt is over.
    trial: Option<oneshot::Sender<()>>,
}

impl Waiting {
    /// Not tried, so there is no attempt to be noted.
    fn postponed(self) -> Finished {
        let Claimed { mail, permit, .. } = self.claimed;
        let mut outcome = Outcome::of(mail.id, mail.attempts, crate::clock::now());
        outcome.failed = false;
        Sender::postpone(&mut outcome, &mail, Failure::Unreachable);
        Finished { outcome, mail, waits_for_server: true, permit: Some(permit) }
    }
}

/// Starts attempts.
#[derive(Clone)]
pub(super) struct Attempts {
    pub running: Arc<Running>,
    pub results: mpsc::Sender<Finished>,
}

impl Attempts {
    /// Starts those that were committed as begun, until `stop` and there is none left.
    pub(super) async fn begin(self, mut begun: mpsc::UnboundedReceiver<Claimed>, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                Some(claimed) = begun.recv() => self.start(claimed, None).await,
                () = stop.cancelled() => return,
            }
        }
    }

    pub(super) async fn start(&self, claimed: Claimed, trial: Option<oneshot::Sender<()>>) {
        self.running.leases.hold(claimed.mail.id, claimed.mail.attempts, claimed.from);
        let domain = claimed.permit.domain().to_owned();
        self.running.queue.push(&domain, Waiting { claimed, trial });
        // The last look is after the push: whoever opens the circuit either finds the mail or is seen here.
        if self.running.circuit.is_open() {
            self.postpone_waiting().await;
        }
    }

    /// Gives up for now on whatever waits: all workers may be busy with a server that does not answer.
    pub(super) async fn postpone_waiting(&self) {
        for waiting in self.running.queue.drain() {
            self.finish(waiting.postponed()).await;
        }
    }

    async fn finish(&self, finished: Finished) {
        // The writer ends only after the last of these, or with the daemon.
        let _ = self.results.send(finished).await;
    }
}

impl Sender {
    /// A worker: sends batch after batch to the mail server, until the queue is closed and empty.
    pub(super) async fn work(self: Arc<Self>, attempts: Attempts) {
        let Running { queue, circuit, .. } = &*attempts.running;
        while let Some(mut batch) = queue.next(TOGETHER).await {
            self.leave_to_others(&mut batch.mails, &attempts.running.leases).await;
            if batch.mails.is_empty() {
                continue;
            }
            // It may have opened just now.
            if circuit.is_open() {
                for waiting in batch.mails.drain(..) {
                    attempts.finish(waiting.postponed()).await;
                }
                continue;
            }
            // Held until their results are on their way.
            let (mails, trials): (Vec<_>, Vec<_>) =
                batch.mails.drain(..).map(|waiting| (waiting.claimed, waiting.trial)).unzip();
            for finished in self.attempt(mails, circuit, &mut batch.learnt).await {
                attempts.finish(finished).await;
            }
            drop(trials);
        }
    }

    /// Drops mails that another daemon may have taken up: this one was frozen, suspended or without its database for longer than a
    /// lease lasts. If there is nobody to ask, they are left to whoever finds their lease over.
    async fn leave_to_others(&self, mails: &mut Vec<Waiting>, leases: &Leases) {
        let doubtful: Vec<(Uuid, i32)> = mails
            .iter()
            .map(|waiting| (waiting.claimed.mail.id, waiting.claimed.mail.attempts))
            .filter(|(mail, _)| leases.is_older(*mail, DOUBTFUL))
            .collect();
        if doubtful.is_empty() {
            return;
        }
        let ours = self.prolong_leases(leases, &doubtful).await.unwrap_or_else(|error| {
            self.trouble("mails that waited for too long are left to whoever takes them up", &error);
            Vec::new()
        });
        let lost = |mail| doubtful.iter().any(|(doubtful, _)| *doubtful == mail) && !ours.contains(&mail);
        mails.retain(|Waiting { claimed, .. }| {
            let lost = lost(claimed.mail.id);
            if lost {
                leases.release(claimed.mail.id);
            }
            !lost
        });
    }

    /// One attempt for each, from rendering to the server's last word. Each ends with a result whatever happens. What is heard of
    /// the domains is noted.
    async fn attempt(&self, mails: Vec<Claimed>, circuit: &Circuit, learnt: &mut Learnt) -> Vec<Finished> {
        let mut finished = Vec::with_capacity(mails.len());
        let (mut ids, mut messages, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
        // The secrets of all of them: when one brings the connection down, the server's words about it are noted at the others too.
        let mut quoted = Quoted::default();
        // Written only now: what waits takes no room for a message, and it is sent while it is fresh in the cache.
        for Claimed { mail, ticket, person, permit, .. } in mails {
            let mut outcome = Outcome::of(mail.id, mail.attempts, crate::clock::now());
            let written = catch_unwind(AssertUnwindSafe(|| self.write(&mail, ticket.as_ref(), &person)));
            match written.unwrap_or_else(|_| Err(Unwritten::ForNow(PANICKED.to_owned()))) {
                Ok(written) => {
                    let Written { subject, built, quoted: secrets } = written;
                    outcome.subject = Some(subject);
                    ids.push(mail.id);
                    messages.push(built);
                    quoted.append(secrets);
                    attempts.push((outcome, mail, permit));
                    continue;
                }
                Err(Unwritten::Final(why)) => {
                    outcome.state = EmailState::Failed;
                    outcome.reply = Some(why);
                }
                Err(Unwritten::ForNow(why)) => {
                    outcome.reply = Some(why);
                    Self::postpone(&mut outcome, &mail, Failure::Transient);
                }
            }
            finished.push(Finished { outcome, mail, waits_for_server: false, permit: Some(permit) });
        }
        crash_point("mail claimed");
        let sending = AssertUnwindSafe(self.transport.send(&ids, &messages)).catch_unwind().await;
        crash_point("mail accepted");
        let mut sent = sending.unwrap_or_default().into_iter();
        for (mut outcome, mail, permit) in attempts {
            let waits_for_server = if let Some(sent) = sent.next() {
                let sent = sent
                    .map(|accepted| Accepted { reply: quoted.hide(accepted.reply) })
                    .map_err(|error| SendError { reply: quoted.hide(error.reply), ..error });
                match &sent {
                    Err(error) if error.took_too_long => learnt.note(permit.domain(), Heard::TookTooLong),
                    Err(error) if !error.kind.is_about_the_mail() => {}
                    Ok(_) | Err(_) => learnt.note(permit.domain(), Heard::Answer),
                }
                Self::conclude(&mut outcome, &mail, permit.domain(), sent, circuit)
            } else {
                outcome.reply = Some(PANICKED.to_owned());
                Self::postpone(&mut outcome, &mail, Failure::Transient);
                false
            };
            finished.push(Finished { outcome, mail, waits_for_server, permit: Some(permit) });
        }
        finished
    }

    /// Takes in what the server made of a mail; whether the mail only waits for the server to work.
    fn conclude(
        outcome: &mut Outcome,
        mail: &QueuedEmail,
        domain: &str,
        sent: Result<Accepted, SendError>,
        circuit: &Circuit,
    ) -> bool {
        let is_open = match &sent {
            Err(error) if error.with_another => circuit.is_open(),
            _ => circuit.hear(&News::of(&sent, domain)),
        };
        match sent {
            Ok(accepted) => {
                outcome.state = EmailState::Sent;
                outcome.sent_at = Some(crate::clock::now());
                outcome.reply = Some(accepted.reply);
                outcome.failed = false;
                false
            }
            Err(error) => {
                if error.kind == Failure::Permanent {
                    outcome.state = EmailState::Failed;
                } else {
                    let kind = if error.is_the_domains() { Failure::Transient } else { error.kind };
                    Self::postpone(outcome, mail, kind);
                }
                let of_the_server = error.kind == Failure::Unreachable && !error.is_the_domains();
                outcome.reply = Some(error.reply);
                is_open && of_the_server
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the seed of a delay's jitter")]
    fn postpone(outcome: &mut Outcome, mail: &QueuedEmail, failure: Failure) {
        let mut rng = rand::rngs::StdRng::from_rng(&mut rand::rng());
        // Never past its end: at that moment it is settled as expired or failed.
        let at = crate::clock::now() + verdict::delay(mail.attempts, failure, &mut rng);
        outcome.next_attempt_at = at.min(mail.give_up_at);
    }
}
