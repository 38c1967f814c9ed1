//! Pictures: distributions beside each other, and lines over time.

use std::fmt::Write as _;

use super::statistics::{number, quantile};

const WIDTH: f64 = 520.0;
/// At least so much for labels.
const LEFT: f64 = 150.0;
/// Of a label; a sans-serif of 13 pixels is rarely wider.
const LETTER: f64 = 7.2;
const ROW: f64 = 44.0;
const HEIGHT: f64 = 220.0;
const BINS: usize = 120;
/// Fewer values than this are shown one by one.
const FEW: usize = 20;
const COLOURS: [&str; 6] = ["#2563eb", "#dc2626", "#d97706", "#7c3aed", "#059669", "#0891b2"];

/// Distributions that are to be compared.
pub struct Panel {
    pub title: String,
    pub unit: &'static str,
    pub rows: Vec<(String, Vec<f64>)>,
}

/// What changes over time; the first of a point is in seconds. Several of one name are of one colour.
pub struct Lines {
    pub title: String,
    pub unit: &'static str,
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

/// An SVG document of distributions, two beside each other.
pub fn distributions(panels: &[Panel]) -> String {
    let labels = panels.iter().flat_map(|panel| panel.rows.iter().map(|(label, _)| label.chars().count()));
    let margin = labels.map(|letters| number(letters) * LETTER + 16.0).fold(LEFT, f64::max);
    document(panels, margin, |panel| number(panel.rows.len()) * ROW + 90.0, draw_distributions)
}

/// An SVG document of lines, two charts beside each other.
pub fn lines(charts: &[Lines]) -> String {
    document(charts, LEFT, |chart| HEIGHT + 90.0 + 18.0 * number(names(chart).len()), draw_lines)
}

/// Each name once.
fn names(chart: &Lines) -> Vec<&str> {
    let mut names: Vec<&str> = chart.series.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    names
}

/// `draw` gets where each part's own area begins, right of the margin for labels, and its top.
fn document<T>(
    parts: &[T],
    margin: f64,
    height: impl Fn(&T) -> f64,
    draw: impl Fn(&mut String, &T, f64, f64),
) -> String {
    let mut body = String::new();
    let mut top = 10.0;
    for pair in parts.chunks(2) {
        for (column, part) in pair.iter().enumerate() {
            draw(&mut body, part, number(column) * (WIDTH + margin + 20.0) + margin, top);
        }
        top += pair.iter().map(&height).fold(0.0, f64::max);
    }
    let width = number(parts.len().min(2)) * (WIDTH + margin + 20.0) + 20.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn title(body: &mut String, title: &str, left: f64, top: f64) {
    let y = top + 20.0;
    let _ = writeln!(body, "<text x=\"{left}\" y=\"{y}\" font-weight=\"bold\">{title}</text>");
}

fn draw_distributions(body: &mut String, panel: &Panel, left: f64, top: f64) {
    let all: Vec<f64> = panel.rows.iter().flat_map(|(_, values)| values.iter().copied()).collect();
    // Of many, what is further out would leave no room for the rest.
    let outer = if panel.rows.iter().all(|(_, values)| values.len() < FEW) { [0.0, 1.0] } else { [0.002, 0.985] };
    let [from, to] = outer.map(|part| quantile(&all, part));
    let span = (to - from).max(f64::EPSILON.max(to.abs() / 1000.0)) * 1.1;
    let from = from - span * 0.05;
    let x = |value: f64| left + (value - from) / span * WIDTH;
    let bottom = top + 50.0 + ROW * number(panel.rows.len());
    title(body, &panel.title, left, top);
    for tick in ticks(from, from + span) {
        let at = x(tick);
        let _ = writeln!(
            body,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{} {}</text>",
            top + 34.0,
            bottom + 18.0,
            shown(tick),
            panel.unit
        );
    }
    for (row, (label, values)) in panel.rows.iter().enumerate() {
        let base = top + 50.0 + ROW * number(row + 1);
        let colour = COLOURS[row % COLOURS.len()];
        let few = values.len() < FEW;
        let [p50, p99] = [0.5, 0.99].map(|part| short(quantile(values, part)));
        let numbers = if few { format!("median {p50}") } else { format!("p50 {p50}, p99 {p99}") };
        let _ = writeln!(
            body,
            "<line x1=\"{left:.1}\" x2=\"{:.1}\" y1=\"{base:.1}\" y2=\"{base:.1}\" stroke=\"#999\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\" fill=\"#666\">{numbers} {}</text>",
            left + WIDTH,
            left - 8.0,
            base - 20.0,
            left - 8.0,
            base - 5.0,
            panel.unit,
        );
        if few {
            for value in values {
                let (at, above) = (x(*value), base - ROW / 3.0);
                let _ = writeln!(
                    body,
                    "<circle cx=\"{at:.1}\" cy=\"{above:.1}\" r=\"5\" fill=\"{colour}\" fill-opacity=\"0.45\" stroke=\"{colour}\"/>"
                );
            }
        } else {
            let path = outline(&bins(values, from, span), left, base);
            let _ = writeln!(body, "<path d=\"{path}\" fill=\"{colour}\" fill-opacity=\"0.45\" stroke=\"{colour}\"/>");
        }
        let _ = writeln!(
            body,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{base:.1}\" stroke=\"black\"/>",
            x(quantile(values, 0.5)),
            base - ROW + 8.0,
        );
    }
}

/// A histogram's path, as high as a row.
fn outline(bins: &[u32], left: f64, base: f64) -> String {
    let tallest = bins.iter().copied().max().unwrap_or(1).max(1);
    let mut path = format!("M{left:.1},{base:.1}");
    let width = WIDTH / number(BINS);
    for bin in bins {
        let height = f64::from(*bin) / f64::from(tallest) * (ROW - 8.0);
        let _ = write!(path, " V{:.1} h{width:.2}", base - height);
    }
    let _ = write!(path, " V{base:.1} Z");
    path
}

fn draw_lines(body: &mut String, chart: &Lines, left: f64, top: f64) {
    let points = || chart.series.iter().flat_map(|(_, points)| points.iter());
    let widest = points().map(|point| point.0).fold(f64::EPSILON, f64::max);
    let highest = points().map(|point| point.1).fold(f64::EPSILON, f64::max) * 1.05;
    let (above, bottom) = (top + 34.0, top + 34.0 + HEIGHT);
    let x = |seconds: f64| left + seconds / widest * WIDTH;
    let y = |value: f64| bottom - value / highest * HEIGHT;
    title(body, &chart.title, left, top);
    for tick in ticks(0.0, highest) {
        let (at, from, to) = (y(tick), left, left + WIDTH);
        let _ = writeln!(
            body,
            "<line x1=\"{from}\" x2=\"{to}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\">{} {}</text>",
            from - 8.0,
            at + 4.0,
            shown(tick),
            chart.unit
        );
    }
    for tick in ticks(0.0, widest) {
        let at = x(tick);
        let _ = writeln!(
            body,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{above}\" y2=\"{bottom}\" stroke=\"#eee\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{} s</text>",
            bottom + 18.0,
            shown(tick)
        );
    }
    let names = names(chart);
    let colour = |row: usize| COLOURS[row % COLOURS.len()];
    for (name, points) in &chart.series {
        let colour = colour(names.iter().position(|known| known == name).unwrap_or_default());
        let mut path = String::new();
        for (seconds, value) in points {
            let _ = write!(path, "{:.1},{:.1} ", x(*seconds), y(*value));
        }
        let _ = writeln!(body, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
    }
    for (row, name) in names.iter().enumerate() {
        let at = bottom + 38.0 + 18.0 * number(row);
        let _ = writeln!(
            body,
            "<rect x=\"{left}\" y=\"{}\" width=\"12\" height=\"4\" fill=\"{}\"/><text x=\"{}\" y=\"{at}\">{name}</text>",
            at - 6.0,
            colour(row),
            left + 18.0,
        );
    }
}

/// How many fall into each of [`BINS`] equal parts of the span.
fn bins(values: &[f64], from: f64, span: f64) -> Vec<u32> {
    let mut bins = vec![0; BINS];
    for value in values {
        let place = (value - from) / span * number(BINS);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what does not fit is left out")]
        if place >= 0.0
            && let Some(bin) = bins.get_mut(place as usize)
        {
            *bin += 1;
        }
    }
    bins
}

/// Some six round values within a span.
fn ticks(from: f64, to: f64) -> impl Iterator<Item = f64> {
    let step = step(to - from);
    let first = (from / step).ceil();
    (0..20_u32).map(move |n| (first + f64::from(n)) * step).take_while(move |tick| *tick < to)
}

/// 1, 2 or 5 times a power of ten: some six ticks.
fn step(span: f64) -> f64 {
    let rough = span / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough).unwrap_or(power)
}

/// A tick without the noise of its last binary digits.
fn shown(tick: f64) -> f64 {
    (tick * 1e6).round() / 1e6
}

/// Three digits that mean something.
fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
