//! Watchers that no put concerns: a put must not feel how many there are.

use std::time::Duration;

use anyhow::Result;

use super::{Options, median};
use crate::bars::{Bar, Bound};
use crate::connection::Windows;
use crate::figures::{Figures, Unit, micros_each};
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Job, Pace, Until, Writers};

const KEYS: &str = "CPU per put, most keys / none";
const RANGES: &str = "CPU per put, most ranges / none";

pub(super) const BARS: [Bar; 2] = [Bar::new(KEYS, Bound::AtMost(1.05)), Bar::new(RANGES, Bound::AtMost(1.05))];

/// How many streams the watchers of one step are on.
const STREAMS: usize = 20;

/// What the watchers watch.
struct Kind {
    name: &'static str,
    ratio: &'static str,
    watch: fn(Vec<u8>) -> Watch,
}

const KINDS: [Kind; 2] = [
    Kind { name: "keys", ratio: KEYS, watch: Watch::key },
    Kind { name: "ranges", ratio: RANGES, watch: Watch::prefix },
];

/// What one phase showed, in microseconds.
#[derive(Clone, Copy)]
struct Cost {
    cpu: f64,
    p50: f64,
}

/// CPU per put with each count of watchers, first of keys and then of ranges.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let most = options.watchers.unwrap_or(options.each(1_000, 20_000, 100_000, 1_000_000));
    let counts: Vec<usize> = [most / 100, most / 10, most].into_iter().filter(|n| *n > 0).collect();
    let writers = Writers::connect(target.address, options.writers.unwrap_or(16)).await?;
    let mut job = Job {
        keys: Keys::new("written/", 1_000, 32),
        value_size: options.value_size(),
        writers: writers.count(),
        pace: Pace::Closed,
        until: Until::Count(options.each(200, 5_000, 20_000, 40_000)),
    };
    writers.run(job.clone()).await?;
    job.until = Until::Count(options.each(100, 2_000, 5_000, 10_000));
    let (mut ratios, mut figures) = (Figures::default(), Figures::default());
    let mut received = 0;
    for Kind { name, ratio, watch } in KINDS {
        let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); counts.len() + 1];
        for round in 0..options.each(1, 3, 9, 9) {
            let mut crowd = Crowd { layers: Vec::new(), keys: Keys::new("other/", most as u64, 32), watch };
            // Up in one round, down in the next, so that neither the growing history nor the machine's
            // moods look like an effect of the count.
            for step in 0..costs.len() {
                let index = if round % 2 == 0 { step } else { counts.len() - step };
                crowd.resize(target, counts.get(..index).unwrap_or_default()).await?;
                let cost = phase(target, &writers, &job).await?;
                costs.get_mut(index).into_iter().for_each(|costs| costs.push(cost));
                received += crowd.received();
            }
        }
        let medians: Vec<Cost> = costs.iter().map(|costs| middle(costs)).collect();
        for (count, cost) in std::iter::once(&0).chain(&counts).zip(&medians) {
            figures.push(format!("server CPU per put, {count} {name}"), Unit::Micros, cost.cpu);
            figures.push(format!("put p50, {count} {name}"), Unit::Micros, cost.p50);
        }
        let [none, all] = [medians.first(), medians.last()].map(|cost| cost.map_or(0.0, |cost| cost.cpu));
        ratios.push(ratio, Unit::Share, all / none.max(1e-9));
    }
    ratios.0.append(&mut figures.0);
    ratios.push("server RSS", Unit::Bytes, target.resident()? as f64);
    ratios.push("events expected", Unit::Count, 0.0);
    ratios.push("events received", Unit::Count, received as f64);
    Ok(ratios)
}

async fn phase(target: &Target, writers: &Writers, job: &Job) -> Result<Cost> {
    let meter = target.meter()?;
    let written = writers.run(job.clone()).await?;
    let cpu = micros_each(meter.read()?.server, written.puts);
    Ok(Cost { cpu, p50: written.latency.percentile(50.0) as f64 / 1e3 })
}

fn middle(costs: &[Cost]) -> Cost {
    let of = |part: fn(&Cost) -> f64| median(costs.iter().map(part).collect());
    Cost { cpu: of(|cost| cost.cpu), p50: of(|cost| cost.p50) }
}

/// The watchers of a count, as layers: each holds what its count has more than the one before.
struct Crowd {
    layers: Vec<Streams>,
    keys: Keys,
    watch: fn(Vec<u8>) -> Watch,
}

impl Crowd {
    /// Events that came, though none should.
    fn received(&self) -> u64 {
        self.layers.iter().map(|layer| layer.seen(|seen| seen.events)).sum()
    }

    /// Opens or closes layers until there is one for each of `counts`.
    async fn resize(&mut self, target: &Target, counts: &[usize]) -> Result<()> {
        self.layers.truncate(counts.len());
        while let Some(&count) = counts.get(self.layers.len()) {
            let below = self.layers.len().checked_sub(1).and_then(|i| counts.get(i)).copied().unwrap_or(0);
            let mut layer = Streams::connect(target.address, 1, Windows::LARGE).await?;
            layer.open(STREAMS).await?;
            let (keys, watch) = (self.keys.clone(), self.watch);
            layer.create(count - below, |index| watch(keys.get(below as u64 + index))).await?;
            self.layers.push(layer);
        }
        // Neither the closing nor the opening of a million is to be measured.
        quiet(target).await
    }
}

/// Waits until the server does nothing, for ten seconds at most.
async fn quiet(target: &Target) -> Result<()> {
    for _ in 0..100 {
        let meter = target.meter()?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if meter.read()?.server < Duration::from_millis(3) {
            break;
        }
    }
    Ok(())
}
