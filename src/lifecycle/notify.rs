//! What a service manager (systemd) is told: readiness, what the daemon does, that it lives. `sd_notify(3)` is the protocol.
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is told. The words are chosen by `Story`, which does no I/O.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::warn;

use crate::vitals::TURN;

/// The least time between two status lines.
const STATUS: Duration = Duration::from_secs(3);
/// How often a daemon that waits for a server at its start asks for more time, so that the start is not taken for a failed one.
const EXTEND: Duration = Duration::from_secs(10);
/// How much time it asks for, from then on: several times the interval, so that one that comes late does no harm.
const EXTENSION: Duration = Duration::from_secs(60);
/// How long closing connections may take after `shutdown.timeout`.
const FAREWELL: Duration = Duration::from_secs(10);
/// The longest status line, in characters.
const LONGEST: usize = 300;

/// The state of the daemon.
#[derive(Debug, Clone)]
pub struct Report {
    /// Everything that it needs is there.
    pub ready: bool,
    /// All loops make progress.
    pub healthy: bool,
    /// What it does, or waits for.
    pub status: String,
}

/// The way to the service manager, if there is one.
#[derive(Debug)]
pub struct ServiceManager {
    present: bool,
    story: Mutex<Story>,
}

impl ServiceManager {
    /// The one that started this process.
    pub fn of_this_process() -> Self {
        let present = std::env::var_os("NOTIFY_SOCKET").is_some();
        let watchdog = sd_notify::watchdog_enabled().filter(|_| present);
        Self { present, story: Mutex::new(Story::new(watchdog)) }
    }

    /// How often [`Self::tell`] is to be called.
    pub fn pace(&self) -> Duration {
        self.story.lock().unwrap_or_else(PoisonError::into_inner).pace()
    }

    /// Tells how the daemon is, and that it lives if it is healthy.
    pub async fn tell(&self, report: Report) {
        self.say(|story| story.tell(&report, Instant::now())).await;
    }

    /// A reload begins.
    pub async fn reloading(&self) {
        self.say(Story::reloading).await;
    }

    /// The reload is over.
    pub async fn reloaded(&self) {
        self.say(Story::reloaded).await;
    }

    /// The daemon stops, within `timeout`.
    pub async fn stopping(&self, timeout: Duration) {
        self.say(|story| story.stopping(timeout)).await;
    }

    async fn say(&self, choose: impl FnOnce(&mut Story) -> Vec<String>) {
        if !self.present {
            return;
        }
        let words = choose(&mut self.story.lock().unwrap_or_else(PoisonError::into_inner));
        if !words.is_empty() {
            // The socket blocks while the manager does not read.
            let _ = tokio::task::spawn_blocking(move || send(&words)).await;
        }
    }
}

/// The last word of a daemon that ends with a failure: what `systemctl status` shows of it then.
pub fn failed(reason: &str) {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        send(&[NotifyState::Status(&one_line(reason)).to_string()]);
    }
}

fn send(words: &[String]) {
    let words: Vec<NotifyState<'_>> = words.iter().map(|word| NotifyState::Custom(word)).collect();
    if let Err(error) = sd_notify::notify(&words) {
        warn!(%error, "the service manager cannot be told how the daemon is (NOTIFY_SOCKET)");
    }
}

/// Which words are due.
#[derive(Debug)]
struct Story {
    watchdog: Option<Duration>,
    phase: Phase,
    status: String,
    /// When these were said the last time.
    status_at: Option<Instant>,
    extended_at: Option<Instant>,
    watchdog_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Stopping,
}

impl Story {
    fn new(watchdog: Option<Duration>) -> Self {
        let phase = Phase::Starting;
        Self { watchdog, phase, status: String::new(), status_at: None, extended_at: None, watchdog_at: None }
    }

    fn pace(&self) -> Duration {
        self.watchdog.map_or(TURN, |watchdog| (watchdog / 4).clamp(Duration::from_millis(10), TURN))
    }

    fn tell(&mut self, report: &Report, now: Instant) -> Vec<String> {
        let due = |at: Option<Instant>, every| at.is_none_or(|at| now.duration_since(at) >= every);
        let mut words = Vec::new();
        let mut turning = false;
        if self.phase == Phase::Starting && report.healthy {
            if report.ready {
                self.phase = Phase::Running;
                turning = true;
                words.push(NotifyState::Ready.to_string());
            } else if due(self.extended_at, EXTEND) {
                self.extended_at = Some(now);
                words.push(extension(EXTENSION));
            }
        }
        let status = one_line(&report.status);
        if status != self.status && (turning || due(self.status_at, STATUS)) {
            self.status_at = Some(now);
            words.push(NotifyState::Status(&status).to_string());
            self.status = status;
        }
        if let Some(watchdog) = self.watchdog
            && report.healthy
            // A quarter: one that is late is still in time.
            && due(self.watchdog_at, (watchdog / 4).saturating_sub(self.pace() / 2))
        {
            self.watchdog_at = Some(now);
            words.push(NotifyState::Watchdog.to_string());
        }
        words
    }

    /// Before the first `READY=1` it would be taken for it: then nothing is said.
    fn reloading(&mut self) -> Vec<String> {
        if self.phase != Phase::Running {
            return Vec::new();
        }
        let mut words = vec![NotifyState::Reloading.to_string()];
        // `Type=notify-reload` tells by it which reload this is.
        words.extend(NotifyState::monotonic_usec_now().map(|at| at.to_string()));
        words
    }

    fn reloaded(&mut self) -> Vec<String> {
        if self.phase == Phase::Running { vec![NotifyState::Ready.to_string()] } else { Vec::new() }
    }

    fn stopping(&mut self, timeout: Duration) -> Vec<String> {
        self.phase = Phase::Stopping;
        vec![NotifyState::Stopping.to_string(), extension(timeout + FAREWELL)]
    }
}

fn extension(by: Duration) -> String {
    NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX)).to_string()
}

/// A line break would begin another word.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn report(ready: bool, healthy: bool, status: &str) -> Report {
        Report { ready, healthy, status: status.to_owned() }
    }

    #[test]
    fn a_daemon_that_waits_asks_for_time_until_it_is_ready_once() {
        let (mut story, start) = (Story::new(None), Instant::now());
        let waiting = report(false, true, "waiting");
        assert_eq!(story.tell(&waiting, start), ["EXTEND_TIMEOUT_USEC=60000000", "STATUS=waiting"]);
        assert!(story.tell(&waiting, start + 9 * SECOND).is_empty());
        assert!(story.reloading().is_empty() && story.reloaded().is_empty(), "READY=1 would be a lie");
        assert_eq!(story.tell(&waiting, start + 10 * SECOND), ["EXTEND_TIMEOUT_USEC=60000000"]);
        assert!(story.tell(&report(false, false, "waiting"), start + 30 * SECOND).is_empty(), "a stuck one gets none");
        let good = report(true, true, "working");
        assert_eq!(story.tell(&good, start + 31 * SECOND), ["READY=1", "STATUS=working"]);
        assert_eq!(story.tell(&waiting, start + 60 * SECOND), ["STATUS=waiting"]);
        assert_eq!(story.tell(&good, start + 90 * SECOND), ["STATUS=working"], "it was ready before");
    }

    #[test]
    fn a_status_is_told_when_it_changes_and_not_too_often() {
        let (mut story, start) = (Story::new(None), Instant::now());
        assert_eq!(story.tell(&report(true, true, "a"), start), ["READY=1", "STATUS=a"]);
        assert!(story.tell(&report(true, true, "b"), start + SECOND).is_empty());
        assert_eq!(story.tell(&report(true, true, "c"), start + 3 * SECOND), ["STATUS=c"]);
        assert!(story.tell(&report(true, true, "c"), start + 30 * SECOND).is_empty());
        let hostile = format!("x\nREADY=1{}", "y".repeat(1000));
        let words = story.tell(&report(true, true, &hostile), start + 60 * SECOND);
        assert!(words[0].starts_with("STATUS=x READY=1yy") && words[0].len() < 400, "{words:?}");
    }

    #[test]
    fn only_a_healthy_daemon_feeds_the_watchdog() {
        let (mut story, start) = (Story::new(Some(8 * SECOND)), Instant::now());
        assert_eq!(story.pace(), SECOND);
        assert!(story.tell(&report(true, true, ""), start).contains(&"WATCHDOG=1".to_owned()));
        assert!(story.tell(&report(true, true, ""), start + SECOND).is_empty());
        assert_eq!(story.tell(&report(true, true, ""), start + 2 * SECOND), ["WATCHDOG=1"]);
        assert!(story.tell(&report(true, false, ""), start + 4 * SECOND).is_empty());
        assert_eq!(story.tell(&report(true, true, ""), start + 5 * SECOND), ["WATCHDOG=1"]);
        assert_eq!(Story::new(Some(SECOND / 5)).pace(), SECOND / 20);
        assert_eq!(Story::new(None).pace(), TURN);
    }

    #[test]
    fn a_reload_and_the_end_are_announced() {
        let mut story = Story::new(Some(8 * SECOND));
        story.tell(&report(true, true, ""), Instant::now());
        let words = story.reloading();
        assert_eq!(words[0], "RELOADING=1");
        assert!(words[1].strip_prefix("MONOTONIC_USEC=").is_some_and(|at| at.parse::<u64>().is_ok()), "{words:?}");
        assert_eq!(story.reloaded(), ["READY=1"]);
        assert_eq!(story.stopping(30 * SECOND), ["STOPPING=1", "EXTEND_TIMEOUT_USEC=40000000"]);
        assert!(story.reloaded().is_empty());
        assert_eq!(story.tell(&report(false, true, "bye"), Instant::now() + 60 * SECOND), ["STATUS=bye", "WATCHDOG=1"]);
    }
}
