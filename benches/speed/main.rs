//! How fast the daemon is, and what it needs.
//!
//! Each benchmark compares the daemon with [`ceiling`], a program without product logic that was measured between the
//! daemon's runs on the same machine: absolute numbers say little on a machine that is not one's own.

#![expect(clippy::unwrap_used, reason = "a program to look at, with nobody to hand errors to")]

mod benchmarks {
    pub mod backlog;
    pub mod drain;
    pub mod force_logout;
    pub mod hash;
    pub mod idle;
    pub mod latency;
    pub mod mixed;
    pub mod population;
    pub mod render;
    pub mod replicas;
}
mod blend;
mod ceiling;
mod drained;
#[expect(dead_code, unused_imports, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/it/harness/mod.rs"]
mod harness;
mod scene;
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/support/smtp_server/mod.rs"]
mod smtp_server;
#[path = "../support/mod.rs"]
mod support;

use benchmarks::{backlog, drain, force_logout, hash, idle, latency, mixed, population, render, replicas};
use support::options::{self, Known, Options};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench").peekable();
    let name = arguments.next_if(|argument| !argument.starts_with('-')).unwrap_or_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if name == ceiling::NAME {
        return runtime.block_on(ceiling::run(arguments));
    }
    if !options::asked_for() {
        return;
    }
    let known: &[Known] = match name.as_str() {
        "drain" => drain::OPTIONS,
        "backlog" => backlog::OPTIONS,
        "latency" => latency::OPTIONS,
        "force-logout" => force_logout::OPTIONS,
        "hash" => hash::OPTIONS,
        "idle" => idle::OPTIONS,
        "mixed" => mixed::OPTIONS,
        "population" => population::OPTIONS,
        "render" => render::OPTIONS,
        "replicas" => replicas::OPTIONS,
        _ => return eprintln!("there is no benchmark `{name}`: `script/bench` lists them"),
    };
    let options = match Options::read(&name, known, arguments) {
        Ok(options) => options,
        Err(usage) => return eprint!("{usage}"),
    };
    match name.as_str() {
        "drain" => runtime.block_on(drain::run(&options)),
        "backlog" => runtime.block_on(backlog::run(&options)),
        "latency" => runtime.block_on(latency::run(&options)),
        "force-logout" => runtime.block_on(force_logout::run(&options)),
        "hash" => runtime.block_on(hash::run(&options)),
        "idle" => runtime.block_on(idle::run(&options)),
        "mixed" => runtime.block_on(mixed::run(&options)),
        "population" => runtime.block_on(population::run(&options)),
        "replicas" => runtime.block_on(replicas::run(&options)),
        _ => render::run(&options),
    }
}
