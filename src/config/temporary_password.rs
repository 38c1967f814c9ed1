//! `[temporary_password]`: passwords that are good for choosing a new one.

use std::time::Duration;

use super::{
    Problems,
    duration::hours,
    visit::{Section, Visitor},
};

/// `[temporary_password]`: temporary passwords.
#[derive(Clone, Debug)]
pub struct TemporaryPassword {
    /// How long one works. Default 72 h.
    pub lifetime: Duration,
}

impl Default for TemporaryPassword {
    fn default() -> Self {
        Self { lifetime: hours(72) }
    }
}

impl Section for TemporaryPassword {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("lifetime", &mut self.lifetime);
    }
}

impl TemporaryPassword {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.positive(self.lifetime, "temporary_password.lifetime");
    }
}
