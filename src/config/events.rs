//! `[events]`: what other systems hear.

use super::{
    Problems,
    visit::{Section, Visitor},
};

/// `[events]`: published events.
#[derive(Clone, Debug)]
pub struct Events {
    /// The `source` of every event, a URI reference (CloudEvents 1.0). Default `regrant`.
    pub source: String,
}

impl Default for Events {
    fn default() -> Self {
        Self { source: "regrant".to_owned() }
    }
}

impl Section for Events {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("source", &mut self.source);
    }
}

impl Events {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let good = !self.source.is_empty() && !self.source.contains(char::is_whitespace);
        let reason = format!("{:?} is not a URI reference; write a name or URL without spaces", self.source);
        problems.check(good, "events.source", reason);
    }
}
