//! The `regrant` command.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// What one thread allocates for a mail, another frees: the system's allocator spends a sixth of the daemon's time on that, and
/// keeps more of the memory afterwards.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    regrant::cli::main()
}
