//! `[retention]`: how long things are remembered.

use std::time::Duration;

use super::{
    Problems,
    duration::days,
    visit::{Section, Visitor},
};

/// `[retention]`: how long things are remembered.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Executed commands, so that a repeated one changes nothing. Default 7 days.
    pub commands: Duration,
    /// The activity history. Default 400 days.
    pub activity: Duration,
    /// The history of mails. Default 90 days.
    pub emails: Duration,
    /// Closed resets, invitations and verifications. Default 90 days.
    pub tickets: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { commands: days(7), activity: days(400), emails: days(90), tickets: days(90) }
    }
}

impl Section for Retention {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("commands", &mut self.commands);
        visitor.field("activity", &mut self.activity);
        visitor.field("emails", &mut self.emails);
        visitor.field("tickets", &mut self.tickets);
    }
}

impl Retention {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.positive(self.commands, "retention.commands");
        problems.positive(self.activity, "retention.activity");
        problems.positive(self.emails, "retention.emails");
        problems.positive(self.tickets, "retention.tickets");
    }
}
