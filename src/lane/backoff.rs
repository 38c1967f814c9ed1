//! What a worker does while the database fails at its work.

use std::time::Duration;

use crate::store;
use crate::store::health::{Health, Trouble};

/// After the first failure, doubled with each that follows.
const FIRST: Duration = Duration::from_millis(200);
/// Short: it is what recovery waits for.
const LONGEST: Duration = Duration::from_secs(2);
/// Who has had nothing to do for so long does not fail any more, and will not hear that it would work again.
const IDLE: Duration = Duration::from_secs(1);

/// From the first failure to the next success: how long to rest, and what is shown meanwhile. The database may answer whoever
/// asks how it is and still fail at work; there must be no spinning between the two.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
    trouble: Option<Trouble>,
}

impl Backoff {
    /// Shows why.
    pub(super) fn tell(&mut self, database: &Health, error: &store::Error) {
        self.failures += 1;
        // The new one before the old one ends: it must not look as if all were well between the two.
        let trouble = database.report_failing(error);
        drop(self.trouble.replace(trouble));
    }

    /// Waits for work; without any the trouble is over.
    pub(super) async fn unless_idle<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if self.trouble.is_some() {
            if let Ok(work) = tokio::time::timeout(IDLE, &mut work).await {
                return work;
            }
            self.trouble = None;
        }
        work.await
    }

    /// Rests.
    pub(super) async fn pause(&self) {
        let doublings = self.failures.saturating_sub(1).min(8);
        tokio::time::sleep((FIRST * 2_u32.pow(doublings)).min(LONGEST)).await;
    }
}
