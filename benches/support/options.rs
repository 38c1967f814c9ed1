//! The command line of a benchmark.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

/// An option with a value: its name, what it is by default, and what it means.
pub type Known = (&'static str, &'static str, &'static str);

/// What was asked for.
pub struct Options {
    /// JSON instead of tables.
    pub json: bool,
    /// Where the picture goes.
    pub plot: PathBuf,
    values: BTreeMap<&'static str, String>,
}

impl Options {
    /// Reads `arguments`; if they cannot be understood, says what can be.
    pub fn read(bench: &str, known: &[Known], arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let usage = || {
            let mut text = format!("script/bench {bench} [--plot FILE] [--json] and:\n");
            for (name, default, meaning) in known {
                let _ = writeln!(text, "  --{name:<14} {meaning} ({default})");
            }
            text
        };
        let values = known.iter().map(|(name, default, _)| (*name, (*default).to_owned())).collect();
        let mut options = Self { json: false, plot: format!("{bench}.svg").into(), values };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let name = argument.strip_prefix("--").ok_or_else(usage)?;
            match name {
                // Cargo's own.
                "bench" => {}
                "json" => options.json = true,
                "plot" => options.plot = arguments.next().ok_or_else(usage)?.into(),
                _ => *options.values.get_mut(name).ok_or_else(usage)? = arguments.next().ok_or_else(usage)?,
            }
        }
        Ok(options)
    }

    /// The value of an option.
    pub fn get<T: FromStr>(&self, name: &str) -> T {
        let value = &self.values[name];
        value.parse().unwrap_or_else(|_| panic!("--{name} {value} is not understood"))
    }

    /// The values of an option that is a list.
    pub fn list<T: FromStr>(&self, name: &str) -> Vec<T> {
        let value = &self.values[name];
        let one = |part: &str| part.parse().unwrap_or_else(|_| panic!("--{name} {value}: {part} is not understood"));
        value.split(',').map(one).collect()
    }
}

/// Whether this is a benchmark: `cargo test --all-targets` runs the programs too, without servers.
pub fn asked_for() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}
