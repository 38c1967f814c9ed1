//! `[keys]`: where the daemon's own keys are.

use std::path::PathBuf;

use super::visit::{Section, Visitor};

/// `[keys]`: the key file, made by `regrant keys init`.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The file; relative to the working directory. Default `regrant.keys`.
    pub file: PathBuf,
}

impl Default for Keys {
    fn default() -> Self {
        Self { file: "regrant.keys".into() }
    }
}

impl Section for Keys {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("file", &mut self.file);
    }
}
