//! Large lists beside watches on one connection: do events wait behind them?

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use super::{Options, fill};
use crate::connection::{Call, Windows};
use crate::figures::{Figures, Unit};
use crate::histogram::Histogram;
use crate::scan::Answer;
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch, framed};
use crate::writers::{Job, Pace, Until, Writers};
use stentor_proto::etcdserverpb::RangeRequest;

/// What a client was told in its lists.
#[derive(Default)]
struct Lists {
    stop: Cell<bool>,
    lists: Cell<u64>,
    wrong: Cell<u64>,
    bytes: Cell<u64>,
}

/// Events of puts at a fixed rate, on a connection that has nothing else, and on one that lists some
/// megabytes over and over.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let listed = Keys::new("listed/", options.keys.unwrap_or(options.each(500, 10_000, 10_000, 10_000)), 32);
    fill(target, &listed, options.value_size()).await?;
    let keys = Keys::new("events/", 1_000, 32);
    let writers = Writers::connect(target.address, options.writers.unwrap_or(8)).await?;
    let count = options.streams.unwrap_or(options.pick(2, 10, 10)).max(1);
    let mut streams = Streams::connect(target.address, 1, Windows::LARGE).await?;
    streams.open(count).await?;
    streams.create(count, |_| Watch::all(&keys, 0)).await?;
    let job = Job {
        keys,
        value_size: options.value_size(),
        writers: writers.count(),
        pace: Pace::Open(options.rate.unwrap_or(200.0)),
        until: Until::Elapsed(options.phase()),
    };
    let warm = Job { until: Until::Elapsed(options.warm_up()), ..job.clone() };
    let mut expected = writers.run(warm).await?.puts * count as u64;
    streams.wait("events", expected, |seen| seen.events).await?;

    let lists = Rc::new(Lists::default());
    let [mut alone, mut beside] = [(); 2].map(|()| Histogram::default());
    let meter = target.meter()?;
    let (mut elapsed, mut puts) = (Duration::ZERO, Histogram::default());
    for (latency, listing) in [(&mut alone, false), (&mut beside, true)] {
        lists.stop.set(false);
        let client = streams.call("etcdserverpb.KV/Range")?;
        let client = listing.then(|| tokio::task::spawn_local(Rc::clone(&lists).run(client, listed.clone())));
        streams.time_events(true);
        let written = writers.run(job.clone()).await?;
        expected += written.puts * count as u64;
        streams.wait("events", expected, |seen| seen.events).await?;
        streams.seen(|seen| latency.add(&seen.latency));
        lists.stop.set(true);
        if let Some(client) = client {
            client.await??;
            elapsed = written.elapsed;
            puts = written.latency;
        }
    }
    let used = meter.read()?;
    let mut figures = Figures::default();
    figures.percentiles("event, beside lists", &beside);
    figures.percentiles("event, alone", &alone);
    figures.percentiles("put, beside lists", &puts);
    let per_second = |count: u64| count as f64 / elapsed.as_secs_f64().max(1e-9);
    figures.push("lists per second", Unit::PerSecond, per_second(lists.lists.get()));
    figures.push("listed bytes per second", Unit::Bytes, per_second(lists.bytes.get()));
    figures.server(target, &used)?;
    figures.own(&used);
    figures.push("answers", Unit::Count, lists.lists.get() as f64);
    figures.push("wrong answers", Unit::Count, lists.wrong.get() as f64);
    figures.delivery(&streams, expected);
    Ok(figures)
}

impl Lists {
    async fn run(self: Rc<Lists>, call: Call, keys: Keys) -> Result<()> {
        let (key, range_end) = keys.range();
        let request = framed(&RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() });
        let mut one_more = true;
        while one_more {
            let mut answer = Answer::default();
            call.exchange(request.clone(), |message| answer.read(message)).await?;
            self.lists.set(self.lists.get() + 1);
            self.bytes.set(self.bytes.get() + answer.bytes);
            self.wrong.set(self.wrong.get() + u64::from(answer.pairs != keys.count()));
            one_more = !self.stop.get();
        }
        Ok(())
    }
}
