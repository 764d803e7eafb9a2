//! What watchers and streams that get nothing take of the server's memory.

use anyhow::Result;

use super::{Options, fill};
use crate::bars::{Bar, Bound};
use crate::connection::Windows;
use crate::figures::{Figures, Unit, micros_each};
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Job, Pace, Until, Writers};

const ALL: &str = "RSS of 1,000,000 watchers";
const EACH: &str = "RSS per watcher";
const STREAM: &str = "RSS per idle stream";
const CONNECTION: &str = "RSS per idle connection";

pub(super) const KEY_BARS: [Bar; 2] = [Bar::new(EACH, Bound::AtMost(150.0)), Bar::new(ALL, Bound::AtMost(200e6))];
pub(super) const RANGE_BARS: [Bar; 1] = [Bar::new(EACH, Bound::AtMost(220.0))];
pub(super) const STREAM_BARS: [Bar; 1] = [Bar::new(STREAM, Bound::AtMost(5_000.0))];
pub(super) const CONNECTION_BARS: [Bar; 1] = [Bar::new(CONNECTION, Bound::TimesAtMost(0.5))];

/// Watchers on distinct keys of 32 bytes.
pub(super) async fn keys(target: &Target, options: &Options) -> Result<Figures> {
    watchers(target, options, Watch::key).await
}

/// Watchers on distinct prefixes of 32 bytes.
pub(super) async fn ranges(target: &Target, options: &Options) -> Result<Figures> {
    watchers(target, options, Watch::prefix).await
}

async fn watchers(target: &Target, options: &Options, watch: fn(Vec<u8>) -> Watch) -> Result<Figures> {
    // An etcd takes gigabytes and minutes for a million.
    let most = options.each(1_000, 50_000, 100_000, if target.is_stentor() { 1_000_000 } else { 200_000 });
    let count = options.watchers.unwrap_or(most);
    let keys = Keys::new("idle/", count as u64, 32);
    let mut streams = ready(target, options, options.streams.unwrap_or(options.pick(5, 100, 100))).await?;
    let before = settled(target, options).await?;
    let meter = target.meter()?;
    streams.create(count, |index| watch(keys.get(index))).await?;
    let used = meter.read()?;
    let after = settled(target, options).await?;
    let mut figures = Figures::default();
    figures.push(EACH, Unit::Bytes, (after - before) / count as f64);
    if count >= 1_000_000 {
        figures.push(ALL, Unit::Bytes, after - before);
    }
    figures.push("watchers", Unit::Count, count as f64);
    figures.push("server CPU per create", Unit::Micros, micros_each(used.server, count as u64));
    figures.push("creates per second", Unit::PerSecond, count as f64 / used.elapsed.as_secs_f64());
    figures.push("server RSS", Unit::Bytes, after);
    figures.delivery(&streams, 0);
    Ok(figures)
}

/// Streams with one watcher each.
pub(super) async fn streams(target: &Target, options: &Options) -> Result<Figures> {
    let count = options.streams.unwrap_or(options.each(50, 2_000, 5_000, 10_000));
    let keys = Keys::new("idle/", count as u64, 32);
    let mut first = ready(target, options, options.connections.unwrap_or(10)).await?;
    let before = settled(target, options).await?;
    first.open(count).await?;
    let total = first.len();
    first.create(total, |index| Watch::key(keys.get(index))).await?;
    let after = settled(target, options).await?;
    let mut figures = Figures::default();
    figures.push(STREAM, Unit::Bytes, (after - before) / count as f64);
    figures.push("streams", Unit::Count, count as f64);
    figures.push("server RSS", Unit::Bytes, after);
    figures.delivery(&first, 0);
    Ok(figures)
}

/// A server that has done some work, and streams that each have delivered an event: what comes once is
/// not counted among what comes with each watcher.
async fn ready(target: &Target, options: &Options, count: usize) -> Result<Streams> {
    let keys = Keys::new("warm/", 1, 32);
    let connections = options.connections.unwrap_or(options.pick(2, 10, 10));
    let mut streams = Streams::connect(target.address, connections, Windows::LARGE).await?;
    streams.open(count).await?;
    streams.create(count, |_| Watch::key(keys.get(0))).await?;
    let writers = Writers::connect(target.address, 1).await?;
    let job = Job { keys, value_size: 256, writers: 1, pace: Pace::Closed, until: Until::Count(10) };
    writers.run(job).await?;
    streams.wait("events", 10 * count as u64, |seen| seen.events).await?;
    streams.forget_events();
    Ok(streams)
}

/// Connections with one idle watcher each.
pub(super) async fn connections(target: &Target, options: &Options) -> Result<Figures> {
    let count = options.connections.unwrap_or(options.pick(20, 1_000, 1_000));
    let keys = Keys::new("idle/", count as u64, 32);
    // What comes once is not counted among what comes with each.
    let first = ready(target, options, options.pick(2, 10, 10)).await?;
    let before = settled(target, options).await?;
    let mut streams = Streams::connect(target.address, count, Windows::STANDARD).await?;
    streams.open(count).await?;
    streams.create(count, |index| Watch::key(keys.get(index))).await?;
    let after = settled(target, options).await?;
    let mut figures = Figures::default();
    figures.push(CONNECTION, Unit::Bytes, (after - before) / count as f64);
    figures.push("connections", Unit::Count, count as f64);
    figures.push("server RSS", Unit::Bytes, after);
    figures.delivery(&streams, 0);
    drop(first);
    Ok(figures)
}

/// A server that is left alone: without a key, and with many.
pub(super) async fn server(target: &Target, options: &Options) -> Result<Figures> {
    let count = options.keys.unwrap_or(options.each(500, 100_000, 100_000, 1_000_000));
    let keys = Keys::new("idle/", count, 32);
    let empty = settled(target, options).await?;
    fill(target, &keys, options.value_size()).await?;
    let filled = settled(target, options).await?;
    let meter = target.meter()?;
    tokio::time::sleep(options.phase()).await;
    let used = meter.read()?;
    let mut figures = Figures::default();
    figures.push("server RSS, no key", Unit::Bytes, empty);
    figures.push(format!("server RSS, {count} keys"), Unit::Bytes, filled);
    figures.push("RSS per key", Unit::Bytes, (filled - empty) / count as f64);
    let share = used.server.as_secs_f64() / used.elapsed.as_secs_f64().max(1e-9);
    figures.push("server CPUs while idle", Unit::Share, share);
    Ok(figures)
}

/// The resident memory after a rest.
pub(super) async fn settled(target: &Target, options: &Options) -> Result<f64> {
    tokio::time::sleep(options.settle()).await;
    Ok(target.resident()? as f64)
}
