//! Leases: granted, and kept alive.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Options;
use super::idle::settled;
use crate::clients::{Clients, Load, PER_CONNECTION, Pace};
use crate::clock;
use crate::connection::{Connection, Windows};
use crate::figures::{Figures, Unit, micros_each};
use crate::histogram::Histogram;
use crate::scan::Answer;
use crate::schedule::Until;
use crate::stream::Stream;
use crate::target::Target;
use crate::work::{Grants, KeepAlive};

const FIRST: i64 = 1 << 40;
const WARM: i64 = 1 << 50;

fn leases(options: &Options) -> u64 {
    options.leases.unwrap_or(options.each(100, 10_000, 10_000, 100_000)).max(1)
}

async fn clients(target: &Target, options: &Options) -> Result<Clients> {
    let count = options.clients.unwrap_or(options.pick(5, 100, 100));
    Clients::connect(target.addresses(), count, options.per_connection.unwrap_or(PER_CONNECTION)).await
}

fn grants(first: i64, clients: &Clients, options: &Options, count: u64) -> Load {
    let (work, clients) = (Arc::new(Grants::from(first)), clients.count());
    Load { work, clients, pace: options.pace(), until: Until::Count(count), record: false }
}

/// Leases granted by many clients, and what each takes of memory.
pub(super) async fn grant(target: &Target, options: &Options) -> Result<Figures> {
    let (count, clients) = (leases(options), clients(target, options).await?);
    clients.run(grants(WARM, &clients, options, count / 10 + 1)).await?;
    let before = settled(target, options).await?;
    let meter = target.meter()?;
    let done = clients.run(grants(FIRST, &clients, options, count)).await?;
    let used = meter.read()?;
    let after = settled(target, options).await?;
    let mut figures = Figures::default();
    figures.push("grants per second", Unit::PerSecond, done.rate());
    figures.percentiles("grant", &done.latency);
    figures.push("server CPU per grant", Unit::Micros, micros_each(used.server, done.calls));
    figures.push("RSS per lease", Unit::Bytes, (after - before) / count as f64);
    figures.server(target, &used)?;
    figures.own(&used);
    figures.answers(&done);
    Ok(figures)
}

/// What the streams share that keep leases alive.
struct Keeping {
    work: KeepAlive,
    next: Cell<u64>,
    end: Instant,
    latency: RefCell<Histogram>,
    wrong: Cell<u64>,
}

/// Many leases kept alive over and over, in turn, by streams that each wait for their answer.
pub(super) async fn keep_alive(target: &Target, options: &Options) -> Result<Figures> {
    let (count, clients) = (leases(options), clients(target, options).await?);
    clients.run(Load { pace: Pace::Closed, ..grants(FIRST, &clients, options, count) }).await?.all_right()?;
    let streams = options.streams.unwrap_or(options.pick(5, 100, 100));
    let mut connections = Vec::new();
    for _ in 0..options.connections.unwrap_or(options.pick(2, 10, 10)).max(1) {
        connections.push(Connection::open(target.address, Windows::LARGE).await?);
    }
    let keeping = Rc::new(Keeping {
        work: KeepAlive::of(FIRST, count),
        next: Cell::new(0),
        end: Instant::now() + options.phase(),
        latency: RefCell::default(),
        wrong: Cell::new(0),
    });
    let meter = target.meter()?;
    let mut tasks = JoinSet::new();
    for connection in connections.iter().cycle().take(streams) {
        tasks.spawn_local(Rc::clone(&keeping).keep(connection.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let used = meter.read()?;
    let latency = keeping.latency.take();
    let mut figures = Figures::default();
    figures.push("kept alive per second", Unit::PerSecond, latency.len() as f64 / used.elapsed.as_secs_f64());
    figures.percentiles("keep-alive", &latency);
    figures.push("server CPU per keep-alive", Unit::Micros, micros_each(used.server, latency.len()));
    figures.push("leases", Unit::Count, count as f64);
    figures.server(target, &used)?;
    figures.own(&used);
    figures.push("answers", Unit::Count, latency.len() as f64);
    figures.push("wrong answers", Unit::Count, keeping.wrong.get() as f64);
    Ok(figures)
}

impl Keeping {
    async fn keep(self: Rc<Keeping>, connection: Connection) -> Result<()> {
        let mut stream = Stream::open(&connection, "etcdserverpb.Lease/LeaseKeepAlive").await?;
        while Instant::now() < self.end {
            let number = self.next.replace(self.next.get() + 1);
            let (start, mut answer) = (clock::now(), Answer::default());
            let read = |message: &[u8]| answer.read(message).map(|()| true);
            stream.exchange(self.work.message(number), read).await?;
            self.latency.borrow_mut().record(clock::now() - start);
            let wrong = !self.work.keeps(number, &answer);
            self.wrong.set(self.wrong.get() + u64::from(wrong));
        }
        Ok(())
    }
}
