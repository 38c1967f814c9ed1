//! The daemon's condition, for `/healthz`, `/readyz` and the service manager.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::broker::Broker;
use crate::config::Config;
use crate::http::Problem;
use crate::lifecycle::notify::{Report, ServiceManager};
use crate::metrics::{Metrics, Work};
use crate::store::health::Health;
use crate::vitals::Vitals;

use super::faults::Faults;

/// What the daemon's condition follows from.
#[derive(Clone)]
pub(super) struct Oversight {
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) broker: Broker,
    pub(super) database: Health,
    pub(super) faults: Arc<watch::Sender<Faults>>,
    pub(super) metrics: Metrics,
    pub(super) vitals: Vitals,
    pub(super) manager: Arc<ServiceManager>,
}

impl Oversight {
    /// What keeps the daemon from its work, or from all of it.
    pub(super) fn unready(&self) -> Vec<Problem> {
        let problem =
            |what: &'static str, reason: Option<String>| reason.map(|reason| Problem { what: what.into(), reason });
        let found = [
            problem("broker", self.broker.problem()),
            problem("database", self.database.problem()),
            problem("templates", self.faults.borrow().summary()),
        ];
        found.into_iter().flatten().collect()
    }

    /// The loops that do not run.
    pub(super) fn unhealthy(&self) -> Vec<Problem> {
        let stopped = self.vitals.stopped(self.config.load().health.patience);
        stopped.into_iter().map(|loop_| Problem { what: loop_.name.into(), reason: loop_.reason }).collect()
    }

    /// Examines the loops, and tells the service manager, until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut rate = Rate::new(self.metrics.work());
        let pace = self.manager.pace();
        let mut examined = Instant::now();
        let mut told = Vec::new();
        loop {
            let (unready, unhealthy) = (self.unready(), self.unhealthy());
            for problem in unhealthy.iter().filter(|problem| !told.contains(&problem.what)) {
                error!(part = %problem.what, "a part of the daemon is stuck: {}", problem.reason);
            }
            for part in told.iter().filter(|part| !unhealthy.iter().any(|problem| problem.what == **part)) {
                info!(%part, "this part of the daemon goes on");
            }
            told = unhealthy.iter().map(|problem| problem.what.clone()).collect();
            let status = status(&unready, &unhealthy, &mut rate, &self.metrics.work());
            self.manager.tell(Report { ready: unready.is_empty(), healthy: unhealthy.is_empty(), status }).await;
            if stop.run_until_cancelled(tokio::time::sleep(pace)).await.is_none() {
                return;
            }
            // The intended interval, not the clock: while the process was stopped no loop could make progress.
            let elapsed = examined.elapsed().min(2 * pace);
            examined = Instant::now();
            self.vitals.examine(elapsed, self.database.problem().is_some());
        }
    }
}

/// The status line: what the daemon does, or waits for.
fn status(unready: &[Problem], unhealthy: &[Problem], rate: &mut Rate, work: &Work) -> String {
    let rate = rate.of(work.commands, Instant::now());
    let list = |problems: &[Problem]| {
        let each: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.what, p.reason)).collect();
        each.join("; ")
    };
    if !unhealthy.is_empty() {
        return format!("stuck: {}", list(unhealthy));
    }
    if !unready.is_empty() {
        return format!("waiting for {}", list(unready));
    }
    let Work { in_flight, emails_pending, events_pending, .. } = work;
    format!("{rate} commands/s, {in_flight} in progress; {emails_pending} mails and {events_pending} events waiting")
}

/// Commands per second, averaged over some seconds.
struct Rate {
    before: u64,
    since: Instant,
    shown: String,
}

impl Rate {
    const OVER: std::time::Duration = std::time::Duration::from_secs(5);

    fn new(work: Work) -> Self {
        Self { before: work.commands, since: Instant::now(), shown: "0".to_owned() }
    }

    fn of(&mut self, commands: u64, now: Instant) -> &str {
        let elapsed = now.duration_since(self.since);
        if elapsed >= Self::OVER {
            let done = u32::try_from(commands.saturating_sub(self.before)).unwrap_or(u32::MAX);
            let rate = f64::from(done) / elapsed.as_secs_f64();
            self.shown = if done > 0 && rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") };
            (self.before, self.since) = (commands, now);
        }
        &self.shown
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn problem(what: &'static str) -> Problem {
        Problem { what: what.into(), reason: "away".to_owned() }
    }

    #[test]
    fn the_status_says_the_worst_first() {
        let work = Work { commands: 0, in_flight: 2, emails_pending: 3, events_pending: 4 };
        let mut rate = Rate::new(work);
        let mut say = |unready: &[Problem], unhealthy: &[Problem]| status(unready, unhealthy, &mut rate, &work);
        assert_eq!(say(&[], &[]), "0 commands/s, 2 in progress; 3 mails and 4 events waiting");
        assert_eq!(say(&[problem("broker"), problem("database")], &[]), "waiting for broker: away; database: away");
        assert_eq!(say(&[problem("broker")], &[problem("mail sender")]), "stuck: mail sender: away");
    }

    #[test]
    fn the_rate_is_of_the_last_seconds() {
        let mut rate = Rate::new(Work::default());
        let start = rate.since;
        assert_eq!(rate.of(10, start + Duration::from_secs(1)), "0", "too soon to say");
        assert_eq!(rate.of(16, start + Duration::from_secs(5)), "3.2");
        assert_eq!(rate.of(5016, start + Duration::from_secs(10)), "1000");
        assert_eq!(rate.of(5016, start + Duration::from_secs(15)), "0");
    }
}
