//! The priority of hashing threads. A hash takes tens of milliseconds anyway; who waits for a mail or for another answer should
//! not wait for hashes too, not even where they keep every processor busy.

use std::io;

/// How much lower the priority of these threads is, in nice levels: how much of a short processor they get.
const NICENESS: i32 = 5;

/// What these threads ask for at once, in nanoseconds: the most that Linux takes. From 6.12 on its scheduler lets whoever asks for
/// less go first, in other processes too, where a nice level does not count (autogroups; sched(7)). Older ones take no notice.
const SLICE: u64 = 100_000_000;

/// Lets this thread stand back.
pub(super) fn stand_back() {
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

#[cfg(test)]
mod tests {
    use super::*;

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
