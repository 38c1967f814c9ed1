//! `[manual_entry]`: passwords that an administrator types in.

use super::visit::{Section, Visitor};

/// `[manual_entry]`: `password.set`.
#[derive(Clone, Debug)]
pub struct ManualEntry {
    /// Whether an administrator may set a password. Default false.
    pub allowed: bool,
    /// Whether that ends the person's sessions, if the command does not say. Default true.
    pub force_logout: bool,
}

impl Default for ManualEntry {
    fn default() -> Self {
        Self { allowed: false, force_logout: true }
    }
}

impl Section for ManualEntry {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("allowed", &mut self.allowed);
        visitor.field("force_logout", &mut self.force_logout);
    }
}
