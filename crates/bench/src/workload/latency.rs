//! How long an event takes: from the start of its put, and from when the put was acknowledged.

use std::collections::HashMap;

use anyhow::Result;

use super::Options;
use crate::connection::Windows;
use crate::figures::{Figures, Unit, micros_each};
use crate::histogram::Histogram;
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Job, Pace, Until, Writers};

/// Puts at a fixed rate, each of which concerns a few watchers of one range.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let watchers = options.watchers.unwrap_or(options.pick(3, 10, 10)).max(1);
    let keys = Keys::new("latency/", 1_000, 32);
    let writers = Writers::connect(target.address, options.writers.unwrap_or(16)).await?;
    let mut streams = Streams::connect(target.address, options.connections.unwrap_or(watchers), Windows::LARGE).await?;
    streams.open(options.streams.unwrap_or(watchers)).await?;
    streams.create(watchers, |_| Watch::all(&keys, 0)).await?;
    let mut job = Job {
        keys,
        value_size: options.value_size(),
        writers: writers.count(),
        pace: Pace::Open(options.rate.unwrap_or(options.pick(200.0, 1_000.0, 1_000.0))),
        until: Until::Elapsed(options.warm_up()),
    };
    let mut expected = writers.run(job.clone()).await?.puts * watchers as u64;
    streams.wait("events", expected, |seen| seen.events).await?;

    job.until = Until::Elapsed(options.phase());
    streams.time_events(true);
    streams.record_arrivals(true);
    let meter = target.meter()?;
    let written = writers.start_recorded(job)?.await?;
    expected += written.puts * watchers as u64;
    streams.wait("events", expected, |seen| seen.events).await?;
    let used = meter.read()?;

    let (after, early) = streams.seen(|seen| since_acknowledged(&seen.arrivals, &written.acknowledged));
    let mut figures = Figures::default();
    streams.seen(|seen| figures.percentiles("event from put's start", &seen.latency));
    figures.percentiles("event from put's answer", &after);
    let share = early as f64 / (after.len().max(1)) as f64;
    figures.push("events before their put's answer", Unit::Share, share);
    figures.percentiles("put", &written.latency);
    figures.push("puts per second", Unit::PerSecond, written.rate());
    let cost = micros_each(used.server, written.puts * watchers as u64);
    figures.push(super::CPU, Unit::Micros, cost);
    figures.server(target, &used)?;
    figures.own(&used);
    figures.delivery(&streams, expected);
    Ok(figures)
}

/// From the answer of each put to its event, 0 for an event that came before; and how many these were.
fn since_acknowledged(arrivals: &[(i64, u64)], acknowledged: &[(i64, u64)]) -> (Histogram, u64) {
    let acknowledged: HashMap<i64, u64> = acknowledged.iter().copied().collect();
    let (mut latency, mut early) = (Histogram::default(), 0);
    for (revision, came) in arrivals {
        let Some(answered) = acknowledged.get(revision) else { continue };
        early += u64::from(came < answered);
        latency.record(came.saturating_sub(*answered));
    }
    (latency, early)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_held_against_the_answer_of_their_own_put() {
        let (latency, early) = since_acknowledged(&[(5, 140), (6, 90), (5, 150), (9, 1)], &[(6, 100), (5, 120)]);
        assert_eq!((latency.len(), latency.max(), early), (3, 30, 1));
    }
}
