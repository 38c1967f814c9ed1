//! `[sessions]`: who is signed in.

use std::time::Duration;

use super::{
    Problems,
    duration::{days, minutes},
    visit::{Section, Visitor},
};

/// `[sessions]`: sessions.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// How long a session lasts. Default 30 days.
    pub lifetime: Duration,
    /// Whether a changed password ends the person's other sessions. Default true.
    pub end_on_password_change: bool,
    /// The maximum number of sessions per person; the oldest ends when one more begins. Default 100.
    pub max_per_user: u32,
    /// How long a session in another's name lasts. Default 30 min.
    pub impersonation_lifetime: Duration,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            lifetime: days(30),
            end_on_password_change: true,
            max_per_user: 100,
            impersonation_lifetime: minutes(30),
        }
    }
}

impl Section for Sessions {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("lifetime", &mut self.lifetime);
        visitor.field("end_on_password_change", &mut self.end_on_password_change);
        visitor.field("max_per_user", &mut self.max_per_user);
        visitor.field("impersonation_lifetime", &mut self.impersonation_lifetime);
    }
}

impl Sessions {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.positive(self.lifetime, "sessions.lifetime");
        problems.positive(self.impersonation_lifetime, "sessions.impersonation_lifetime");
        problems.range(self.max_per_user, 1..=u32::MAX, "sessions.max_per_user");
    }
}
