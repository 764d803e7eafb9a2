//! Each watcher has a key of its own: what do they cost the writers?

use std::time::Duration;

use anyhow::Result;

use super::{Options, SETTLE, median};
use crate::bars::{Bar, Bound};
use crate::connection::Windows;
use crate::figures::{Figures, Unit, micros_each};
use crate::histogram::Histogram;
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Job, Pace, Until, Writers};

const RATIO: &str = "put rate with / without";

pub(super) const BARS: [Bar; 1] = [Bar::new(RATIO, Bound::AtLeast(0.95))];

/// Who watches while a phase writes.
#[derive(Clone, Copy)]
enum Audience {
    Nobody,
    /// The keys that are written: each put is one event.
    Written,
    /// As many other keys: no put is an event.
    Others,
}

/// What the phases with one audience showed.
#[derive(Default)]
struct Phases {
    rates: Vec<f64>,
    puts: u64,
    server: Duration,
    put: Histogram,
    event: Histogram,
    received: u64,
    disordered: u64,
}

/// 10,000 watchers on distinct keys on 100 streams, and as often none, on one server in turn.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let watchers = options.watchers.unwrap_or(options.pick(50, 10_000, 10_000));
    let writers = Writers::connect(target.address, options.writers.unwrap_or(1)).await?;
    let job = Job {
        keys: Keys::new("distinct/", watchers as u64, 32),
        value_size: options.value_size(),
        writers: writers.count(),
        pace: Pace::Closed,
        until: Until::Elapsed(options.phase() / 2),
    };
    writers.run(job.clone()).await?;
    let [mut without, mut with, mut others] = [(); 3].map(|()| Phases::default());
    for round in 0..options.each(1, 2, 5, 9) {
        let mut order =
            [(Audience::Nobody, &mut without), (Audience::Written, &mut with), (Audience::Others, &mut others)];
        // A drift of the machine shall fall on all of them.
        order.rotate_left(round % 3);
        for (audience, phases) in order {
            phases.run(target, options, &writers, &job, audience).await?;
        }
    }
    let mut figures = Figures::default();
    let base = without.rate().max(1e-9);
    figures.push(RATIO, Unit::Share, with.rate() / base);
    figures.push("put rate beside others / without", Unit::Share, others.rate() / base);
    for (name, phases) in [("with", &with), ("beside others", &others), ("without", &without)] {
        figures.push(format!("puts per second {name}"), Unit::PerSecond, phases.rate());
        figures.push(format!("server CPU per put {name}"), Unit::Micros, micros_each(phases.server, phases.puts));
        figures.latency(&format!("put {name}"), &phases.put);
    }
    figures.latency("event", &with.event);
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    figures.push("events expected", Unit::Count, with.puts as f64);
    figures.push("events received", Unit::Count, (with.received + others.received) as f64);
    figures.push("events out of order or twice", Unit::Count, with.disordered as f64);
    Ok(figures)
}

impl Phases {
    async fn run(
        &mut self,
        target: &Target,
        options: &Options,
        writers: &Writers,
        job: &Job,
        audience: Audience,
    ) -> Result<()> {
        let connections = options.connections.unwrap_or(options.pick(2, 10, 10));
        let mut streams = Streams::connect(target.address, connections, Windows::LARGE).await?;
        let watched = match audience {
            Audience::Nobody => None,
            Audience::Written => Some(job.keys.clone()),
            Audience::Others => Some(Keys::new("elsewhere/", job.keys.count(), 32)),
        };
        if let Some(keys) = watched {
            streams.open(options.streams.unwrap_or(options.pick(5, 100, 100))).await?;
            streams.create(usize::try_from(keys.count())?, |index| Watch::key(keys.get(index))).await?;
        }
        tokio::time::sleep(SETTLE).await;
        streams.time_events(true);
        let meter = target.meter()?;
        let written = writers.run(job.clone()).await?;
        if let Audience::Written = audience {
            streams.wait("events", written.puts, |seen| seen.events).await?;
        }
        self.server += meter.read()?.server;
        self.rates.push(written.rate());
        self.puts += written.puts;
        self.put.add(&written.latency);
        streams.seen(|seen| {
            self.event.add(&seen.latency);
            self.received += seen.events;
            self.disordered += seen.disordered;
        });
        Ok(())
    }

    /// The median of the phases.
    fn rate(&self) -> f64 {
        median(self.rates.clone())
    }
}
