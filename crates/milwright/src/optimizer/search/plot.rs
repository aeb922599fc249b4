//! Draws the curve of a search.

use std::fmt::Write as _;

use super::report::{CurvePoint, SearchReport};
use crate::Metric;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
/// What is left of the picture around the axes: left, right, above, below.
const MARGINS: [f64; 4] = [70.0, 150.0, 40.0, 55.0];

impl SearchReport {
    /// The curve as a picture, in SVG: bytes and figures of all choices that were run.
    pub fn plot(&self) -> String {
        svg(self)
    }
}

/// The picture, as SVG.
fn svg(report: &SearchReport) -> String {
    // Equal results have no place on an axis without end.
    let shown: Vec<&CurvePoint> =
        report.curve.iter().filter(|p| height(report.metric, p.figure).is_finite()).collect();
    let y_of = |p: &&CurvePoint| height(report.metric, p.figure);
    let limit = report.tolerance.map(|t| height(report.metric, t)).filter(|y| y.is_finite());
    let x = Axis::new(shown.iter().map(|p| p.bytes as f64), MARGINS[0], WIDTH - MARGINS[1]);
    let y = Axis::new(shown.iter().map(y_of).chain(limit), HEIGHT - MARGINS[3], MARGINS[2]);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let (left, right, top, bottom) = (MARGINS[0], WIDTH - MARGINS[1], MARGINS[2], HEIGHT - MARGINS[3]);
    for tick in x.ticks() {
        let at = x.at(tick);
        line(&mut out, [at, top, at, bottom], "#ddd", "");
        text(&mut out, at, bottom + 18.0, "middle", &bytes(tick));
    }
    for tick in y.ticks() {
        let at = y.at(tick);
        line(&mut out, [left, at, right, at], "#ddd", "");
        text(&mut out, left - 8.0, at + 4.0, "end", &label(report.metric, tick));
    }
    text(&mut out, f64::midpoint(left, right), HEIGHT - 14.0, "middle", "bytes of the model");
    text(
        &mut out,
        left,
        top - 14.0,
        "start",
        &format!("{} on the samples of the search", unit(report.metric)),
    );
    if let (Some(limit), Some(tolerance)) = (limit, report.tolerance) {
        let at = y.at(limit);
        line(&mut out, [left, at, right, at], "#c33", " stroke-dasharray=\"6 4\"");
        text(
            &mut out,
            right + 6.0,
            at + 4.0,
            "start",
            &format!("tolerance {}", report.metric.show(tolerance)),
        );
    }
    let place = |p: &CurvePoint| (x.at(p.bytes as f64), y.at(height(report.metric, p.figure)));
    let front: Vec<String> =
        shown.iter().filter(|p| p.best).map(|p| place(p)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#27c\" stroke-width=\"1.5\"/>",
        front.join(" ")
    );
    for point in &shown {
        let (at, up) = place(point);
        let name = point.form.as_deref().unwrap_or("a form for each weight");
        let title =
            format!("{}: {}, {}", escaped(name), bytes(point.bytes as f64), report.metric.show(point.figure));
        if point.form.is_some() {
            _ = writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\" fill=\"#e80\"><title>{title}</title></rect>",
                at - 3.5,
                up - 3.5
            );
            text(&mut out, at + 7.0, up + 12.0, "start", &escaped(name));
        } else {
            _ = writeln!(
                out,
                "<circle cx=\"{at:.1}\" cy=\"{up:.1}\" r=\"3\" fill=\"#27c\"><title>{title}</title></circle>"
            );
        }
        if point.chosen {
            _ = writeln!(
                out,
                "<circle cx=\"{at:.1}\" cy=\"{up:.1}\" r=\"8\" fill=\"none\" stroke=\"#c33\" stroke-width=\"2\"/>"
            );
        }
    }
    for (i, (color, what)) in
        [("#27c", "a form for each weight"), ("#e80", "one form for all"), ("#c33", "the result")]
            .iter()
            .enumerate()
    {
        let at = top + 16.0 * i as f64;
        _ = writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{color}\"/>", right + 12.0, at);
        text(&mut out, right + 20.0, at + 4.0, "start", what);
    }
    out + "</svg>\n"
}

/// Where a figure is on the upward axis: better is higher, and divergences by their magnitude.
fn height(metric: Metric, figure: f64) -> f64 {
    match metric {
        Metric::Kl => -figure.log10(),
        _ => figure,
    }
}

fn label(metric: Metric, height: f64) -> String {
    match metric {
        Metric::Kl => format!("{:.0e}", 10f64.powf(-height)),
        Metric::Top1 => format!("{:.1} %", 100.0 * height),
        Metric::Snr | Metric::Psnr => format!("{height:.0}"),
        Metric::Task => format!("{height}"),
    }
}

fn unit(metric: Metric) -> &'static str {
    match metric {
        Metric::Snr => "SNR, dB,",
        Metric::Psnr => "peak SNR, dB,",
        Metric::Kl => "divergence, nats,",
        Metric::Top1 => "same first choice",
        Metric::Task => "task",
    }
}

/// An axis between two places of the picture.
struct Axis {
    least: f64,
    most: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Axis {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(f64::NEG_INFINITY, f64::max);
        let (least, most) = if least <= most { (least, most) } else { (0.0, 1.0) };
        let room = if most > least { 0.05 * (most - least) } else { 0.5 * most.abs().max(1.0) };
        Axis { least: least - room, most: most + room, start, end }
    }

    fn at(&self, value: f64) -> f64 {
        self.start + (value - self.least) / (self.most - self.least) * (self.end - self.start)
    }

    /// Round values, about six.
    fn ticks(&self) -> Vec<f64> {
        let rough = (self.most - self.least) / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(rough);
        let (first, last) = ((self.least / step).ceil() as i64, (self.most / step).floor() as i64);
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

fn line(out: &mut String, [x1, y1, x2, y2]: [f64; 4], color: &str, more: &str) {
    _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\"{more}/>"
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

fn bytes(n: f64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "KB")];
    let unit = units.iter().find(|(size, _)| n.abs() >= *size);
    unit.map_or(format!("{n:.0} B"), |(size, name)| format!("{:.1} {name}", n / size))
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
