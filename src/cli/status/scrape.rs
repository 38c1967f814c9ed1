//! Reads what `/metrics` shows: the Prometheus text format 0.0.4, as far as the daemon writes it.

use std::collections::{BTreeMap, BTreeSet};

/// One line of the page: a series and its value.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// All lines of one daemon, or of several together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scrape {
    samples: Vec<Sample>,
}

/// Labels that a series must have.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// What `Iterator::sum` gives, but nothing is 0 and not -0.
pub fn total(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |all, value| all + value)
}

impl Scrape {
    /// Reads a page.
    ///
    /// # Errors
    /// The first line that is not of this format.
    pub fn parse(page: &str) -> Result<Self, String> {
        let lines = page.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).ok_or_else(|| format!("not a metric: {line}")));
        Ok(Self { samples: samples.collect::<Result<_, _>>()? })
    }

    /// With the series of another daemon: sums go over both.
    pub fn and(&mut self, other: Self) {
        self.samples.extend(other.samples);
    }

    /// What was counted since an earlier look at the same daemon. One that was started anew began at 0.
    pub fn since(&self, earlier: &Self) -> Self {
        let before: BTreeMap<_, _> =
            earlier.samples.iter().map(|sample| ((&sample.name, &sample.labels), sample.value)).collect();
        let start = |scrape: &Self| scrape.first("process_start_time_seconds", &[]);
        let same = start(self) == start(earlier);
        let samples = self.samples.iter().map(|sample| {
            let before = before.get(&(&sample.name, &sample.labels)).copied().unwrap_or(0.0);
            let more = sample.value - before;
            let value = if same && more >= 0.0 { more } else { sample.value };
            Sample { value, ..sample.clone() }
        });
        Self { samples: samples.collect() }
    }

    fn of<'a>(&'a self, name: &'a str, labels: Labels<'a>) -> impl Iterator<Item = &'a Sample> {
        let fits = move |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value))
        };
        self.samples.iter().filter(fits)
    }

    /// The sum of all series with this name and these labels.
    pub fn sum(&self, name: &str, labels: Labels<'_>) -> f64 {
        total(self.of(name, labels).map(|sample| sample.value))
    }

    /// The largest of them, for what every daemon tells of the same database; none if no daemon does.
    pub fn max(&self, name: &str) -> Option<f64> {
        self.of(name, &[]).map(|sample| sample.value).reduce(f64::max)
    }

    /// The first of them.
    pub fn first(&self, name: &str, labels: Labels<'_>) -> Option<f64> {
        self.of(name, labels).next().map(|sample| sample.value)
    }

    /// The values of a label, each once.
    pub fn values_of<'a>(&'a self, name: &'a str, label: &'a str) -> impl Iterator<Item = &'a str> {
        let values: BTreeSet<&str> =
            self.of(name, &[]).filter_map(|sample| sample.labels.get(label)).map(String::as_str).collect();
        values.into_iter()
    }

    /// The labels of all series with this name whose value is this.
    pub fn labels_of<'a>(&'a self, name: &'a str, value: f64) -> impl Iterator<Item = &'a BTreeMap<String, String>> {
        self.of(name, &[])
            .filter(move |sample| (sample.value - value).abs() < f64::EPSILON)
            .map(|sample| &sample.labels)
    }

    /// A quantile of a histogram, as Prometheus' `histogram_quantile` estimates it; none if nothing was counted.
    /// `wanted` says which series take part, by their labels.
    pub fn quantile(
        &self,
        name: &str,
        wanted: impl Fn(&BTreeMap<String, String>) -> bool,
        quantile: f64,
    ) -> Option<f64> {
        let bucket = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.of(&bucket, &[]).filter(|sample| wanted(&sample.labels)) {
            let limit = number(sample.labels.get("le")?)?;
            match buckets.iter_mut().find(|(known, _)| known.total_cmp(&limit).is_eq()) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((limit, sample.value)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total = buckets.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
        let rank = quantile * total;
        let at = buckets.iter().position(|(_, count)| *count >= rank)?;
        let (below, counted) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
        let (limit, count) = buckets[at];
        // Beyond the last limit nothing is known but that.
        if limit.is_infinite() {
            return Some(below);
        }
        let inside = count - counted;
        Some(if inside > 0.0 { below + (limit - below) * (rank - counted) / inside } else { limit })
    }
}

/// `name{label="value",…} number [timestamp]`
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let name = line[..end].to_owned();
    let mut labels = BTreeMap::new();
    let mut rest = line[end..].trim_start();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.trim().to_owned(), value);
            rest = after;
        }
    }
    let value = number(rest.split_whitespace().next()?)?;
    Some(Sample { name, labels, value })
}

/// Up to the closing quote, and what comes after.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# HELP up Something.
# TYPE up gauge
up 1
commands_total{command=\"user.put\",outcome=\"ok\"} 7
commands_total{command=\"user.put\",outcome=\"rejected\"} 2
commands_total{command=\"a \\\"b\\\" \\\\ c\\nd\",outcome=\"ok\"} 1 1700000000000
took_bucket{lane=\"state\",le=\"0.1\"} 5
took_bucket{lane=\"state\",le=\"0.2\"} 9
took_bucket{lane=\"state\",le=\"+Inf\"} 10
took_bucket{lane=\"other\",le=\"0.1\"} 0
took_bucket{lane=\"other\",le=\"0.2\"} 0
took_bucket{lane=\"other\",le=\"+Inf\"} 0
process_start_time_seconds 1.7e9
";

    fn about(left: Option<f64>, right: f64) -> bool {
        left.is_some_and(|left| (left - right).abs() < 1e-9)
    }

    #[test]
    fn a_page_is_read_with_its_labels() {
        let scrape = Scrape::parse(PAGE).unwrap();
        assert!(about(scrape.first("up", &[]), 1.0));
        assert!(about(Some(scrape.sum("commands_total", &[])), 10.0));
        assert!(about(Some(scrape.sum("commands_total", &[("outcome", "ok"), ("command", "user.put")])), 7.0));
        assert!(about(Some(scrape.sum("commands_total", &[("command", "a \"b\" \\ c\nd")])), 1.0));
        assert!(about(scrape.first("process_start_time_seconds", &[]), 1.7e9));
        for wrong in ["up", "up x", "up{a=\"b} 1", "<html>"] {
            assert!(Scrape::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_the_daemon_writes_can_be_read() {
        let known = crate::metrics::Known {
            version: "1",
            commands: &["user.put"],
            templates: &["invite"],
            dead_letter_reasons: &["internal"],
        };
        let metrics = crate::metrics::Metrics::new(&known).unwrap();
        metrics.command("user.put", crate::metrics::CommandOutcome::Ok);
        metrics.command_duration("user.put", std::time::Duration::from_millis(4));
        let scrape = Scrape::parse(&metrics.render().unwrap()).unwrap();
        assert!(about(Some(scrape.sum("regrant_commands_total", &[("outcome", "ok")])), 1.0));
        let median = scrape.quantile("regrant_command_duration_seconds", |_| true, 0.5).unwrap();
        assert!((0.0025..=0.005).contains(&median), "{median}");
    }

    #[test]
    fn quantiles_lie_between_the_limits_of_their_buckets() {
        let scrape = Scrape::parse(PAGE).unwrap();
        assert!(about(scrape.quantile("took", |_| true, 0.5), 0.1));
        assert!(about(scrape.quantile("took", |_| true, 0.7), 0.15));
        assert!(about(scrape.quantile("took", |_| true, 0.99), 0.2), "no more is known of the last one");
        assert_eq!(scrape.quantile("took", |labels| labels["lane"] == "other", 0.5), None);
        assert_eq!(scrape.quantile("nothing", |_| true, 0.5), None);
    }

    #[test]
    fn of_two_looks_the_difference_is_what_happened() {
        let before = Scrape::parse("a_total 5\ng 9\nprocess_start_time_seconds 1\n").unwrap();
        let after = Scrape::parse("a_total 8\nb_total 2\ng 9\nprocess_start_time_seconds 1\n").unwrap();
        let since = after.since(&before);
        assert!(about(Some(since.sum("a_total", &[])), 3.0) && about(Some(since.sum("b_total", &[])), 2.0));
        let restarted = Scrape::parse("a_total 6\nprocess_start_time_seconds 2\n").unwrap();
        assert!(about(Some(restarted.since(&before).sum("a_total", &[])), 6.0));
    }

    #[test]
    fn several_daemons_are_added_up_but_not_what_they_share() {
        let mut both = Scrape::parse("done_total 5\npending 9\n").unwrap();
        both.and(Scrape::parse("done_total 2\npending 8\n").unwrap());
        assert!(about(Some(both.sum("done_total", &[])), 7.0));
        assert!(about(both.max("pending"), 9.0));
    }
}
