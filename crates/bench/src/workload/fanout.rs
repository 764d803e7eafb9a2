//! Every put concerns every watcher.

use anyhow::Result;

use super::{CPU, Options, cost_of_a_put, push_cost};
use crate::bars::{Bar, Bound};
use crate::connection::Windows;
use crate::figures::{Figures, Unit};
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Job, Pace, Until, Writers};

pub(super) const KEY_BARS: [Bar; 2] =
    [Bar::new(CPU, Bound::TimesAtMost(0.125)), Bar::new("put p50", Bound::TimesAtMost(0.35))];
pub(super) const RANGE_BARS: [Bar; 2] =
    [Bar::new(CPU, Bound::TimesAtMost(0.125)), Bar::new("put p50", Bound::TimesAtMost(0.15))];
pub(super) const STREAMS_BARS: [Bar; 1] = [Bar::new(CPU, Bound::TimesAtMost(1.0 / 3.0))];

/// Who watches.
struct Audience {
    watchers: usize,
    streams: usize,
    connections: usize,
}

/// 1,000 watchers on one key, 10 streams, each on a connection of its own.
pub(super) async fn key(target: &Target, options: &Options) -> Result<Figures> {
    let streams = options.streams.unwrap_or(options.pick(2, 10, 10));
    let audience = Audience {
        watchers: options.watchers.unwrap_or(options.pick(20, 1_000, 1_000)),
        streams,
        connections: options.connections.unwrap_or(streams),
    };
    let keys = Keys::new("fanout/", 1, 32);
    let watch = Watch::key(keys.get(0));
    measure(target, options, &audience, &keys, &watch).await
}

/// 10,000 watchers on one range, 100 streams on 10 connections.
pub(super) async fn range(target: &Target, options: &Options) -> Result<Figures> {
    let audience = Audience {
        watchers: options.watchers.unwrap_or(options.pick(50, 10_000, 10_000)),
        streams: options.streams.unwrap_or(options.pick(5, 100, 100)),
        connections: options.connections.unwrap_or(options.pick(2, 10, 10)),
    };
    let keys = Keys::new("fanout/", 100, 32);
    let watch = Watch::all(&keys, 0);
    measure(target, options, &audience, &keys, &watch).await
}

/// 100 streams with a watcher each, on one connection, one key.
pub(super) async fn streams(target: &Target, options: &Options) -> Result<Figures> {
    let streams = options.streams.unwrap_or(options.pick(5, 100, 100));
    let audience = Audience {
        watchers: options.watchers.unwrap_or(streams),
        streams,
        connections: options.connections.unwrap_or(1),
    };
    let keys = Keys::new("fanout/", 1, 32);
    let watch = Watch::key(keys.get(0));
    measure(target, options, &audience, &keys, &watch).await
}

/// Events per second by the number of watchers of one key, one watcher a stream, 10 connections.
pub(super) async fn scale(target: &Target, options: &Options) -> Result<Figures> {
    let most = options.watchers.unwrap_or(options.pick(20, 1_000, 10_000)).max(1);
    let mut steps: Vec<usize> = [1, 10, 100, 1_000].into_iter().filter(|step| *step < most).collect();
    steps.push(most);
    let keys = Keys::new("fanout/", 1, 32);
    let watch = Watch::key(keys.get(0));
    let mut figures = Figures::default();
    let [mut expected, mut received, mut disordered] = [0.0; 3];
    for watchers in steps {
        let connections = options.connections.unwrap_or(options.pick(2, 10, 10)).min(watchers);
        let audience = Audience { watchers, streams: watchers, connections };
        let step = measure(target, options, &audience, &keys, &watch).await?;
        for name in ["events per second", CPU, "put p50", "event p99"] {
            if let Some(figure) = step.0.iter().find(|figure| figure.name == name) {
                figures.point(name, "watchers", watchers, figure.unit, figure.value);
            }
        }
        let get = |name| step.get(name).unwrap_or_default();
        figures.push(format!("generator CPUs, {watchers} watchers"), Unit::Share, get("generator CPUs"));
        expected += get("events expected");
        received += get("events received");
        disordered += get("events out of order or twice");
    }
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    figures.push("events expected", Unit::Count, expected);
    figures.push("events received", Unit::Count, received);
    figures.push("events out of order or twice", Unit::Count, disordered);
    Ok(figures)
}

async fn measure(
    target: &Target,
    options: &Options,
    audience: &Audience,
    keys: &Keys,
    watch: &Watch,
) -> Result<Figures> {
    let writers = Writers::connect(target.address, options.writers.unwrap_or(1)).await?;
    let mut job = Job {
        keys: keys.clone(),
        value_size: options.value_size(),
        writers: writers.count(),
        pace: Pace::Closed,
        until: Until::Elapsed(options.warm_up()),
    };
    writers.run(job.clone()).await?;
    let put_cost =
        cost_of_a_put(target, &writers, &Job { until: Until::Elapsed(options.phase()), ..job.clone() }).await?;

    let mut streams = Streams::connect(target.address, audience.connections, Windows::LARGE).await?;
    streams.open(audience.streams).await?;
    streams.create(audience.watchers, |_| watch.clone()).await?;
    let fanout = audience.watchers as u64;
    let mut expected = writers.run(job.clone()).await?.puts * fanout;
    streams.wait("events", expected, |seen| seen.events).await?;

    job.until = Until::Elapsed(options.phase());
    streams.time_events(true);
    let meter = target.meter()?;
    let written = writers.run(job).await?;
    let due = written.puts * fanout;
    expected += due;
    streams.wait("events", expected, |seen| seen.events).await?;
    let used = meter.read()?;

    let mut figures = Figures::default();
    push_cost(&mut figures, used.server, written.puts, due, put_cost);
    figures.push("events per second", Unit::PerSecond, due as f64 / used.elapsed.as_secs_f64());
    figures.written(&written);
    streams.seen(|seen| figures.latency("event", &seen.latency));
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    figures.own(&used);
    figures.delivery(&streams, expected);
    Ok(figures)
}
