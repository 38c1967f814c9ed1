//! `[shutdown]`: the end of a process.

use std::time::Duration;

use super::{
    Problems,
    visit::{Section, Visitor},
};

/// `[shutdown]`: stopping.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// How long work in progress may take to finish. Default 30 s.
    pub timeout: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30) }
    }
}

impl Section for Shutdown {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("timeout", &mut self.timeout);
    }
}

impl Shutdown {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.positive(self.timeout, "shutdown.timeout");
    }
}
