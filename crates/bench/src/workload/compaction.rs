//! Do writers feel it when a long history is compacted?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};

use super::{Options, history};
use crate::bars::{Bar, Bound};
use crate::connection::{Connection, Windows};
use crate::figures::{Figures, Unit};
use crate::scan::Answer;
use crate::target::Target;
use crate::wire::{Keys, compaction};
use crate::writers::{Job, Pace, Until, Writers};

const RATIO: &str = "put p99, compacting / without";

pub(super) const BARS: [Bar; 1] = [Bar::new(RATIO, Bound::AtMost(1.2))];

/// Puts at a fixed rate, without anything else and then from the start of a compaction on, until it is done
/// or for as long as before, whichever is longer.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let revisions = options.revisions.unwrap_or(options.each(500, 30_000, 100_000, 1_000_000));
    let old = Keys::new("history/", options.keys.unwrap_or(1_000), 32);
    let past = Writers::connect(target.address, 64).await?;
    let written = history(&past, &old, revisions, options.value_size()).await?;
    let writers = Writers::connect(target.address, options.writers.unwrap_or(16)).await?;
    let job = Job {
        keys: Keys::new("present/", 1_000, 32),
        value_size: options.value_size(),
        writers: writers.count(),
        pace: Pace::Open(options.rate.unwrap_or(options.pick(200.0, 500.0, 500.0))),
        until: Until::Elapsed(options.warm_up()),
    };
    writers.run(job.clone()).await?;
    let without = writers.run(Job { until: Until::Elapsed(options.phase()), ..job.clone() }).await?;

    let compact = Connection::open(target.address, Windows::LARGE).await?.method("etcdserverpb.KV/Compact")?;
    let (mut answer, stop) = (Answer::default(), Arc::new(AtomicBool::new(false)));
    let start = Instant::now();
    let meter = target.meter()?;
    let writing = writers.start(Job { until: Until::Told(Arc::clone(&stop)), ..job })?;
    let compacted = compact.exchange(compaction(written.last_revision), |message| answer.read(message)).await;
    let took = start.elapsed();
    tokio::time::sleep(options.phase().saturating_sub(took)).await;
    stop.store(true, Ordering::Relaxed);
    let with = writing.await?;
    let used = meter.read()?;
    compacted.context("a compaction")?;

    let mut figures = Figures::default();
    let [before, during] = [&without, &with].map(|written| written.latency.percentile(99.0) as f64);
    figures.push(RATIO, Unit::Share, during / before.max(1.0));
    figures.push("compaction took", Unit::Micros, took.as_secs_f64() * 1e6);
    figures.percentiles("put, without", &without.latency);
    figures.percentiles("put, compacting", &with.latency);
    figures.push("revisions compacted", Unit::Count, revisions as f64);
    figures.server(target, &used)?;
    figures.own(&used);
    figures.push("answers", Unit::Count, (without.puts + with.puts) as f64);
    figures.push("wrong answers", Unit::Count, 0.0);
    Ok(figures)
}
