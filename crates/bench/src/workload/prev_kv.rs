//! Watchers that want the pair before each event, of large values.

use anyhow::{Result, ensure};

use super::{CPU, Options, cost_of_a_put, push_cost};
use crate::bars::{Bar, Bound};
use crate::connection::Windows;
use crate::figures::{Figures, Unit};
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Job, Pace, Until, Writers};

pub(super) const BARS: [Bar; 2] =
    [Bar::new(CPU, Bound::TimesAtMost(0.125)), Bar::new("event p99", Bound::AtMost(100_000.0))];

/// Watchers that each put matches.
const MATCHING: u64 = 20;

/// 500 watchers on one stream, 400 puts of 4 KB a second, each matching 20 of them: half by their key,
/// half by a prefix.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let keys = Keys::new("prev/", options.watchers.unwrap_or(500) as u64 / MATCHING, 32);
    let count = usize::try_from(keys.count() * MATCHING)?;
    let rate = options.pick(100.0, 400.0, 400.0);
    let writers = Writers::connect(target.address, options.writers.unwrap_or(4)).await?;
    let mut streams = Streams::connect(target.address, 1, Windows::LARGE).await?;
    let mut job = Job {
        keys: keys.clone(),
        value_size: options.value_size.unwrap_or(4_096),
        writers: writers.count(),
        pace: Pace::Open(rate),
        // Every key gets its first pair before anyone watches.
        until: Until::Count(keys.count()),
    };
    writers.run(job.clone()).await?;
    let put_cost =
        cost_of_a_put(target, &writers, &Job { until: Until::Elapsed(options.phase()), ..job.clone() }).await?;
    streams.open(options.streams.unwrap_or(1)).await?;
    let watch = |index: u64| {
        let key = keys.get(index / MATCHING);
        let watch = if index.is_multiple_of(2) { Watch::key(key) } else { Watch::prefix(key) };
        Watch { prev_kv: true, ..watch }
    };
    streams.create(count, watch).await?;
    job.until = Until::Elapsed(options.warm_up());
    let mut expected = writers.run(job.clone()).await?.puts * MATCHING;
    streams.wait("events", expected, |seen| seen.events).await?;

    job.until = Until::Elapsed(options.phase());
    streams.time_events(true);
    let meter = target.meter()?;
    let written = writers.run(job).await?;
    let due = written.puts * MATCHING;
    expected += due;
    streams.wait("events", expected, |seen| seen.events).await?;
    let used = meter.read()?;
    let with_prev = streams.seen(|seen| seen.with_prev);
    ensure!(with_prev == expected, "{} of {expected} events came without prev_kv", expected - with_prev);

    let mut figures = Figures::default();
    push_cost(&mut figures, used.server, written.puts, due, put_cost);
    streams.seen(|seen| figures.latency("event", &seen.latency));
    figures.written(&written);
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    figures.own(&used);
    figures.delivery(&streams, expected);
    Ok(figures)
}
