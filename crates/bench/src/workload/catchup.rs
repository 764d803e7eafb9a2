//! Watchers that begin in the past.

use anyhow::{Context, Result};

use super::{Options, history};
use crate::bars::{Bar, Bound};
use crate::clock;
use crate::connection::Windows;
use crate::figures::{Figure, Figures, Unit, micros_each};
use crate::target::{Target, Used};
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Writers, Written};

const MEMORY: &str = "events per second from memory";
const DISK: &str = "events per second from disk";
const GROWTH: &str = "time per event, longest / shortest from disk";

pub(super) const BARS: [Bar; 2] =
    [Bar::new(MEMORY, Bound::TimesAtLeast(10.0)), Bar::new(DISK, Bound::TimesAtLeast(5.0))];
pub(super) const LENGTH_BARS: [Bar; 1] = [Bar::new(GROWTH, Bound::AtMost(1.25))];

/// What replays were measured together.
struct Replays {
    events: u64,
    seconds: f64,
    used: Used,
    streams: Streams,
}

impl Replays {
    fn rate(&self) -> f64 {
        self.events as f64 / self.seconds.max(1e-9)
    }
}

/// 20 streams replay 20,000 revisions: just written, and after a restart.
pub(super) async fn run(target: &mut Target, options: &Options) -> Result<Figures> {
    let revisions = options.revisions.unwrap_or(options.each(200, 5_000, 20_000, 20_000));
    let streams = options.streams.unwrap_or(options.pick(3, 20, 20));
    let keys = Keys::new("history/", 1_000, 32);
    let writers = Writers::connect(target.address, options.writers.unwrap_or(32)).await?;
    let written = history(&writers, &keys, revisions, options.value_size()).await?;
    let mut figures = Figures::default();
    let (mut rates, mut cpu, mut last) = (Vec::new(), Vec::new(), None);
    for _ in 0..options.pick(1, 3, 5) {
        let replays = replay(target, options, streams, &keys, &written, revisions).await?;
        rates.push(replays.rate());
        cpu.push(micros_each(replays.used.server, replays.events));
        last = Some(replays);
    }
    figures.push(MEMORY, Unit::PerSecond, super::median(rates));
    figures.push("server CPU per event from memory", Unit::Micros, super::median(cpu));
    let memory = last.context("nothing was replayed")?;
    figures.own(&memory.used);
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    figures.delivery(&memory.streams, memory.events);
    drop(memory);
    if target.restarts() {
        target.restart()?;
        let disk = replay(target, options, streams, &keys, &written, revisions).await?;
        figures.push(DISK, Unit::PerSecond, disk.rate());
        figures.push("server CPU per event from disk", Unit::Micros, micros_each(disk.used.server, disk.events));
        figures.push("server RSS after a restart", Unit::Bytes, target.resident()? as f64);
        let [received, disordered] = disk.streams.seen(|seen| [seen.events, seen.disordered]);
        figures.push("events received from disk", Unit::Count, received as f64);
        figures.push("out of order or twice from disk", Unit::Count, disordered as f64);
    }
    Ok(figures)
}

/// One stream replays histories of growing length as they are written, and at the end again the newest
/// part of each length, after a restart: from memory to disk is a step, but from then on each event must
/// cost the same.
pub(super) async fn length(target: &mut Target, options: &Options) -> Result<Figures> {
    let longest = options.revisions.unwrap_or(options.each(1_000, 40_000, 200_000, 1_000_000));
    let lengths = lengths(longest, options.each(100, 4_000, 10_000, 10_000));
    let keys = Keys::new("history/", 1_000, 32);
    let writers = Writers::connect(target.address, options.writers.unwrap_or(32)).await?;
    let mut written = Written::default();
    let mut figures = Figures::default();
    let mut sums = Sums::default();
    for &length in &lengths {
        let more = history(&writers, &keys, length - written.puts, options.value_size()).await?;
        written.first_revision = if written.puts == 0 { more.first_revision } else { written.first_revision };
        (written.puts, written.last_revision) = (length, more.last_revision);
        let mut costs = Vec::new();
        // A short one is over before the clock has turned: it is repeated, and the median counts.
        for _ in 0..(longest / length / 2).clamp(3, 15) {
            costs.push(sums.add(&replay(target, options, 1, &keys, &written, length).await?, length));
        }
        push_costs(&mut figures, &format!("of {length}"), costs);
    }
    if target.restarts() {
        let mut each = Vec::new();
        for &length in &lengths {
            written.first_revision = written.last_revision - i64::try_from(length)? + 1;
            let mut costs = Vec::new();
            for _ in 0..options.pick(1, 3, 3) {
                target.restart()?;
                costs.push(sums.add(&replay(target, options, 1, &keys, &written, length).await?, length));
            }
            each.push(push_costs(&mut figures, &format!("of {length} from disk"), costs));
        }
        let growth = each.last().unwrap_or(&0.0) / each.first().unwrap_or(&1.0);
        figures.0.insert(0, Figure::new(GROWTH, Unit::Share, growth));
    }
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    figures.push("events expected", Unit::Count, sums.expected as f64);
    figures.push("events received", Unit::Count, sums.received as f64);
    figures.push("events out of order or twice", Unit::Count, sums.disordered as f64);
    Ok(figures)
}

/// What one replay cost for each event, in microseconds.
#[derive(Clone, Copy)]
struct Cost {
    time: f64,
    cpu: f64,
}

/// Adds the medians. Returns that of the time.
fn push_costs(figures: &mut Figures, name: &str, costs: Vec<Cost>) -> f64 {
    let time = super::median(costs.iter().map(|cost| cost.time).collect());
    figures.push(format!("time per event {name}"), Unit::Micros, time);
    let cpu = super::median(costs.iter().map(|cost| cost.cpu).collect());
    figures.push(format!("server CPU per event {name}"), Unit::Micros, cpu);
    time
}

/// What all replays brought.
#[derive(Default)]
struct Sums {
    expected: u64,
    received: u64,
    disordered: u64,
}

impl Sums {
    fn add(&mut self, replays: &Replays, length: u64) -> Cost {
        self.expected += length;
        replays.streams.seen(|seen| {
            self.received += seen.events;
            self.disordered += seen.disordered;
        });
        let time = replays.seconds * 1e6 / length as f64;
        Cost { time, cpu: micros_each(replays.used.server, length) }
    }
}

/// From the shortest, each ten times the one before, to the longest.
fn lengths(longest: u64, shortest: u64) -> Vec<u64> {
    let mut lengths: Vec<u64> =
        std::iter::successors(Some(shortest), |length| Some(length * 10)).take_while(|l| *l < longest).collect();
    lengths.push(longest);
    lengths
}

/// Each of so many streams, on a connection of its own, reads everything since the first revision.
async fn replay(
    target: &Target,
    options: &Options,
    count: usize,
    keys: &Keys,
    written: &Written,
    revisions: u64,
) -> Result<Replays> {
    let connections = options.connections.unwrap_or(count);
    let mut streams = Streams::connect(target.address, connections, Windows::LARGE).await?;
    streams.open(count).await?;
    let events = revisions * count as u64;
    let meter = target.meter()?;
    let start = clock::now();
    streams.create(count, |_| Watch::all(keys, written.first_revision)).await?;
    streams.wait("events", events, |seen| seen.events).await?;
    let used = meter.read()?;
    let seconds = streams.seen(|seen| seen.last_event.saturating_sub(start)) as f64 / 1e9;
    Ok(Replays { events, seconds, used, streams })
}

#[cfg(test)]
mod tests {
    use super::lengths;

    #[test]
    fn lengths_grow_tenfold_and_end_at_the_longest() {
        assert_eq!(lengths(1_000_000, 10_000), [10_000, 100_000, 1_000_000]);
        assert_eq!(lengths(200_000, 10_000), [10_000, 100_000, 200_000]);
        assert_eq!(lengths(5, 100), [5]);
    }
}
