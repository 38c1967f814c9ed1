//! Pictures: distributions beside each other, and lines over time.

use std::fmt::Write as _;

use super::statistics::{number, quantile};

const WIDTH: f64 = 520.0;
const LEFT: f64 = 130.0;
const ROW: f64 = 44.0;
const HEIGHT: f64 = 220.0;
const BINS: usize = 120;
const COLOURS: [&str; 6] = ["#2563eb", "#dc2626", "#d97706", "#7c3aed", "#059669", "#0891b2"];

/// Distributions that are to be compared.
pub struct Panel {
    pub title: String,
    pub unit: &'static str,
    pub rows: Vec<(String, Vec<f64>)>,
}

/// What changes over time; the first of a point is in seconds.
pub struct Lines {
    pub title: String,
    pub unit: &'static str,
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

/// An SVG document of distributions, two beside each other.
pub fn distributions(panels: &[Panel]) -> String {
    document(panels, |panel| number(panel.rows.len()) * ROW + 90.0, draw_distributions)
}

/// An SVG document of lines, two charts beside each other.
pub fn lines(charts: &[Lines]) -> String {
    document(charts, |chart| HEIGHT + 90.0 + 18.0 * number(chart.series.len()), draw_lines)
}

fn document<T>(parts: &[T], height: impl Fn(&T) -> f64, draw: impl Fn(&mut String, &T, f64, f64)) -> String {
    let mut body = String::new();
    let mut top = 10.0;
    for pair in parts.chunks(2) {
        for (column, part) in pair.iter().enumerate() {
            draw(&mut body, part, number(column) * (WIDTH + LEFT + 20.0), top);
        }
        top += pair.iter().map(&height).fold(0.0, f64::max);
    }
    let width = number(parts.len().min(2)) * (WIDTH + LEFT + 20.0) + 20.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn title(body: &mut String, title: &str, left: f64, top: f64) {
    let (x, y) = (left + LEFT, top + 20.0);
    let _ = writeln!(body, "<text x=\"{x}\" y=\"{y}\" font-weight=\"bold\">{title}</text>");
}

fn draw_distributions(body: &mut String, panel: &Panel, left: f64, top: f64) {
    // What is further out would leave no room for the rest.
    let all: Vec<f64> = panel.rows.iter().flat_map(|(_, values)| values.iter().copied()).collect();
    let (from, to) = (quantile(&all, 0.002), quantile(&all, 0.985));
    let span = (to - from).max(f64::EPSILON.max(to.abs() / 1000.0)) * 1.1;
    let from = from - span * 0.05;
    let x = |value: f64| left + LEFT + (value - from) / span * WIDTH;
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
        let bins = bins(values, from, span);
        let tallest = bins.iter().copied().max().unwrap_or(1).max(1);
        let mut path = format!("M{:.1},{base:.1}", x(from));
        let width = WIDTH / number(BINS);
        let mut at = x(from);
        for bin in bins {
            let height = f64::from(bin) / f64::from(tallest) * (ROW - 8.0);
            let _ = write!(path, " V{:.1} h{width:.2}", base - height);
            at += width;
        }
        let median = x(quantile(values, 0.5));
        let _ = writeln!(
            body,
            "<path d=\"{path} V{base:.1} Z\" fill=\"{colour}\" fill-opacity=\"0.45\" stroke=\"{colour}\"/>\
             <line x1=\"{median:.1}\" x2=\"{median:.1}\" y1=\"{:.1}\" y2=\"{base:.1}\" stroke=\"black\"/>\
             <line x1=\"{:.1}\" x2=\"{at:.1}\" y1=\"{base:.1}\" y2=\"{base:.1}\" stroke=\"#999\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            base - ROW + 8.0,
            x(from),
            left + LEFT - 8.0,
            base - 8.0,
        );
    }
}

fn draw_lines(body: &mut String, chart: &Lines, left: f64, top: f64) {
    let points = || chart.series.iter().flat_map(|(_, points)| points.iter());
    let widest = points().map(|point| point.0).fold(f64::EPSILON, f64::max);
    let highest = points().map(|point| point.1).fold(f64::EPSILON, f64::max) * 1.05;
    let (above, bottom) = (top + 34.0, top + 34.0 + HEIGHT);
    let x = |seconds: f64| left + LEFT + seconds / widest * WIDTH;
    let y = |value: f64| bottom - value / highest * HEIGHT;
    title(body, &chart.title, left, top);
    for tick in ticks(0.0, highest) {
        let (at, from, to) = (y(tick), left + LEFT, left + LEFT + WIDTH);
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
    for (row, (label, points)) in chart.series.iter().enumerate() {
        let colour = COLOURS[row % COLOURS.len()];
        let mut path = String::new();
        for (seconds, value) in points {
            let _ = write!(path, "{:.1},{:.1} ", x(*seconds), y(*value));
        }
        let at = bottom + 38.0 + 18.0 * number(row);
        let _ = writeln!(
            body,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <rect x=\"{}\" y=\"{}\" width=\"12\" height=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"{at}\">{label}</text>",
            left + LEFT,
            at - 6.0,
            left + LEFT + 18.0,
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
