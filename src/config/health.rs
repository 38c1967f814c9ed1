//! `[health]`: when a part of the daemon counts as stuck.

use std::time::Duration;

use super::{
    Problems,
    duration::minutes,
    visit::{Section, Visitor},
};

/// `[health]`: what `/healthz` and the watchdog of systemd go by.
#[derive(Clone, Debug)]
pub struct Health {
    /// How long a loop of the daemon may make no progress while the database answers; one that waits for work or for a
    /// server makes progress. Default 5 min: longer than any statement may take.
    pub patience: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { patience: minutes(5) }
    }
}

impl Section for Health {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("patience", &mut self.patience);
    }
}

impl Health {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.positive(self.patience, "health.patience");
    }
}
