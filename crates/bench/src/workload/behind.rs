//! A watcher far behind: do the writers feel it?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use super::{Options, history};
use crate::bars::{Bar, Bound};
use crate::connection::Windows;
use crate::figures::{Figures, Unit};
use crate::histogram::Histogram;
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Job, Pace, Until, Writers};

const RATIO: &str = "put p99 with / without";

pub(super) const BARS: [Bar; 1] = [Bar::new(RATIO, Bound::AtMost(1.2))];

/// Put latency without, and with a watcher that replays 500,000 revisions, as often as the time allows.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let revisions = options.revisions.unwrap_or(options.pick(500, 100_000, 500_000));
    let old = Keys::new("history/", 1_000, 32);
    let past = Writers::connect(target.address, 32).await?;
    let written = history(&past, &old, revisions, options.value_size()).await?;
    let watch = Watch::all(&old, written.first_revision);
    let writers = Writers::connect(target.address, options.writers.unwrap_or(1)).await?;
    let mut job = Job {
        keys: Keys::new("present/", 1_000, 32),
        value_size: options.value_size(),
        writers: writers.count(),
        pace: Pace::Closed,
        until: Until::Elapsed(options.warm_up()),
    };
    writers.run(job.clone()).await?;
    let (mut with, mut without, mut replays) = (Histogram::default(), Histogram::default(), Replays::default());
    for round in 0..options.pick(1, 4, 8) {
        for behind in [round % 2 == 0, round % 2 == 1] {
            if behind {
                let stop = Arc::new(AtomicBool::new(false));
                job.until = Until::Told(Arc::clone(&stop));
                let writing = writers.start(job.clone());
                let replayed = replays.run(target, options, &watch, revisions).await;
                stop.store(true, Ordering::Relaxed);
                with.add(&writing.await.context("the writers have ended")??.latency);
                replayed?;
            } else {
                job.until = Until::Elapsed(options.phase());
                without.add(&writers.run(job.clone()).await?.latency);
            }
        }
    }
    let mut figures = Figures::default();
    let [with_p99, without_p99] = [&with, &without].map(|h| h.percentile(99.0) as f64);
    figures.push(RATIO, Unit::Share, with_p99 / without_p99.max(1.0));
    figures.latency("put with", &with);
    figures.latency("put without", &without);
    figures.push("replayed per second", Unit::PerSecond, replays.events as f64 / replays.seconds);
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    figures.push("events expected", Unit::Count, replays.events as f64);
    figures.push("events received", Unit::Count, replays.events as f64);
    figures.push("events out of order or twice", Unit::Count, replays.disordered as f64);
    Ok(figures)
}

#[derive(Default)]
struct Replays {
    events: u64,
    seconds: f64,
    disordered: u64,
}

impl Replays {
    /// Whole replays, one after the other, for the time of a phase and at least one.
    async fn run(&mut self, target: &Target, options: &Options, watch: &Watch, revisions: u64) -> Result<()> {
        let start = std::time::Instant::now();
        while start.elapsed() < options.phase() {
            let mut streams = Streams::connect(target.address, 1, Windows::LARGE).await?;
            streams.open(1).await?;
            streams.create(1, |_| watch.clone()).await?;
            streams.wait("events", revisions, |seen| seen.events).await?;
            let (events, disordered) = streams.seen(|seen| (seen.events, seen.disordered));
            self.events += events;
            self.disordered += disordered;
        }
        self.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }
}
