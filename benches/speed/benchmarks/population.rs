//! The same drain with few and with many people in the database.

use super::drain::compare;
use crate::drained::Case;
use crate::scene::Kind;
use crate::support::options::{Known, Options};

pub const OPTIONS: &[Known] = &[
    ("count", "10000", "requests that wait"),
    ("people", "10000,1000000,10000000", "people in the database, at least as many as requests"),
    ("rounds", "1", "runs of each, taking turns"),
];

pub async fn run(options: &Options) {
    let (count, rounds) = (options.get("count"), options.get("rounds"));
    let case = |population: usize| {
        let case = Case { kind: Kind::Daemon, workers: 1, count, population };
        (format!("people: {population}"), case)
    };
    let cases: Vec<_> = options.list("people").into_iter().map(case).collect();
    compare("population", &format!("{count} reset requests"), &cases, &["of the first"], rounds, options).await;
}
