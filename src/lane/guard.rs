//! A panic in what one message makes the daemon do is that message's failure alone: it ends neither the worker nor the lane, where
//! its neighbours wait. It would come again, and end every daemon that takes it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt;

/// A fault in regrant, met on the way of one message. Where it is, the log says (`telemetry.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} panicked")]
pub struct Panicked(&'static str);

/// Runs what may panic. What it leaves half done nobody may look at.
///
/// # Errors
/// [`Panicked`], with the name of the work.
pub fn guarded<T>(name: &'static str, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked(name))
}

/// As [`guarded`], of what waits in between.
///
/// # Errors
/// As there.
pub async fn guarded_future<F: Future>(name: &'static str, work: F) -> Result<F::Output, Panicked> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| Panicked(name))
}
