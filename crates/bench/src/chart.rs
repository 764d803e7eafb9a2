//! Charts as SVG: lines over a logarithmic axis, no more than the scale curves need. Libraries for this
//! bring fonts and canvases with them, for the two hundred lines that it takes.

use std::fmt::Write;

/// A line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its points, by growing x, each with the lowest and highest of its rounds.
    pub points: Vec<Place>,
}

/// A point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// How much of what it is measured against, above 0.
    pub x: f64,
    /// The value.
    pub y: f64,
    /// Between which the rounds lie.
    pub spread: Option<[f64; 2]>,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Below the horizontal axis.
    pub against: String,
    /// The lines, the first one in the first colour.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 52.0;
/// Told apart also by those who see red and green alike, and in grey.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];
/// Values that lie further apart than this get a logarithmic axis.
const WIDE: f64 = 50.0;

/// An axis from a lowest to a highest value.
#[derive(Clone, Copy, Debug)]
struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Axis {
    /// Powers of ten around these values.
    fn powers(values: impl Iterator<Item = f64> + Clone) -> Axis {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(0.0, f64::max);
        if !(low > 0.0 && low <= high) {
            return Axis { low: 0.0, high: 1.0, logarithmic: true };
        }
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        Axis { low, high: if high > low { high } else { low + 1.0 }, logarithmic: true }
    }

    /// From 0 to a round number above these values, or powers of ten if they lie far apart.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Axis {
        let low = values.clone().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        let high = values.clone().fold(0.0, f64::max);
        if high / low > WIDE {
            return Axis::powers(values.filter(|value| *value > 0.0));
        }
        let step = step(high.max(1e-9));
        Axis { low: 0.0, high: (high.max(1e-9) / step).ceil() * step, logarithmic: false }
    }

    /// How far along the axis a value is, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.max(1e-12).log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// The values to mark.
    fn ticks(&self) -> Vec<f64> {
        let step = if self.logarithmic { 1.0 } else { step(self.high) };
        let count = ((self.high - self.low) / step).round() as u32;
        let at = (0..=count).map(|n| self.low + f64::from(n) * step);
        at.map(|value| if self.logarithmic { 10_f64.powf(value) } else { value }).collect()
    }
}

/// A round step that divides `high` into four to ten parts.
fn step(high: f64) -> f64 {
    let power = 10_f64.powf(high.log10().floor());
    let times = [0.1, 0.2, 0.5, 1.0].into_iter().find(|times| high / (power * times) <= 10.0);
    power * times.unwrap_or(1.0)
}

impl Chart {
    /// The chart as a file's content; `show` writes a value of the vertical axis for people.
    pub fn svg(&self, show: impl Fn(f64) -> String) -> String {
        let places = || self.lines.iter().flat_map(|line| &line.points).filter(|place| place.x > 0.0);
        let ys = || places().flat_map(|place| place.spread.into_iter().flatten().chain([place.y]));
        let (x, y) = (Axis::powers(places().map(|place| place.x)), Axis::of(ys()));
        let mut svg = Svg::new();
        svg.text(LEFT, 24.0, "start", "title", &self.title);
        for tick in y.ticks() {
            let at = vertical(y.share(tick));
            svg.line(LEFT, at, WIDTH - RIGHT, at, "grid");
            svg.text(LEFT - 8.0, at + 4.0, "end", "tick", &show(tick));
        }
        for tick in x.ticks() {
            let at = horizontal(x.share(tick));
            svg.line(at, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 5.0, "axis");
            svg.text(at, HEIGHT - BOTTOM + 19.0, "middle", "tick", &grouped(tick));
        }
        svg.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis");
        svg.text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0, "middle", "tick", &self.against);
        for (index, (line, colour)) in self.lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let at = LEFT + index as f64 * 110.0;
            svg.dot(at + 5.0, 42.0, colour);
            svg.text(at + 15.0, 46.0, "start", "tick", &line.name);
            svg.curve(line.points.iter().filter(|p| p.x > 0.0), &x, &y, colour);
        }
        svg.end()
    }
}

fn horizontal(share: f64) -> f64 {
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn vertical(share: f64) -> f64 {
    HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
}

/// A whole number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text as XML has it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A picture under way. Writing to a string cannot fail.
struct Svg(String);

impl Svg {
    fn new() -> Svg {
        let style = "text{font-family:system-ui,sans-serif;fill:#333}.title{font-size:15px;font-weight:600}\
                     .tick{font-size:12px}.grid{stroke:#ddd}.axis{stroke:#888}";
        let (width, height) = (WIDTH, HEIGHT);
        Svg(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\">\n<style>{style}</style>\n<rect width=\"{width}\" height=\"{height}\" \
             fill=\"#fff\"/>\n"
        ))
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }

    fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, class: &str) {
        let _ =
            writeln!(self.0, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>");
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let text = escaped(text);
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
        );
    }

    fn dot(&mut self, x: f64, y: f64, colour: &str) {
        let _ = writeln!(self.0, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
    }

    fn curve<'a>(&mut self, points: impl Iterator<Item = &'a Place> + Clone, x: &Axis, y: &Axis, colour: &str) {
        let at = |place: &Place, value| (horizontal(x.share(place.x)), vertical(y.share(value)));
        let pairs = points.clone().map(|place| {
            let (x, y) = at(place, place.y);
            format!("{x:.1},{y:.1}")
        });
        let pairs = pairs.collect::<Vec<_>>().join(" ");
        let _ = writeln!(self.0, "<polyline points=\"{pairs}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        for place in points {
            if let Some([low, high]) = place.spread {
                let ((at_x, from), (_, to)) = (at(place, low), at(place, high));
                let _ = writeln!(
                    self.0,
                    "<line x1=\"{at_x:.1}\" y1=\"{from:.1}\" x2=\"{at_x:.1}\" y2=\"{to:.1}\" stroke=\"{colour}\"/>"
                );
            }
            let (x, y) = at(place, place.y);
            self.dot(x, y, colour);
        }
    }
}

#[cfg(test)]
mod tests;
