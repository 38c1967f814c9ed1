//! `[login]`: signing in.

use std::time::Duration;

use super::{
    Problems,
    duration::minutes,
    visit::{Section, Visitor},
};

/// `[login]`: wrong passwords.
#[derive(Clone, Debug)]
pub struct Login {
    /// So many wrong passwords in a row lock the account. Default 10.
    pub max_failures: u32,
    /// How long it stays locked. Default 15 min.
    pub lockout: Duration,
}

impl Default for Login {
    fn default() -> Self {
        Self { max_failures: 10, lockout: minutes(15) }
    }
}

impl Section for Login {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("max_failures", &mut self.max_failures);
        visitor.field("lockout", &mut self.lockout);
    }
}

impl Login {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.range(self.max_failures, 1..=u32::MAX, "login.max_failures");
        problems.positive(self.lockout, "login.lockout");
    }
}
