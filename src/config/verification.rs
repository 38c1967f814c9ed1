//! `[verification]`: proving that an email address is somebody's own.

use std::time::Duration;

use super::{
    Problems,
    duration::hours,
    visit::{Section, Visitor},
};

/// `[verification]`: verification of email addresses.
#[derive(Clone, Debug)]
pub struct Verification {
    /// How long a link works. Default 72 h.
    pub lifetime: Duration,
    /// How long a code works. Default 1 h.
    pub code_lifetime: Duration,
}

impl Default for Verification {
    fn default() -> Self {
        Self { lifetime: hours(72), code_lifetime: hours(1) }
    }
}

impl Section for Verification {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("lifetime", &mut self.lifetime);
        visitor.field("code_lifetime", &mut self.code_lifetime);
    }
}

impl Verification {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.positive(self.lifetime, "verification.lifetime");
        problems.positive(self.code_lifetime, "verification.code_lifetime");
    }
}
