//! Whether two classes of answers can be told apart by their moments.

use std::fmt::Write as _;

use crate::Panel;
use crate::people::Class;
use crate::support::statistics::{number, quantile};

/// A class against the reference.
pub struct Comparison {
    pub class: Class,
    /// How often an answer of this class is the later one of two: what an attacker gains. 0.5 is a toss of a coin.
    pub later: f64,
    /// The same in standard errors (Mann-Whitney): beyond 4, chance is no explanation.
    pub z: f64,
}

/// The Mann-Whitney test: makes no assumption about the shape of the distributions.
pub fn compare(class: Class, times: &[f64], reference: &[f64]) -> Comparison {
    let wins: f64 = times
        .iter()
        .map(|time| {
            let earlier = reference.iter().filter(|other| other.total_cmp(time).is_lt()).count();
            let same = reference.iter().filter(|other| other.total_cmp(time).is_eq()).count();
            number(earlier) + number(same) / 2.0
        })
        .sum();
    let (m, n) = (number(times.len()), number(reference.len()));
    let later = wins / (m * n);
    let error = ((m + n + 1.0) / (12.0 * m * n)).sqrt();
    Comparison { class, later, z: (later - 0.5) / error }
}

/// Whether any class can be told from the reference with these many answers.
pub fn told_apart(panel: &Panel) -> bool {
    panel.comparisons.iter().any(|comparison| comparison.z.abs() > 4.0)
}

/// What was found, for people.
pub fn table(panels: &[Panel]) -> String {
    let mut text = String::new();
    for panel in panels {
        let (reference, times) = &panel.classes[0];
        let (median, p95) = (quantile(times, 0.5), quantile(times, 0.95));
        let samples = times.len();
        let _ = writeln!(text, "\n{}, {} ({samples} answers of each class)\n", panel.command, panel.mode);
        let head = ["median", "p95", "spread", "median", "p95", "later than", "standard"];
        let _ = writeln!(
            text,
            "  {:<16}{:>9}{:>9}{:>9}{:>9}{:>8}{:>12}{:>10}",
            "", head[0], head[1], head[2], head[3], head[4], head[5], head[6]
        );
        let units = ["ms", "ms", "ms", "ratio", "ratio", reference.as_str(), "errors"];
        let _ = writeln!(
            text,
            "  {:<16}{:>9}{:>9}{:>9}{:>9}{:>8}{:>12.12}{:>10}",
            "", units[0], units[1], units[2], units[3], units[4], units[5], units[6]
        );
        for (class, times) in &panel.classes {
            let of = |part| quantile(times, part);
            let comparison = panel.comparisons.iter().find(|comparison| comparison.class == *class);
            let against = comparison.map_or_else(
                || format!("{:>12}{:>10}", "-", "-"),
                |found| format!("{:>10.1} %{:>10.1}", found.later * 100.0, found.z),
            );
            let _ = writeln!(
                text,
                "  {:<16}{:>9.2}{:>9.2}{:>9.2}{:>9.3}{:>8.3}{against}",
                class.as_str(),
                of(0.5),
                of(0.95),
                of(0.75) - of(0.25),
                of(0.5) / median,
                of(0.95) / p95,
            );
        }
        let difference = |(_, times): &(Class, Vec<f64>)| (quantile(times, 0.5) - median).abs();
        let largest = panel.classes.iter().map(difference).fold(0.0, f64::max);
        let spread = quantile(times, 0.75) - quantile(times, 0.25);
        let verdict = if told_apart(panel) { "can be told apart" } else { "cannot be told apart" };
        let _ = writeln!(
            text,
            "\n  They {verdict} by {samples} answers each. Largest difference of medians: {largest:.2} ms, {:.0} % of the spread of `{}`.",
            largest / spread * 100.0,
            reference.as_str()
        );
    }
    text
}
