//! Watchers that come and go.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anyhow::{Result, ensure};
use bytes::BytesMut;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Options;
use crate::clock;
use crate::connection::{Connection, Windows};
use crate::figures::{Figures, Unit, micros_each};
use crate::histogram::Histogram;
use crate::scan::Response;
use crate::stream::Stream;
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch, cancel};

/// What the streams share.
struct Churn {
    keys: Keys,
    next: Cell<u64>,
    end: Instant,
    create: RefCell<Histogram>,
    cancel: RefCell<Histogram>,
}

/// Streams that create a watcher and cancel it, over and over, beside many that stay.
pub(super) async fn run(target: &Target, options: &Options) -> Result<Figures> {
    let standing = options.watchers.unwrap_or(options.pick(50, 10_000, 100_000));
    let streams = options.streams.unwrap_or(options.pick(3, 50, 50));
    let keys = Keys::new("churn/", 1_000_000, 32);
    let mut staying = Streams::connect(target.address, 1, Windows::LARGE).await?;
    staying.open(options.pick(2, 20, 20)).await?;
    staying.create(standing, |index| Watch::key(keys.get(index))).await?;
    let mut connections = Vec::new();
    for _ in 0..options.connections.unwrap_or(options.pick(2, 10, 10)).max(1) {
        connections.push(Connection::open(target.address, Windows::LARGE).await?);
    }
    let churn = Rc::new(Churn {
        keys,
        next: Cell::new(0),
        end: Instant::now() + options.phase(),
        create: RefCell::default(),
        cancel: RefCell::default(),
    });
    let meter = target.meter()?;
    let mut tasks = JoinSet::new();
    for connection in connections.iter().cycle().take(streams) {
        tasks.spawn_local(Rc::clone(&churn).turn(connection.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let used = meter.read()?;
    let (create, cancel) = (churn.create.take(), churn.cancel.take());
    let mut figures = Figures::default();
    figures.push("created and cancelled per second", Unit::PerSecond, cancel.len() as f64 / used.elapsed.as_secs_f64());
    figures.push("server CPU per create and cancel", Unit::Micros, micros_each(used.server, cancel.len()));
    figures.percentiles("create", &create);
    figures.percentiles("cancel", &cancel);
    figures.push("watchers that stay", Unit::Count, standing as f64);
    figures.server(target, &used)?;
    figures.own(&used);
    figures.push("answers", Unit::Count, (create.len() + cancel.len()) as f64);
    figures.push("wrong answers", Unit::Count, 0.0);
    figures.delivery(&staying, 0);
    Ok(figures)
}

impl Churn {
    async fn turn(self: Rc<Churn>, connection: Connection) -> Result<()> {
        let mut stream = Stream::open(&connection, "etcdserverpb.Watch/Watch").await?;
        while Instant::now() < self.end {
            let number = self.next.replace(self.next.get() + 1);
            // Every second one is a range.
            let key = self.keys.get(crate::work::scattered(number));
            let watch = if number.is_multiple_of(2) { Watch::key(key) } else { Watch::prefix(key) };
            let mut request = BytesMut::new();
            watch.append_to(&mut request);
            let start = clock::now();
            let (mut id, mut refused) = (0, false);
            let created = |message: &[u8]| {
                let response = Response::read(message)?;
                (id, refused) = (response.watch_id, response.canceled);
                Ok(response.created)
            };
            stream.exchange(request.freeze(), created).await?;
            ensure!(!refused, "a watcher was refused");
            let then = clock::now();
            self.create.borrow_mut().record(then - start);
            let cancelled = |message: &[u8]| {
                let response = Response::read(message)?;
                Ok(response.canceled && response.watch_id == id)
            };
            stream.exchange(cancel(id), cancelled).await?;
            self.cancel.borrow_mut().record(clock::now() - then);
        }
        Ok(())
    }
}
