//! `[invite]`: invitations.

use std::time::Duration;

use super::{
    Problems,
    duration::hours,
    visit::{Section, Visitor},
};

/// `[invite]`: invitations.
#[derive(Clone, Debug)]
pub struct Invite {
    /// How long an invitation can be accepted. Default 72 h.
    pub lifetime: Duration,
}

impl Default for Invite {
    fn default() -> Self {
        Self { lifetime: hours(72) }
    }
}

impl Section for Invite {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("lifetime", &mut self.lifetime);
    }
}

impl Invite {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.positive(self.lifetime, "invite.lifetime");
    }
}
