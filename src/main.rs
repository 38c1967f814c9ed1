//! The `regrant` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    regrant::cli::main()
}
