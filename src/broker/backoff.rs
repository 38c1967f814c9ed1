//! How long to wait before the next try.

use std::time::Duration;

/// Growing, jittered delays: half of each delay is certain, the other half random, so that many daemons that
/// lost the same broker do not come back in step.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    /// Low, so that the daemon is back within seconds after the broker is.
    const MAX: Duration = Duration::from_secs(2);

    pub(super) fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The next delay.
    pub(super) fn next(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(Self::MAX);
        jittered(delay)
    }

    /// Starts again from the shortest delay.
    pub(super) fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

/// Between half and the whole of `delay`.
#[expect(clippy::disallowed_methods, reason = "a delay's jitter")]
pub(super) fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_within_their_jitter_and_start_again_after_a_reset() {
        let mut backoff = Backoff::new();
        for expected in [100, 200, 400, 800, 1600, 2000, 2000, 2000] {
            let expected = Duration::from_millis(expected);
            let delay = backoff.next();
            assert!(delay >= expected / 2 && delay <= expected, "{delay:?} is not in the upper half of {expected:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Backoff::FIRST);
    }
}
