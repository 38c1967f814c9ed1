//! `[secrets]`: how passwords must come.

use super::visit::{Section, Visitor};

/// `[secrets]`: passwords in commands.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Whether passwords, tokens and codes in commands must be sealed, and temporary passwords in replies. Default false.
    pub require_sealed: bool,
}

impl Section for Secrets {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("require_sealed", &mut self.require_sealed);
    }
}
