//! A watcher far behind: do the writers feel it?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Options, history};
use crate::bars::{Bar, Bound};
use crate::connection::Windows;
use crate::figures::{Figures, Unit};
use crate::histogram::Histogram;
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Job, Pace, Until, Writers};

const PACED: &str = "put p99, reader of 100,000/s / none";
const FAST: &str = "put p99, fastest reader / none";

pub(super) const BARS: [Bar; 2] = [Bar::new(PACED, Bound::AtMost(1.2)), Bar::new(FAST, Bound::AtMost(1.2))];

/// What a client manages that does something with its events.
const READER: f64 = 100_000.0;

/// Put latency without, and with a watcher that replays 500,000 revisions, over and over: one that reads
/// at a client's pace, and one that reads as fast as it can, which takes a CPU of its own.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let revisions = options.revisions.unwrap_or(options.each(500, 20_000, 100_000, 500_000));
    let old = Keys::new("history/", 1_000, 32);
    let past = Writers::connect(target.address, 32).await?;
    let written = history(&past, &old, revisions, options.value_size()).await?;
    let watch = Watch::all(&old, written.first_revision);
    let writers = Writers::connect(target.address, options.writers.unwrap_or(1)).await?;
    let job = Job {
        keys: Keys::new("present/", 1_000, 32),
        value_size: options.value_size(),
        writers: writers.count(),
        pace: Pace::Closed,
        until: Until::Elapsed(options.warm_up()),
    };
    writers.run(job.clone()).await?;
    let [mut none, mut paced, mut fast] = [(); 3].map(|()| Histogram::default());
    let mut paced_replays = Replays { pace: Some(READER), ..Replays::default() };
    let mut fast_replays = Replays::default();
    for round in 0..options.each(1, 2, 4, 8) {
        let mut order =
            [(&mut none, None), (&mut paced, Some(&mut paced_replays)), (&mut fast, Some(&mut fast_replays))];
        // A drift of the machine shall fall on all of them.
        order.rotate_left(round % 3);
        for (latency, replays) in order {
            let stop = Arc::new(AtomicBool::new(false));
            let writing = writers.start(Job { until: Until::Told(Arc::clone(&stop)), ..job.clone() })?;
            let read = match replays {
                Some(replays) => replays.run(target, options.phase(), &watch, revisions).await,
                None => {
                    tokio::time::sleep(options.phase()).await;
                    Ok(())
                }
            };
            stop.store(true, Ordering::Relaxed);
            latency.add(&writing.await?.latency);
            read?;
        }
    }
    let mut figures = Figures::default();
    let [none_p99, paced_p99, fast_p99] = [&none, &paced, &fast].map(|h| h.percentile(99.0) as f64);
    figures.push(PACED, Unit::Share, paced_p99 / none_p99.max(1.0));
    figures.push(FAST, Unit::Share, fast_p99 / none_p99.max(1.0));
    figures.latency("put, no reader", &none);
    for (name, latency, replays) in
        [("reader of 100,000/s", &paced, &paced_replays), ("fastest reader", &fast, &fast_replays)]
    {
        figures.latency(&format!("put, {name}"), latency);
        figures.push(format!("events per second, {name}"), Unit::PerSecond, replays.events as f64 / replays.seconds);
    }
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    let whole = (paced_replays.whole + fast_replays.whole) * revisions;
    let events = paced_replays.whole_events + fast_replays.whole_events;
    figures.push("events expected", Unit::Count, whole as f64);
    figures.push("events received", Unit::Count, events as f64);
    let disordered = paced_replays.disordered + fast_replays.disordered;
    figures.push("events out of order or twice", Unit::Count, disordered as f64);
    Ok(figures)
}

#[derive(Default)]
struct Replays {
    pace: Option<f64>,
    events: u64,
    seconds: f64,
    /// Replays that reached the end, and their events.
    whole: u64,
    whole_events: u64,
    disordered: u64,
}

impl Replays {
    /// Replays, one after the other, until the time is over. The last is left unfinished.
    async fn run(&mut self, target: &Target, time: Duration, watch: &Watch, revisions: u64) -> Result<()> {
        let start = Instant::now();
        // Whoever reads slowly has no windows that swallow it all at once.
        let windows = if self.pace.is_some() { Windows::STANDARD } else { Windows::LARGE };
        while start.elapsed() < time {
            let mut streams = Streams::connect(target.address, 1, windows).await?;
            streams.open(1).await?;
            self.pace.into_iter().for_each(|pace| streams.pace(pace));
            streams.create(1, |_| watch.clone()).await?;
            let whole = streams.wait("events", revisions, |seen| seen.events);
            let whole = tokio::time::timeout(time.saturating_sub(start.elapsed()), whole).await;
            let (events, disordered) = streams.seen(|seen| (seen.events, seen.disordered));
            self.events += events;
            self.disordered += disordered;
            if let Ok(ended) = whole {
                ended?;
                self.whole += 1;
                self.whole_events += events;
            }
        }
        self.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }
}
