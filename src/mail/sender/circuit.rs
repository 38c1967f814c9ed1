//! While the mail server as a whole does not work, no mail is tried: one look every few seconds says when it is back.
//!
//! Closed, mail flows. After some failures in a row that are the server's, it opens: nothing is taken up, and
//! [`Circuit::guard`] connects and signs in without a mail until that works. Then it is half open: one mail at a time, until
//! one of them gets an answer, or none is left that waited.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use tokio::sync::watch;
use tracing::{debug, error, info};

use crate::mail::transport::{Failure, SendError, Stage, Transport};
use crate::metrics::{Metrics, Target};

/// Failures in a row after which no more mail is tried.
const TRIPS: usize = 3;
/// How long after a failure the server is looked at: growing, and then the last.
const LOOKS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// The same while it refuses to let us in: who tries that often is shut out.
const SIGN_IN: Duration = Duration::from_secs(60);

/// Whether mail is tried.
#[derive(Debug)]
pub(super) struct Circuit {
    state: Mutex<State>,
    phase: watch::Sender<Phase>,
    metrics: Metrics,
}

/// How mail flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Freely.
    Closed,
    /// Not at all.
    Open,
    /// One mail at a time.
    HalfOpen,
}

#[derive(Debug)]
enum State {
    Closed {
        /// Failures in a row.
        failures: usize,
        /// The domains of their mails.
        domains: BTreeSet<String>,
        /// Whether one of them is surely the server's.
        at_the_door: bool,
    },
    Open {
        looks: usize,
        stage: Stage,
    },
    HalfOpen {
        looks: usize,
    },
}

impl State {
    const fn phase(&self) -> Phase {
        match self {
            Self::Closed { .. } => Phase::Closed,
            Self::Open { .. } => Phase::Open,
            Self::HalfOpen { .. } => Phase::HalfOpen,
        }
    }
}

const CLOSED: State = State::Closed { failures: 0, domains: BTreeSet::new(), at_the_door: false };
/// The server let us in, and no mail has tried it: the next failure counts as if one had.
const UNTRIED: State = State::Closed { failures: TRIPS - 1, domains: BTreeSet::new(), at_the_door: true };

/// What an attempt says about the server.
pub(super) enum News<'a> {
    /// It answered, be it with a refusal of that mail.
    Answered,
    /// It failed as a server, at a mail to this domain.
    Failed(&'a SendError, &'a str),
}

impl<'a> News<'a> {
    /// Reads it from how an attempt ended.
    pub fn of<T>(outcome: &'a Result<T, SendError>, domain: &'a str) -> Self {
        match outcome {
            Err(error) if error.is_the_domains() => Self::Answered,
            Err(error) if matches!(error.kind, Failure::Unreachable | Failure::Ambiguous) => {
                Self::Failed(error, domain)
            }
            _ => Self::Answered,
        }
    }
}

impl Circuit {
    pub fn new(metrics: Metrics) -> Self {
        metrics.mail_server_up(true);
        Self { state: Mutex::new(CLOSED), phase: watch::Sender::new(Phase::Closed), metrics }
    }

    /// How mail flows now, and when that changes.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Whether no mail is tried.
    pub fn is_open(&self) -> bool {
        *self.phase.borrow() == Phase::Open
    }

    /// Takes in how an attempt ended; true if the server is to be left alone, so that the mail waits for it.
    pub fn hear(&self, news: &News<'_>) -> bool {
        let mut state = self.state();
        let next = match (&mut *state, news) {
            // A late answer of a connection from before: the guard will see for itself.
            (State::Open { .. }, _) | (State::Closed { failures: 0, .. }, News::Answered) => None,
            (State::Closed { .. } | State::HalfOpen { .. }, News::Answered) => Some(CLOSED),
            (State::Closed { failures, domains, at_the_door }, News::Failed(error, domain)) => {
                *failures += 1;
                // One domain whose mails take too long is not the server; several are.
                domains.insert((*domain).to_owned());
                *at_the_door |= error.kind == Failure::Unreachable && is_at_the_door(error.stage);
                let trips = *failures >= TRIPS && (*at_the_door || domains.len() > 1);
                trips.then_some(State::Open { looks: 0, stage: error.stage })
            }
            (State::HalfOpen { looks }, News::Failed(error, _)) => {
                Some(State::Open { looks: *looks, stage: error.stage })
            }
        };
        if let Some(next) = next {
            match (state.phase(), next.phase(), news) {
                (Phase::Closed, Phase::Open, News::Failed(error, _)) => {
                    error!(%error, "the mail server does not work: no mail is tried until it does");
                    self.metrics.mail_server_up(false);
                }
                (Phase::HalfOpen, Phase::Closed, _) => self.works_again("the mail server works again"),
                _ => {}
            }
            self.enter(&mut state, next);
        }
        state.phase() == Phase::Open
    }

    /// Half open, and there is no mail that could find out whether the server works: those that waited for it were cancelled
    /// meanwhile, or ran out, or others sent them. It let us in at the last look, so nobody needs to be told of an outage.
    pub fn nothing_waits(&self) {
        let mut state = self.state();
        if state.phase() == Phase::HalfOpen {
            self.works_again("the mail server answers, and there is no mail to try it with");
            self.enter(&mut state, UNTRIED);
        }
    }

    fn works_again(&self, how: &str) {
        info!("{how}");
        self.metrics.mail_server_up(true);
        self.metrics.reconnect(Target::Smtp);
    }

    /// Looks at the server while the circuit is open, for ever.
    pub async fn guard(&self, transport: &Transport) {
        let mut phase = self.phase();
        // It ends with the circuit, which `self` keeps.
        while phase.wait_for(|phase| *phase == Phase::Open).await.is_ok() {
            let wait = match *self.state() {
                State::Open { stage: Stage::Auth, .. } => SIGN_IN,
                State::Open { looks, .. } => LOOKS[looks.min(LOOKS.len() - 1)],
                _ => continue,
            };
            tokio::time::sleep(jittered(wait)).await;
            // Kept connections would count where the server limits them, and hardly live.
            transport.close().await;
            let found = transport.check().await;
            let mut state = self.state();
            let State::Open { looks, stage } = &mut *state else { continue };
            match found {
                Ok(_) => {
                    info!("the mail server answers: one mail is tried");
                    let next = State::HalfOpen { looks: *looks + 1 };
                    self.enter(&mut state, next);
                }
                Err(error) => {
                    debug!(%error, "the mail server does not work yet");
                    *looks += 1;
                    *stage = error.stage;
                }
            }
        }
    }

    fn enter(&self, state: &mut State, next: State) {
        *state = next;
        self.phase.send_replace(state.phase());
    }

    /// Nothing panics while it is held, so a poisoned lock protects sound data.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Before anything is said of a mail.
fn is_at_the_door(stage: Stage) -> bool {
    !matches!(stage, Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Content)
}

/// Daemons that failed together do not come back together.
#[expect(clippy::disallowed_methods, reason = "a delay's jitter")]
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Known;

    fn circuit() -> Circuit {
        let known = Known { version: "1", commands: &[], templates: &[], dead_letter_reasons: &[] };
        Circuit::new(Metrics::new(&known).unwrap())
    }

    fn fail(circuit: &Circuit, stage: Stage, domain: &str) -> bool {
        let outcome: Result<(), _> = Err(SendError::new(Failure::Unreachable, stage, "no"));
        circuit.hear(&News::of(&outcome, domain))
    }

    fn refused(circuit: &Circuit) -> bool {
        let outcome: Result<(), _> = Err(SendError::new(Failure::Permanent, Stage::Rcpt, "550 no"));
        circuit.hear(&News::of(&outcome, "example.com"))
    }

    #[test]
    fn it_opens_after_failures_in_a_row_that_are_the_servers() {
        let circuit = circuit();
        assert!(!fail(&circuit, Stage::Connect, "a") && !fail(&circuit, Stage::Connect, "a"));
        assert!(!refused(&circuit), "an answer, which ends the row");
        assert!(!fail(&circuit, Stage::Connect, "a") && !fail(&circuit, Stage::Connect, "a"));
        assert!(!circuit.is_open());
        assert!(fail(&circuit, Stage::Connect, "a"));
        assert!(circuit.is_open());
        assert!(refused(&circuit), "an answer from before does not close it");
    }

    #[test]
    fn one_slow_domain_is_not_the_server() {
        let circuit = circuit();
        for _ in 0..20 {
            assert!(!fail(&circuit, Stage::Rcpt, "slow.example"));
        }
        assert!(fail(&circuit, Stage::Content, "other.example"), "two are");
    }

    #[test]
    fn domains_that_are_not_answered_for_are_not_the_server() {
        let circuit = circuit();
        for n in 0..20 {
            let outcome: Result<(), _> = Err(SendError::timed_out(&"mx", Stage::Rcpt, Duration::from_secs(30)));
            assert!(!circuit.hear(&News::of(&outcome, &format!("hanging{n}.example"))));
        }
        assert!(!fail(&circuit, Stage::Mail, "a") && !fail(&circuit, Stage::Mail, "b"));
        assert!(fail(&circuit, Stage::Mail, "c"), "without a word on the sender it is");
    }

    #[test]
    fn half_open_the_next_mail_decides() {
        let circuit = circuit();
        let half_open = || circuit.enter(&mut circuit.state(), State::HalfOpen { looks: 2 });
        half_open();
        assert!(fail(&circuit, Stage::Data, "a"), "it opens at once");
        assert!(matches!(*circuit.state(), State::Open { looks: 2, .. }), "and is not looked at from the beginning");
        half_open();
        assert!(!refused(&circuit));
        assert_eq!(*circuit.phase().borrow(), Phase::Closed);
    }

    #[test]
    fn half_open_it_closes_when_no_mail_is_left_and_opens_again_at_one_failure() {
        let circuit = circuit();
        let idle = || {
            circuit.nothing_waits();
            *circuit.phase().borrow()
        };
        assert_eq!(idle(), Phase::Closed);
        assert!(
            !fail(&circuit, Stage::Connect, "a") && !fail(&circuit, Stage::Connect, "a"),
            "no less patient than before"
        );
        assert!(fail(&circuit, Stage::Connect, "a"));
        assert_eq!(idle(), Phase::Open, "the server has not let us in yet");
        circuit.enter(&mut circuit.state(), State::HalfOpen { looks: 1 });
        assert_eq!(idle(), Phase::Closed);
        assert!(fail(&circuit, Stage::Rcpt, "a"), "the first mail decides all the same");
        circuit.enter(&mut circuit.state(), State::HalfOpen { looks: 1 });
        assert_eq!(idle(), Phase::Closed);
        assert!(!refused(&circuit) && !fail(&circuit, Stage::Connect, "a"), "and if it gets an answer, all is well");
    }
}
