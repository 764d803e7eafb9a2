//! Every client loses its connection at once, and all come back.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Result;
use tokio::task::JoinSet;

use super::Options;
use crate::clock;
use crate::connection::Windows;
use crate::figures::{Figures, Unit, micros_each};
use crate::histogram::Histogram;
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch};
use crate::writers::{Job, Pace, Until, Writers};

/// Clients with a connection and a watcher each. All lose their connection, something happens, and all
/// connect again and go on from where they were.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let count = options.connections.unwrap_or(options.pick(10, 1_000, 1_000)).max(1);
    let missed = options.revisions.unwrap_or(options.pick(5, 100, 100));
    let keys = Keys::new("storm/", 100, 32);
    let writers = Writers::connect(target.address, options.writers.unwrap_or(4)).await?;
    let mut job = Job {
        keys: keys.clone(),
        value_size: options.value_size(),
        writers: writers.count(),
        pace: Pace::Closed,
        until: Until::Count(10),
    };
    let start = writers.run(job.clone()).await?.last_revision + 1;
    let (clients, _) = storm(target, &keys, count, start, 0).await?;
    drop(clients);
    job.until = Until::Count(missed);
    let written = writers.run(job.clone()).await?;

    let meter = target.meter()?;
    let begun = clock::now();
    let (clients, latency) = storm(target, &keys, count, written.first_revision, missed).await?;
    let took = clock::now() - begun;
    let used = meter.read()?;
    let after = writers.run(job).await?;
    for client in &clients {
        client.wait("events", missed + after.puts, |seen| seen.events).await?;
    }
    let sum = |of: fn(&crate::watchers::Seen) -> u64| clients.iter().map(|client| client.seen(of)).sum::<u64>();
    let mut figures = Figures::default();
    figures.push("until all are back", Unit::Micros, took as f64 / 1e3);
    figures.push("connections per second", Unit::PerSecond, count as f64 * 1e9 / took.max(1) as f64);
    figures.percentiles("client is back", &latency);
    figures.push("server CPU per client", Unit::Micros, micros_each(used.server, count as u64));
    figures.push("clients", Unit::Count, count as f64);
    figures.server(target, &used)?;
    figures.own(&used);
    figures.push("events expected", Unit::Count, (count as u64 * (missed + after.puts)) as f64);
    figures.push("events received", Unit::Count, sum(|seen| seen.events) as f64);
    figures.push("events out of order or twice", Unit::Count, sum(|seen| seen.disordered) as f64);
    Ok(figures)
}

/// Connects all at once, each with a watcher from a revision on, and waits for what each has missed. How
/// long each needed counts from the common start.
async fn storm(
    target: &Target,
    keys: &Keys,
    count: usize,
    revision: i64,
    missed: u64,
) -> Result<(Vec<Streams>, Histogram)> {
    let latency = Rc::new(RefCell::new(Histogram::default()));
    let (start, mut tasks) = (clock::now(), JoinSet::new());
    for address in target.addresses().iter().cycle().take(count).copied() {
        let (watch, latency) = (Watch::all(keys, revision), Rc::clone(&latency));
        tasks.spawn_local(async move {
            let mut streams = Streams::connect(address, 1, Windows::STANDARD).await?;
            streams.open(1).await?;
            streams.request(1, |_| watch.clone()).await?;
            streams.wait_each("watchers created", 1, |seen| seen.created).await?;
            streams.wait_each("events", missed, |seen| seen.events).await?;
            latency.borrow_mut().record(clock::now() - start);
            anyhow::Ok(streams)
        });
    }
    let mut clients = Vec::new();
    while let Some(client) = tasks.join_next().await {
        clients.push(client??);
    }
    Ok((clients, latency.take()))
}
