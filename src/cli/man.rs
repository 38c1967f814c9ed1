//! `regrant man`: the manual pages, from the same arguments that the shell reads.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;

use super::Arguments;

/// What the arguments do not say, for the page of `regrant` itself.
const MORE: &str = include_str!("man/more.roff");

/// Writes `regrant.1`, and a page for each subcommand.
pub fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let command = Arguments::command();
    clap_mangen::generate_to(command.clone(), directory)?;
    let page = Man::new(command.disable_help_subcommand(true)).manual("regrant");
    let mut file = File::create(directory.join("regrant.1"))?;
    page.render(&mut file)?;
    file.write_all(MORE.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_a_page() {
        let home = tempfile::tempdir().unwrap();
        write(home.path()).unwrap();
        let page = |name: &str| fs::read_to_string(home.path().join(format!("{name}.1"))).unwrap_or_default();
        for command in Arguments::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let page = page(&format!("regrant-{}", command.get_name()));
            assert!(page.contains(".SH SYNOPSIS"), "{}", command.get_name());
        }
        assert!(page("regrant-templates-preview").contains(".SH OPTIONS"));
        let main = page("regrant");
        for heading in ["FILES", "ENVIRONMENT", "SIGNALS", "EXIT STATUS"] {
            assert!(
                main.contains(&format!(".SH {heading}")) || main.contains(&format!(".SH \"{heading}\"")),
                "{heading}"
            );
        }
        assert!(page("regrant-man").is_empty());
    }
}
