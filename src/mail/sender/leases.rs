//! The attempts that are on record as this daemon's, and since when it is known that nobody else will begin another.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use uuid::Uuid;

/// A moment by two clocks: the steady one stands still while the machine is suspended, the other may be set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    steady: Instant,
    wall: DateTime<Utc>,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { steady: Instant::now(), wall: crate::clock::now() }
    }

    /// How much time has passed since, by whichever clock saw more of it.
    fn elapsed(self) -> Duration {
        let wall = (crate::clock::now() - self.wall).to_std().unwrap_or_default();
        self.steady.elapsed().max(wall)
    }
}

struct Lease {
    /// Which attempt.
    attempts: i32,
    /// Before it was begun, or prolonged for the last time.
    from: Moment,
}

/// The mails that are being sent.
#[derive(Default)]
pub(super) struct Leases(Mutex<HashMap<Uuid, Lease>>);

impl Leases {
    pub(super) fn hold(&self, mail: Uuid, attempts: i32, from: Moment) {
        self.lock().insert(mail, Lease { attempts, from });
    }

    pub(super) fn release(&self, mail: Uuid) {
        self.lock().remove(&mail);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn mails(&self) -> Vec<Uuid> {
        self.lock().keys().copied().collect()
    }

    /// The mails whose lease was not prolonged for `age` or longer, each with its attempt.
    pub(super) fn older_than(&self, age: Duration) -> Vec<(Uuid, i32)> {
        self.lock()
            .iter()
            .filter(|(_, lease)| lease.from.elapsed() >= age)
            .map(|(mail, l)| (*mail, l.attempts))
            .collect()
    }

    /// Whether a mail's lease was not prolonged for `than` or longer.
    pub(super) fn is_older(&self, mail: Uuid, than: Duration) -> bool {
        self.lock().get(&mail).is_none_or(|lease| lease.from.elapsed() >= than)
    }

    /// They are this daemon's from that moment on.
    pub(super) fn prolonged(&self, mails: &[Uuid], from: Moment) {
        let mut leases = self.lock();
        for mail in mails {
            if let Some(lease) = leases.get_mut(mail) {
                lease.from = from;
            }
        }
    }

    /// Nothing panics while it is held, so a poisoned lock protects sound data.
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn time_passes_by_the_clock_that_saw_more_of_it() {
        let now = Moment::now();
        let hour = Duration::from_secs(3600);
        assert!(now.elapsed() < hour);
        let suspended = Moment { wall: now.wall - TimeDelta::hours(1), ..now };
        assert!(suspended.elapsed() >= hour);
        let set_back = Moment { wall: now.wall + TimeDelta::hours(1), ..now };
        assert!(set_back.elapsed() < hour);
    }

    #[test]
    fn what_was_not_prolonged_grows_old() {
        let leases = Leases::default();
        let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let now = Moment::now();
        let before = Moment { wall: now.wall - TimeDelta::minutes(1), ..now };
        let age = Duration::from_secs(30);
        leases.hold(old, 3, before);
        leases.hold(new, 1, now);
        assert_eq!(leases.older_than(age), [(old, 3)]);
        assert!(leases.is_older(old, age) && !leases.is_older(new, age));
        leases.prolonged(&[old, Uuid::from_u128(9)], now);
        assert_eq!((leases.older_than(age), leases.len()), (Vec::new(), 2));
        leases.release(old);
        assert!(leases.is_older(old, age), "what is not held is nobody's");
        assert_eq!(leases.mails(), [new]);
    }
}
