//! The same drain by several daemons side by side on this machine.

use super::drain::compare;
use crate::drained::Case;
use crate::scene::Kind;
use crate::support::options::{Known, Options};

pub const OPTIONS: &[Known] = &[
    ("count", "30000", "requests that wait"),
    ("daemons", "1,2,4", "how many daemons"),
    ("rounds", "3", "runs of each, taking turns"),
];

pub async fn run(options: &Options) {
    let (count, rounds) = (options.get("count"), options.get("rounds"));
    let case = |workers: usize| {
        let case = Case { kind: Kind::Daemon, workers, count, population: count };
        (format!("daemons: {workers}"), case)
    };
    let cases: Vec<_> = options.list("daemons").into_iter().map(case).collect();
    compare("replicas", &format!("{count} reset requests"), &cases, &["of the first"], rounds, options).await;
}
