//! People who do not wait for each other: things that happen at moments of their own, however long each takes.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};

/// Moments that have nothing to do with each other, nor with how fast anybody is served: `rate` of them in a second, on
/// average. The same in every run.
pub fn moments(rate: f64, count: usize) -> Vec<Duration> {
    let mut rng = rand::rngs::StdRng::seed_from_u64(11);
    let mut next = Duration::ZERO;
    let pauses = (0..count).map(|_| -rng.random_range(f64::EPSILON..1.0).ln() / rate);
    pauses
        .map(|pause| {
            next += Duration::from_secs_f64(pause);
            next
        })
        .collect()
}

/// Calls `act` with the number of each moment when it comes, counted from now. When that was to be: who comes late does not
/// make anybody look better. Blocks the thread: the runtime's timer knows milliseconds only.
pub fn at_each(moments: &[Duration], mut act: impl FnMut(usize)) -> Vec<Instant> {
    let start = Instant::now() + Duration::from_millis(10);
    let due = moments.iter().map(|moment| start + *moment);
    due.enumerate()
        .map(|(number, due)| {
            if let Some(pause) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(pause);
            }
            act(number);
            due
        })
        .collect()
}
