//! Clients that stop reading, beside healthy ones.

use anyhow::Result;

use super::{Options, SETTLE};
use crate::bars::{Bar, Bound};
use crate::connection::Windows;
use crate::figures::{Figures, Unit, micros_each};
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Job, Pace, Until, Writers};

const HELD: &str = "RSS held per slow stream";

// A stream holds at most 64 KiB of events; what its connection takes comes on top.
pub(super) const BARS: [Bar; 1] = [Bar::new(HELD, Bound::AtMost(131_072.0))];

/// Writes alone, and the same again with streams that do not read, each on a connection of its own with
/// the windows that HTTP/2 begins with. In the end these read on, and must get everything.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let slow_count = options.streams.unwrap_or(options.each(3, 100, 400, 400));
    let healthy_count = options.pick(2, 10, 10);
    let keys = Keys::new("slow/", 1_000, 32);
    let writers = Writers::connect(target.address, options.writers.unwrap_or(8)).await?;
    let job = Job {
        keys: keys.clone(),
        value_size: options.value_size.unwrap_or(1_024),
        writers: writers.count(),
        pace: Pace::Closed,
        until: Until::Count(options.revisions.unwrap_or(options.each(1_000, 4_000, 20_000, 100_000))),
    };
    let mut healthy = Streams::connect(target.address, healthy_count, Windows::LARGE).await?;
    healthy.open(healthy_count).await?;
    healthy.create(healthy_count, |_| Watch::all(&keys, 0)).await?;
    // At first memory grows by what any load brings: buffers and caches that fill.
    let mut expected = 0;
    for _ in 0..3 {
        expected += writers.run(job.clone()).await?.puts * healthy_count as u64;
        healthy.wait("events", expected, |seen| seen.events).await?;
    }

    let mut figures = Figures::default();
    let mut grown = [0.0; 2];
    let mut cpu = [0.0; 2];
    let mut slow = Streams::connect(target.address, slow_count, Windows::STANDARD).await?;
    let mut owed = 0;
    for (phase, name) in ["event alone", "event beside slow"].into_iter().enumerate() {
        if phase == 1 {
            slow.open(slow_count).await?;
            slow.create(slow_count, |_| Watch::all(&keys, 0)).await?;
            slow.pause(true);
        }
        tokio::time::sleep(SETTLE).await;
        let before = target.resident()? as f64;
        healthy.time_events(true);
        let meter = target.meter()?;
        let written = writers.run(job.clone()).await?;
        expected += written.puts * healthy_count as u64;
        healthy.wait("events", expected, |seen| seen.events).await?;
        let used = meter.read()?;
        owed = written.puts * slow_count as u64;
        if let (Some(grown), Some(cpu)) = (grown.get_mut(phase), cpu.get_mut(phase)) {
            *grown = target.resident()? as f64 - before;
            *cpu = micros_each(used.server, written.puts);
        }
        healthy.seen(|seen| figures.latency(name, &seen.latency));
        figures.latency(if phase == 0 { "put alone" } else { "put beside slow" }, &written.latency);
    }
    let [alone, beside] = grown;
    let held = ((beside - alone) / slow_count as f64).max(0.0);
    figures.0.insert(0, crate::figures::Figure::new(HELD, Unit::Bytes, held));
    figures.push("server CPU per put alone", Unit::Micros, cpu[0]);
    figures.push("server CPU per put beside slow", Unit::Micros, cpu[1]);
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    slow.pause(false);
    slow.wait("events of slow streams", owed, |seen| seen.events).await?;
    figures.push("events expected by slow", Unit::Count, owed as f64);
    figures.push("events received by slow", Unit::Count, slow.seen(|seen| seen.events) as f64);
    figures.push("out of order or twice at slow", Unit::Count, slow.seen(|seen| seen.disordered) as f64);
    figures.delivery(&healthy, expected);
    Ok(figures)
}
