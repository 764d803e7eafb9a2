//! Each watcher has a key of its own: what do they cost the writers?

use anyhow::Result;

use super::{Options, SETTLE};
use crate::bars::{Bar, Bound};
use crate::connection::Windows;
use crate::figures::{Figures, Unit, micros_each};
use crate::histogram::Histogram;
use crate::target::{Target, Used};
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Job, Pace, Until, Writers};

pub(super) const BARS: [Bar; 1] = [Bar::new("put rate with / without", Bound::AtLeast(0.95))];

/// The sums of the phases of one kind.
#[derive(Default)]
struct Phases {
    rates: Vec<f64>,
    puts: u64,
    server: std::time::Duration,
    latency: Histogram,
}

/// 10,000 watchers on distinct keys on 100 streams, and as often none, on one server in turn.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let watchers = options.watchers.unwrap_or(options.pick(50, 10_000, 10_000));
    let keys = Keys::new("distinct/", watchers as u64, 32);
    let writers = Writers::connect(target.address, options.writers.unwrap_or(1)).await?;
    let mut job = Job {
        keys: keys.clone(),
        value_size: options.value_size(),
        writers: writers.count(),
        pace: Pace::Closed,
        until: Until::Elapsed(options.warm_up()),
    };
    writers.run(job.clone()).await?;
    job.until = Until::Elapsed(options.phase());
    let (mut with, mut without) = (Phases::default(), Phases::default());
    let mut figures = Figures::default();
    let rounds = options.pick(1, 4, 8);
    for round in 0..rounds {
        // With, without, without, with: a drift of the machine falls on both.
        for watched in [round % 2 == 0, round % 2 == 1] {
            if watched {
                let (used, expected, streams) = phase(target, options, &writers, &job, &mut with).await?;
                if round + 1 == rounds {
                    streams.seen(|seen| figures.latency("event", &seen.latency));
                    figures.own(&used);
                    figures.delivery(&streams, expected);
                }
            } else {
                tokio::time::sleep(SETTLE).await;
                let meter = target.meter()?;
                let written = writers.run(job.clone()).await?;
                without.add(&written, &meter.read()?);
            }
        }
    }
    let (rate_with, rate_without) = (with.rate(), without.rate());
    let mut all = Figures::default();
    all.push("put rate with / without", Unit::Share, rate_with / rate_without.max(1e-9));
    all.push("puts per second with", Unit::PerSecond, rate_with);
    all.push("puts per second without", Unit::PerSecond, rate_without);
    all.push("server CPU per put with", Unit::Micros, micros_each(with.server, with.puts));
    all.push("server CPU per put without", Unit::Micros, micros_each(without.server, without.puts));
    all.latency("put with", &with.latency);
    all.latency("put without", &without.latency);
    all.push("server RSS", Unit::Bytes, target.resident()? as f64);
    all.0.append(&mut figures.0);
    Ok(all)
}

/// Writes with the watchers there. Returns how many events were due.
async fn phase(
    target: &Target,
    options: &Options,
    writers: &Writers,
    job: &Job,
    sums: &mut Phases,
) -> Result<(Used, u64, Streams)> {
    let connections = options.connections.unwrap_or(options.pick(2, 10, 10));
    let mut streams = Streams::connect(target.address, connections, Windows::LARGE).await?;
    streams.open(options.streams.unwrap_or(options.pick(5, 100, 100))).await?;
    let count = usize::try_from(job.keys.count())?;
    streams.create(count, |index| Watch::key(job.keys.get(index))).await?;
    streams.time_events(true);
    let meter = target.meter()?;
    let written = writers.run(job.clone()).await?;
    streams.wait("events", written.puts, |seen| seen.events).await?;
    let used = meter.read()?;
    sums.add(&written, &used);
    Ok((used, written.puts, streams))
}

impl Phases {
    fn add(&mut self, written: &crate::writers::Written, used: &Used) {
        self.rates.push(written.rate());
        self.puts += written.puts;
        self.server += used.server;
        self.latency.add(&written.latency);
    }

    /// The median of the phases.
    fn rate(&self) -> f64 {
        super::median(self.rates.clone())
    }
}
