//! Progress requests while everything else is busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, MissedTickBehavior};

use super::Options;
use crate::bars::{Bar, Bound};
use crate::connection::Windows;
use crate::figures::{Figures, Unit};
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Job, Pace, Until, Writers};

pub(super) const BARS: [Bar; 1] = [Bar::new("progress p99", Bound::AtMostOr(20_000.0, "put p99"))];

/// Each client asks this often.
const EVERY: Duration = Duration::from_millis(100);
/// Keys that are written; each client watches one of the first.
const KEYS: u64 = 1_000;

/// 100 clients with a stream and a watcher each ask every 100 ms, under full write load that also
/// concerns their watchers now and then.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let clients = options.streams.unwrap_or(options.pick(5, 100, 100)).clamp(1, KEYS as usize);
    let writers = Writers::connect(target.address, options.writers.unwrap_or(32)).await?;
    let connections = options.connections.unwrap_or(options.pick(2, 10, 10));
    let mut streams = Streams::connect(target.address, connections, Windows::LARGE).await?;
    let keys = Keys::new("progress/", KEYS, 32);
    streams.open(clients).await?;
    streams.create(clients, |index| Watch::key(keys.get(index))).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let job = Job {
        keys,
        value_size: options.value_size(),
        writers: writers.count(),
        pace: Pace::Closed,
        until: Until::Told(Arc::clone(&stop)),
    };
    streams.time_events(true);
    let meter = target.meter()?;
    let writing = writers.start(job)?;
    let asked = ask(&mut streams, clients, options.phase() * 2).await;
    stop.store(true, Ordering::Relaxed);
    let written = writing.await?;
    let asked = asked?;
    let expected = written.puts / KEYS * clients as u64 + (written.puts % KEYS).min(clients as u64);
    streams.wait("events", expected, |seen| seen.events).await?;
    let used = meter.read()?;

    let mut figures = Figures::default();
    streams.seen(|seen| figures.latency("progress", &seen.progress));
    figures.written(&written);
    streams.seen(|seen| figures.latency("event", &seen.latency));
    figures.push("progress asked", Unit::Count, asked as f64);
    figures.push("progress not answered", Unit::Count, streams.unanswered() as f64);
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    figures.own(&used);
    figures.delivery(&streams, expected);
    Ok(figures)
}

/// Lets the clients ask in turn for a time. Returns how often they did.
async fn ask(streams: &mut Streams, clients: usize, time: Duration) -> Result<u64> {
    let end = Instant::now() + time;
    let mut ticks = tokio::time::interval(EVERY / u32::try_from(clients)?);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asked = 0;
    for client in (0..clients).cycle() {
        ticks.tick().await;
        if Instant::now() >= end {
            break;
        }
        streams.ask_progress(client)?;
        asked += 1;
    }
    // The last answers come after the writers have stopped at the latest, if ever.
    let patience = Instant::now() + Duration::from_secs(1);
    while streams.unanswered() > 0 && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(asked)
}
