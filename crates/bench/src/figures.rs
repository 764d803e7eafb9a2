//! What a workload found out: named numbers with units.

use std::fmt;

use serde::Serialize;

use crate::histogram::Histogram;
use crate::target::Used;
use crate::watchers::Streams;
use crate::writers::Written;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is, unique within a workload.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// How much.
    pub value: f64,
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
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures(pub Vec<Figure>);

impl Figures {
    /// Adds a number.
    pub fn push(&mut self, name: impl Into<String>, unit: Unit, value: f64) {
        self.0.push(Figure { name: name.into(), unit, value });
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

    /// Adds what writing showed.
    pub fn written(&mut self, written: &Written) {
        self.push("puts per second", Unit::PerSecond, written.rate());
        self.latency("put", &written.latency);
    }

    /// Adds how much of one CPU this program took.
    pub fn own(&mut self, used: &Used) {
        let share = used.own.as_secs_f64() / used.elapsed.as_secs_f64().max(1e-9);
        self.push("generator CPUs", Unit::Share, share);
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
