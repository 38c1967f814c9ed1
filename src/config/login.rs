//! `[login]`: signing in.

use std::time::Duration;

use super::{
    Problems,
    duration::minutes,
    password_reset::LONGEST_ANSWER,
    visit::{Section, Visitor},
};

/// `[login]`: wrong passwords.
#[derive(Clone, Debug)]
pub struct Login {
    /// Wrong passwords in a row before the account is locked. Default 10.
    pub max_failures: u32,
    /// How long it stays locked. Default 15 min.
    pub lockout: Duration,
    /// Refused sign-ins are answered this long after they arrive, or after a multiple of it: an immediate answer would reveal
    /// by its timing whether the name exists. Longer than a password check takes, of imported hashes too; 0 to answer at once. Default 100 ms.
    pub answer_after: Duration,
}

impl Default for Login {
    fn default() -> Self {
        Self { max_failures: 10, lockout: minutes(15), answer_after: Duration::from_millis(100) }
    }
}

impl Section for Login {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("max_failures", &mut self.max_failures);
        visitor.field("lockout", &mut self.lockout);
        visitor.field("answer_after", &mut self.answer_after);
    }
}

impl Login {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.range(self.max_failures, 1..=u32::MAX, "login.max_failures");
        problems.positive(self.lockout, "login.lockout");
        problems.check(
            self.answer_after <= LONGEST_ANSWER,
            "login.answer_after",
            "it must not be longer than 10s: the deliveries whose answers wait are held back from the queue",
        );
    }
}
