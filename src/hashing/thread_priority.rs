//! The priority of hashing threads, which let everybody else go first. A hash takes tens of milliseconds anyway; who waits for a mail or for
//! another answer should not wait for hashes too, not even where they keep every processor busy.

use std::io;
use std::time::Duration;

/// How much lower the priority of these threads is, in nice levels: how much of a short processor they get.
const NICENESS: i32 = 5;

/// What these threads ask for at once, in nanoseconds: the most that Linux takes. From 6.12 on its scheduler lets whoever asks for
/// less go first, in other processes too, where a nice level does not count (autogroups; sched(7)). Older ones take no notice.
const SLICE: u64 = 100_000_000;

/// Lowers the priority of the calling thread.
pub(super) fn lower() {
    if let Err(error) = set() {
        tracing::debug!(%error, "password hashing threads have the priority of all others");
    }
}

#[expect(unsafe_code, reason = "neither the standard library nor rustix offers sched_setattr(2)")]
fn set() -> io::Result<()> {
    // SAFETY: both calls are given the calling thread and a structure that outlives them, with its size; the first writes at most
    // as much, and every pattern of bits is a value of it.
    unsafe {
        let size = u32::try_from(size_of::<libc::sched_attr>()).map_err(io::Error::other)?;
        let mut attributes: libc::sched_attr = std::mem::zeroed();
        if libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        attributes.size = size;
        attributes.sched_policy = u32::try_from(libc::SCHED_BATCH).map_err(io::Error::other)?;
        attributes.sched_nice = attributes.sched_nice.saturating_add(NICENESS).min(19);
        attributes.sched_runtime = SLICE;
        if libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// How long somebody is to be made way for.
const A_WHILE: Duration = Duration::from_secs(1);
/// What part of its time a thread leaves to others.
const PART: u32 = 8;
/// The longest pause.
const PAUSE: Duration = Duration::from_millis(10);

/// The pause after a hash that took `took`, if other lanes had something to do a moment ago. A priority is not enough where
/// the database or the broker share the machine: Linux may hold that a group of threads had its part of a processor, and lets it
/// wait until all others there have caught up. That took up to 160 ms while the threads here never slept. A pause lets whoever
/// waits go on.
pub(super) fn pause(took: Duration, since_others: Option<Duration>) -> Option<Duration> {
    since_others.is_some_and(|since| since < A_WHILE).then(|| (took / PART).min(PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_made_while_others_come_and_end_when_they_do_not() {
        let [hash, pause] = [16, 2].map(Duration::from_millis);
        assert_eq!(super::pause(hash, None), None);
        assert_eq!(super::pause(hash, Some(Duration::ZERO)), Some(pause));
        assert_eq!(super::pause(hash, Some(Duration::from_millis(999))), Some(pause));
        assert_eq!(super::pause(hash, Some(A_WHILE)), None);
        assert_eq!(super::pause(Duration::from_secs(1), Some(Duration::ZERO)), Some(PAUSE));
    }

    #[test]
    fn a_thread_stands_back_and_its_others_do_not() {
        let of_this_thread = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // proc_pid_stat(5) counts from 1; the first two stand before what is left.
            let after = stat.rsplit_once(") ").unwrap().1;
            let field = |number: usize| after.split(' ').nth(number - 3).unwrap().parse::<i64>().unwrap();
            (field(19), field(41))
        };
        let (usual, policy) = of_this_thread();
        let apart = std::thread::spawn(move || {
            set().unwrap();
            of_this_thread()
        });
        let lower = (usual + i64::from(NICENESS)).min(19);
        assert_eq!(apart.join().unwrap(), (lower, i64::from(libc::SCHED_BATCH)));
        assert_eq!(of_this_thread(), (usual, policy));
    }
}
