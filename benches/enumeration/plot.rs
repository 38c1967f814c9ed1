//! The distributions as a picture: for each way of answering a panel, for each class a row.

use std::fmt::Write as _;

use crate::Panel;
use crate::statistics::quantile;

const WIDTH: f64 = 520.0;
const LEFT: f64 = 130.0;
const ROW: f64 = 44.0;
const BINS: usize = 120;
const COLOURS: [&str; 6] = ["#2563eb", "#dc2626", "#d97706", "#7c3aed", "#059669", "#0891b2"];

/// An SVG document.
pub fn svg(panels: &[Panel]) -> String {
    let rows = |panel: &Panel| f64::from(u32::try_from(panel.classes.len()).unwrap_or(u32::MAX));
    let panel_height = |panel: &Panel| rows(panel) * ROW + 90.0;
    let mut body = String::new();
    let mut top = 10.0;
    // Two beside each other: at once, and held back.
    for pair in panels.chunks(2) {
        for (column, panel) in pair.iter().enumerate() {
            let left = if column == 0 { 0.0 } else { WIDTH + LEFT + 20.0 };
            draw(&mut body, panel, left, top);
        }
        top += pair.iter().map(panel_height).fold(0.0, f64::max);
    }
    let width = 2.0 * (WIDTH + LEFT) + 60.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn draw(body: &mut String, panel: &Panel, left: f64, top: f64) {
    // What is further out would leave no room for the rest.
    let all: Vec<f64> = panel.classes.iter().flat_map(|(_, times)| times.iter().copied()).collect();
    let (from, to) = (quantile(&all, 0.002), quantile(&all, 0.985));
    let span = (to - from).max(1.0) * 1.1;
    let from = from - span * 0.05;
    let x = |ms: f64| left + LEFT + (ms - from) / span * WIDTH;
    let bottom = top + 50.0 + ROW * f64::from(u32::try_from(panel.classes.len()).unwrap_or(0));
    let _ = writeln!(
        body,
        "<text x=\"{}\" y=\"{}\" font-weight=\"bold\">{}, {}</text>",
        left + LEFT,
        top + 20.0,
        panel.command,
        panel.mode
    );
    let step = step(span);
    let mut tick = (from / step).ceil() * step;
    while tick < from + span {
        let at = x(tick);
        let _ = writeln!(
            body,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{tick} ms</text>",
            top + 34.0,
            bottom + 18.0
        );
        tick += step;
    }
    for (row, (class, times)) in panel.classes.iter().enumerate() {
        let base = top + 50.0 + ROW * f64::from(u32::try_from(row + 1).unwrap_or(0));
        let colour = COLOURS[row % COLOURS.len()];
        let bins = bins(times, from, span);
        let tallest = bins.iter().copied().max().unwrap_or(1).max(1);
        let mut path = format!("M{:.1},{base:.1}", x(from));
        let width = WIDTH / f64::from(u32::try_from(BINS).unwrap_or(1));
        let mut at = x(from);
        for bin in bins {
            let height = f64::from(bin) / f64::from(tallest) * (ROW - 8.0);
            let _ = write!(path, " V{:.1} h{width:.2}", base - height);
            at += width;
        }
        let median = x(quantile(times, 0.5));
        let _ = writeln!(
            body,
            "<path d=\"{path} V{base:.1} Z\" fill=\"{colour}\" fill-opacity=\"0.45\" stroke=\"{colour}\"/>\
             <line x1=\"{median:.1}\" x2=\"{median:.1}\" y1=\"{:.1}\" y2=\"{base:.1}\" stroke=\"black\"/>\
             <line x1=\"{:.1}\" x2=\"{at:.1}\" y1=\"{base:.1}\" y2=\"{base:.1}\" stroke=\"#999\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            base - ROW + 8.0,
            x(from),
            left + LEFT - 8.0,
            base - 8.0,
            class.as_str()
        );
    }
}

/// How many fall into each of [`BINS`] equal parts of the span.
fn bins(times: &[f64], from: f64, span: f64) -> Vec<u32> {
    let mut bins = vec![0; BINS];
    for time in times {
        let place = (time - from) / span * f64::from(u32::try_from(BINS).unwrap_or(1));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what does not fit is left out")]
        if place >= 0.0
            && let Some(bin) = bins.get_mut(place as usize)
        {
            *bin += 1;
        }
    }
    bins
}

/// 1, 2 or 5 times a power of ten: some six ticks.
fn step(span: f64) -> f64 {
    let rough = span / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough).unwrap_or(power)
}
