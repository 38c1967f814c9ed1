//! `[manual_entry]`: passwords that an administrator types in.

use super::visit::{Section, Visitor};

/// `[manual_entry]`: `password.set`.
#[derive(Clone, Debug, Default)]
pub struct ManualEntry {
    /// Whether an administrator may set a password. Default false.
    pub allowed: bool,
    /// Whether that ends the person's sessions, if the command does not say. Default: `sessions.end_on_password_change`.
    pub force_logout: Option<bool>,
}

impl Section for ManualEntry {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("allowed", &mut self.allowed);
        visitor.field("force_logout", &mut self.force_logout);
    }
}
