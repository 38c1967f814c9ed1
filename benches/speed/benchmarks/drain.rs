//! Reset requests that wait in the queue, until the last mail is accepted.

use crate::drained::{Case, Run};
use crate::scene::Kind;
use crate::support::chart::{self, Lines};
use crate::support::options::{Known, Options};
use crate::support::report::{Report, Table};
use crate::support::statistics::median;

pub const OPTIONS: &[Known] =
    &[("count", "30000", "requests that wait"), ("rounds", "3", "runs of each, taking turns")];

pub async fn run(options: &Options) {
    let (count, rounds) = (options.get("count"), options.get("rounds"));
    let case = |kind: Kind| (kind.as_str().to_owned(), Case { kind, workers: 1, count, population: count });
    let title = format!("{count} reset requests");
    let cases = [Kind::Ceiling, Kind::FullCeiling, Kind::Daemon].map(case);
    compare("drain", &title, &cases, &["of the ceiling", "of it with full mails"], rounds, options).await;
}

/// Runs the cases, and reports them against the first of them, as many as there are words for.
pub async fn compare(
    bench: &'static str,
    title: &str,
    cases: &[(String, Case)],
    against: &[&'static str],
    rounds: usize,
    options: &Options,
) {
    let mut report = Report::begin(bench);
    let all = Run::of_all(cases, rounds).await;
    let references = all.iter().map(|runs| median(&runs.iter().map(|run| run.rate).collect::<Vec<f64>>()));
    let references: Vec<f64> = references.take(against.len()).collect();
    let mut rates = Table::new(
        format!("{title}, from the queue to SMTP, {rounds} runs each: median (lowest to highest)"),
        &[&["mails/s"], against, &["peak MiB", "bytes a mail"]].concat(),
    );
    let mut costs = Table::new(
        "Microseconds of a core for each mail",
        &["worker", "PostgreSQL", "RabbitMQ", "sink", "together", "cores busy"],
    );
    for ((label, _), runs) in cases.iter().zip(&all) {
        let of = |value: &dyn Fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<f64>>();
        let mut cells = vec![of(&|run| run.rate)];
        cells.extend(references.iter().map(|reference| of(&|run| run.rate / reference)));
        cells.extend([of(&|run| run.peak), of(&|run| run.bytes)]);
        rates.row(label, cells);
        let mut cells: Vec<Vec<f64>> = (0..4).map(|who| of(&|run| run.cpu[who])).collect();
        cells.push(of(&|run| run.cpu.iter().sum()));
        cells.push(of(&|run| run.cpu.iter().sum::<f64>() * run.rate / 1e6));
        costs.row(label, cells);
    }
    report.table(rates);
    report.table(costs);
    let repeated: usize = all.iter().flatten().map(|run| run.repeated).sum();
    report.note(format!("Mails that came twice: {repeated}."));
    let series = cases
        .iter()
        .zip(&all)
        .flat_map(|((label, _), runs)| runs.iter().map(move |run| (label.clone(), run.progress.clone())));
    let picture = Lines { title: format!("{title}: mails accepted"), unit: "", series: series.collect() };
    report.finish(&chart::lines(&[picture]), options);
}
