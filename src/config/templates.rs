//! `[templates]`: where the mail templates are.

use std::path::PathBuf;

use super::visit::{Section, Visitor};

/// `[templates]`: the mail templates.
#[derive(Clone, Debug)]
pub struct Templates {
    /// Their directory; relative to the working directory. Default `email_templates`.
    pub directory: PathBuf,
    /// Whether changed files are taken up at once, and not only on SIGHUP. Default true.
    pub watch: bool,
}

impl Default for Templates {
    fn default() -> Self {
        Self { directory: "email_templates".into(), watch: true }
    }
}

impl Section for Templates {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("directory", &mut self.directory);
        visitor.field("watch", &mut self.watch);
    }
}
