//! What a workload found out: named numbers with units.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clients::Done;
use crate::histogram::Histogram;
use crate::target::{Target, Used};
use crate::watchers::Streams;
use crate::writers::Written;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Microseconds.
    Micros,
    /// Per second.
    PerSecond,
    /// Bytes.
    Bytes,
    /// Pieces.
    Count,
    /// A part of something, 1 being all of it.
    Share,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is, unique within a workload.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// How much; the median, where there were several rounds.
    pub value: f64,
    /// The lowest and the highest of several rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<[f64; 2]>,
    /// Where it lies on a curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<Point>,
}

/// A place on a curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The curve's name: what is measured.
    pub curve: String,
    /// What it is measured against.
    pub against: String,
    /// How much of that.
    pub x: f64,
}

impl Figure {
    /// A number of one round.
    pub fn new(name: impl Into<String>, unit: Unit, value: f64) -> Figure {
        Figure { name: name.into(), unit, value, spread: None, point: None }
    }

    /// A value in this figure's unit, for people.
    pub fn show(&self, value: f64) -> String {
        Figure::new("", self.unit, value).to_string()
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.value;
        match self.unit {
            Unit::Micros if v >= 10_000.0 => write!(f, "{:.1} ms", v / 1000.0),
            Unit::Micros if v >= 100.0 => write!(f, "{v:.0} us"),
            Unit::Micros => write!(f, "{v:.3} us"),
            Unit::PerSecond => write!(f, "{v:.0}/s"),
            Unit::Bytes if v.abs() >= 1e6 => write!(f, "{:.1} MB", v / 1e6),
            Unit::Bytes if v.abs() >= 1e4 => write!(f, "{:.1} kB", v / 1e3),
            Unit::Bytes => write!(f, "{v:.0} B"),
            Unit::Count => write!(f, "{v:.0}"),
            Unit::Share => write!(f, "{v:.3}"),
        }
    }
}

/// Everything one run of a workload found out, in the order of the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures(pub Vec<Figure>);

impl Figures {
    /// Adds a number.
    pub fn push(&mut self, name: impl Into<String>, unit: Unit, value: f64) {
        self.0.push(Figure::new(name, unit, value));
    }

    /// Adds a number that lies on a curve: `puts per second` against 100 `clients`.
    pub fn point(&mut self, curve: &str, against: &str, x: usize, unit: Unit, value: f64) {
        let point = Point { curve: curve.to_owned(), against: against.to_owned(), x: x as f64 };
        self.0.push(Figure { point: Some(point), ..Figure::new(format!("{curve}, {x} {against}"), unit, value) });
    }

    /// The number of that name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// Adds percentiles of a latency, if there is any.
    pub fn latency(&mut self, name: &str, latency: &Histogram) {
        if !latency.is_empty() {
            self.push(format!("{name} p50"), Unit::Micros, latency.percentile(50.0) as f64 / 1e3);
            self.push(format!("{name} p99"), Unit::Micros, latency.percentile(99.0) as f64 / 1e3);
        }
    }

    /// Adds more percentiles of a latency, if there is any.
    pub fn percentiles(&mut self, name: &str, latency: &Histogram) {
        if !latency.is_empty() {
            for (percentile, of) in [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)] {
                self.push(format!("{name} {percentile}"), Unit::Micros, latency.percentile(of) as f64 / 1e3);
            }
            self.push(format!("{name} max"), Unit::Micros, latency.max() as f64 / 1e3);
        }
    }

    /// Adds what writing showed.
    pub fn written(&mut self, written: &Written) {
        self.push("puts per second", Unit::PerSecond, written.rate());
        self.latency("put", &written.latency);
    }

    /// Adds what the server took of the machine.
    ///
    /// # Errors
    /// When it is gone.
    pub fn server(&mut self, target: &Target, used: &Used) -> anyhow::Result<()> {
        let share = used.server.as_secs_f64() / used.elapsed.as_secs_f64().max(1e-9);
        self.push("server CPUs", Unit::Share, share);
        self.push("server RSS", Unit::Bytes, target.resident()? as f64);
        Ok(())
    }

    /// Adds how much of one CPU this program took.
    pub fn own(&mut self, used: &Used) {
        self.push("generator CPUs", Unit::Share, used.own_share());
    }

    /// Adds how many answers came, and how many of these were not right.
    pub fn answers(&mut self, done: &Done) {
        self.push("answers", Unit::Count, done.calls as f64);
        self.push("wrong answers", Unit::Count, done.wrong as f64);
        if done.refused > 0 {
            self.push("refused", Unit::Count, done.refused as f64);
        }
    }

    /// Forgets what is about a server's process, which nobody could see.
    pub fn forget_server(&mut self) {
        self.0.retain(|figure| !figure.name.contains("server CPU") && !figure.name.contains("RSS"));
    }

    /// Adds what came against what was due, the order of it too.
    pub fn delivery(&mut self, streams: &Streams, expected: u64) {
        self.push("events expected", Unit::Count, expected as f64);
        self.push("events received", Unit::Count, streams.seen(|seen| seen.events) as f64);
        self.push("events out of order or twice", Unit::Count, streams.seen(|seen| seen.disordered) as f64);
    }
}

/// Microseconds of CPU for each of so many pieces of work.
pub fn micros_each(cpu: std::time::Duration, pieces: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / (pieces.max(1) as f64)
}
