//! Whether the daemon's loops make progress.
//!
//! Each loop holds a [`Pulse`] and beats whenever it turns; while it waits for what may rightly take for ever (a delivery, a
//! server that is away) nobody expects it to. An examination, at a steady pace, adds up for how long each has been silent. Time
//! counts only between two examinations and only while the database answers, so a daemon that was stopped (a suspended
//! machine, a debugger) and one whose statement hangs in a frozen database raise no alarm.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often all are examined.
pub const TURN: Duration = Duration::from_secs(1);

/// All loops of the daemon. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Vitals(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    patients: Mutex<Vec<Patient>>,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Patient {
    heart: Arc<Heart>,
    /// The beats at the last examination.
    seen: u64,
    silent: Duration,
}

#[derive(Debug)]
struct Heart {
    name: String,
    beats: AtomicU64,
    /// Reasons for which no beat is expected.
    excuses: AtomicU32,
    ended: AtomicBool,
}

/// A loop that does not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Which one.
    pub name: String,
    /// What is wrong with it, for an operator.
    pub reason: String,
}

impl Vitals {
    /// A pulse for a loop that starts now. That it is dropped means that the loop has ended.
    pub fn pulse(&self, name: impl Into<String>) -> Pulse {
        let (beats, excuses, ended) = (AtomicU64::new(0), AtomicU32::new(0), AtomicBool::new(false));
        let heart = Arc::new(Heart { name: name.into(), beats, excuses, ended });
        self.patients().push(Patient { heart: Arc::clone(&heart), seen: 0, silent: Duration::ZERO });
        Pulse { heart }
    }

    /// Notes that loops are told to end from now on.
    pub fn stopping(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Examines each loop, `elapsed` after the last time; `excused` while a server that they may wait for is away.
    pub fn examine(&self, elapsed: Duration, excused: bool) {
        for patient in self.patients().iter_mut() {
            let beats = patient.heart.beats.load(Ordering::Relaxed);
            if beats != patient.seen || excused || patient.heart.excuses.load(Ordering::Relaxed) > 0 {
                patient.seen = beats;
                patient.silent = Duration::ZERO;
            } else {
                patient.silent += elapsed;
            }
        }
    }

    /// The loops that have ended, and those that made no progress for longer than `patience`.
    pub fn stopped(&self, patience: Duration) -> Vec<Stopped> {
        let told_to = self.0.stopping.load(Ordering::Relaxed);
        let mut stopped = Vec::new();
        for Patient { heart, silent, .. } in self.patients().iter() {
            let reason = match heart.ended.load(Ordering::Relaxed) {
                true if told_to => continue,
                true => "it has ended, although nobody told it to".to_owned(),
                false if *silent > patience => format!("it has made no progress for {} s", silent.as_secs()),
                false => continue,
            };
            stopped.push(Stopped { name: heart.name.clone(), reason });
        }
        stopped
    }

    fn patients(&self) -> MutexGuard<'_, Vec<Patient>> {
        self.0.patients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Beats for one loop.
#[derive(Debug)]
pub struct Pulse {
    heart: Arc<Heart>,
}

impl Pulse {
    /// The loop made progress.
    pub fn beat(&self) {
        self.heart.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for something that may take any time. As cancel-safe as `what`.
    pub async fn waiting<T>(&self, what: impl Future<Output = T>) -> T {
        let _excuse = Excuse::of(&self.heart);
        what.await
    }

    /// The worker has nothing to do for now.
    pub fn rest(self) -> Resting {
        Resting { excuse: Excuse::of(&self.heart), pulse: self }
    }
}

/// The pulse of a worker that has nothing to do.
#[derive(Debug)]
pub struct Resting {
    excuse: Excuse,
    pulse: Pulse,
}

impl Resting {
    /// The worker has something to do again.
    pub fn wake(self) -> Pulse {
        drop(self.excuse);
        self.pulse
    }
}

/// While one exists, no beat is expected of the loop.
#[derive(Debug)]
struct Excuse(Arc<Heart>);

impl Excuse {
    fn of(heart: &Arc<Heart>) -> Self {
        heart.excuses.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(heart))
    }
}

impl Drop for Excuse {
    fn drop(&mut self) {
        // Silence counts from here.
        self.0.beats.fetch_add(1, Ordering::Relaxed);
        self.0.excuses.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.heart.ended.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn names(vitals: &Vitals) -> Vec<String> {
        vitals.stopped(PATIENCE).into_iter().map(|stopped| stopped.name).collect()
    }

    #[test]
    fn a_loop_that_makes_no_progress_is_named_until_it_goes_on() {
        let vitals = Vitals::default();
        let (slow, quick) = (vitals.pulse("slow"), vitals.pulse("quick"));
        for _ in 0..10 {
            quick.beat();
            vitals.examine(TURN, false);
        }
        assert!(names(&vitals).is_empty(), "just within its patience");
        quick.beat();
        vitals.examine(TURN, false);
        assert_eq!(names(&vitals), ["slow"]);
        assert_eq!(vitals.stopped(PATIENCE)[0].reason, "it has made no progress for 11 s");
        slow.beat();
        vitals.examine(TURN, false);
        assert!(names(&vitals).is_empty());
    }

    #[test]
    fn while_a_server_is_away_and_just_after_nobody_is_blamed() {
        let vitals = Vitals::default();
        let _pulse = vitals.pulse("in a frozen statement");
        for _ in 0..100 {
            vitals.examine(TURN, true);
        }
        for _ in 0..10 {
            vitals.examine(TURN, false);
        }
        assert!(names(&vitals).is_empty());
        vitals.examine(TURN, false);
        assert_eq!(names(&vitals), ["in a frozen statement"]);
    }

    #[test]
    fn an_end_is_told_at_once_unless_it_was_asked_for() {
        let vitals = Vitals::default();
        drop(vitals.pulse("gone"));
        assert_eq!(names(&vitals), ["gone"]);
        vitals.stopping();
        assert!(names(&vitals).is_empty());
    }

    #[tokio::test]
    async fn whoever_waits_or_rests_is_excused_and_whoever_is_stuck_in_work_is_not() {
        let vitals = Vitals::default();
        let (waiting, working, idle) = (vitals.pulse("waiting"), vitals.pulse("working"), vitals.pulse("idle").rest());
        let mut waits = Box::pin(waiting.waiting(std::future::pending::<()>()));
        assert!(futures_util::poll!(&mut waits).is_pending());
        for _ in 0..11 {
            vitals.examine(TURN, false);
        }
        assert_eq!(names(&vitals), ["working"]);
        drop((working, waits));
        let woken = idle.wake();
        for _ in 0..11 {
            vitals.examine(TURN, false);
        }
        assert_eq!(names(&vitals), ["working"], "just woken, both of them");
        vitals.examine(TURN, false);
        assert_eq!(names(&vitals), ["waiting", "working", "idle"]);
        drop(woken);
    }
}
