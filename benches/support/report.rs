//! What a benchmark found, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::options::Options;
use super::processes;
use super::statistics::{median, quantile};

/// Tables and a picture.
pub struct Report {
    bench: &'static str,
    load: f64,
    tables: Vec<Table>,
    notes: Vec<String>,
}

/// Rows of measurements.
pub struct Table {
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<(String, Vec<Vec<f64>>)>,
}

impl Table {
    /// A table of these columns.
    pub fn new(title: impl Into<String>, columns: &[&'static str]) -> Self {
        Self { title: title.into(), columns: columns.to_vec(), rows: Vec::new() }
    }

    /// A row: for each column what each run measured.
    pub fn row(&mut self, label: impl Into<String>, cells: Vec<Vec<f64>>) {
        assert_eq!(cells.len(), self.columns.len());
        self.rows.push((label.into(), cells));
    }

    fn text(&self) -> String {
        let label = self.rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        let cells: Vec<Vec<String>> =
            self.rows.iter().map(|(_, cells)| cells.iter().map(|c| cell(c)).collect()).collect();
        let width = |column: usize| {
            let widest = cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            widest.max(self.columns[column].chars().count()) + 3
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = format!("\n{}\n\n  {:<label$}", self.title, "");
        for (column, width) in self.columns.iter().zip(&widths) {
            let _ = write!(text, "{column:>width$}");
        }
        for ((name, _), cells) in self.rows.iter().zip(&cells) {
            let _ = write!(text, "\n  {name:<label$}");
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(text, "{cell:>width$}");
            }
        }
        text.push('\n');
        text
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(label, cells)| {
            let cells = self.columns.iter().zip(cells).filter(|(_, runs)| !runs.is_empty());
            let cells = cells.map(|(column, runs)| {
                let value = json!({ "median": median(runs), "min": quantile(runs, 0.0), "max": quantile(runs, 1.0), "runs": runs });
                ((*column).to_owned(), value)
            });
            json!({ "of": label, "measured": cells.collect::<serde_json::Map<_, _>>() })
        });
        json!({ "title": self.title, "rows": rows.collect::<Vec<_>>() })
    }
}

/// The median, and from where to where the runs went.
fn cell(runs: &[f64]) -> String {
    match runs {
        [] => "-".to_owned(),
        [one] => digits(*one),
        several => {
            let [low, high] = [0.0, 1.0].map(|part| digits(quantile(several, part)));
            format!("{} ({low} to {high})", digits(median(several)))
        }
    }
}

/// Three digits that mean something.
fn digits(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl Report {
    /// To be filled in. Notes now how busy the machine is with other things.
    pub fn begin(bench: &'static str) -> Self {
        Self { bench, load: processes::load(), tables: Vec::new(), notes: Vec::new() }
    }

    /// Adds a table.
    pub fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Adds a line below the tables.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Prints it and writes the picture.
    #[expect(clippy::print_stdout, reason = "this is what the program is for")]
    pub fn finish(&self, picture: &str, options: &Options) {
        std::fs::write(&options.plot, picture).unwrap();
        if options.json {
            let tables: Vec<Value> = self.tables.iter().map(Table::json).collect();
            let (machine, load, notes) = (processes::machine(), self.load, &self.notes);
            println!(
                "{:#}",
                json!({ "bench": self.bench, "machine": machine, "load_before": load, "tables": tables, "notes": notes })
            );
            return;
        }
        for table in &self.tables {
            print!("{}", table.text());
        }
        println!();
        for note in &self.notes {
            println!("{note}");
        }
        println!("{}; load average before the first run: {:.1}.", processes::machine(), self.load);
        println!("The picture: {}", options.plot.display());
    }
}
