//! Writers: on a thread and connections of their own, so that reading never delays a put.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock;
use crate::connection::{Call, Connection, Windows};
use crate::histogram::Histogram;
use crate::scan;
use crate::wire::{Keys, PutTemplate};

/// As many writers share a connection.
const PER_CONNECTION: usize = 16;

/// How puts follow each other.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each writer puts as soon as its last put is answered.
    Closed,
    /// So many a second in all, whatever the answers do.
    Open(f64),
}

/// When writing ends.
#[derive(Clone, Debug)]
pub enum Until {
    /// After so many puts.
    Count(u64),
    /// After this time.
    Elapsed(Duration),
    /// When this is set.
    Told(Arc<AtomicBool>),
}

/// Something to write.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which keys, in turn.
    pub keys: Keys,
    /// Bytes of each value.
    pub value_size: usize,
    /// How many writers of those that there are.
    pub writers: usize,
    /// How they go on.
    pub pace: Pace,
    /// For how long.
    pub until: Until,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Puts that were answered: all that were sent.
    pub puts: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// From a put's start to its answer, in nanoseconds.
    pub latency: Histogram,
    /// The lowest revision that one of them had; 0 without any.
    pub first_revision: i64,
    /// The highest.
    pub last_revision: i64,
}

impl Written {
    /// Puts per second.
    pub fn rate(&self) -> f64 {
        self.puts as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

type Order = (Job, oneshot::Sender<Result<Written>>);

/// Connected writers, waiting for a [`Job`].
pub struct Writers {
    orders: mpsc::UnboundedSender<Order>,
    count: usize,
}

impl Writers {
    /// Connects as many as `count`, on one new thread.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn connect(address: SocketAddr, count: usize) -> Result<Writers> {
        let count = count.max(1);
        let (orders, incoming) = mpsc::unbounded_channel();
        let (ready, is_ready) = oneshot::channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => {
                    tokio::task::LocalSet::new().block_on(&runtime, serve(address, count, incoming, ready));
                }
                Err(error) => drop(ready.send(Err(error.into()))),
            }
        };
        std::thread::Builder::new().name("writers".into()).spawn(run)?;
        is_ready.await.context("the thread of the writers has ended")??;
        Ok(Writers { orders, count })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Does a job, and returns when every put is answered.
    ///
    /// # Errors
    /// When a put fails.
    pub async fn run(&self, job: Job) -> Result<Written> {
        self.start(job).await.map_err(|_| anyhow!("the thread of the writers has ended"))?
    }

    /// Starts a job whose end is waited for later.
    pub fn start(&self, job: Job) -> oneshot::Receiver<Result<Written>> {
        let (done, is_done) = oneshot::channel();
        // A thread that has ended drops `done`, which whoever waits sees.
        self.orders.send((job, done)).ok();
        is_done
    }
}

async fn serve(
    address: SocketAddr,
    count: usize,
    mut orders: mpsc::UnboundedReceiver<Order>,
    ready: oneshot::Sender<Result<()>>,
) {
    let calls = match connect(address, count).await {
        Ok(calls) => calls,
        Err(error) => return drop(ready.send(Err(error))),
    };
    ready.send(Ok(())).ok();
    while let Some((job, done)) = orders.recv().await {
        done.send(work(&calls, &job).await).ok();
    }
}

async fn connect(address: SocketAddr, count: usize) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    while calls.len() < count {
        let call = Connection::open(address, Windows::LARGE).await?.method("etcdserverpb.KV/Put")?;
        calls.extend(std::iter::repeat_n(call, PER_CONNECTION.min(count - calls.len())));
    }
    Ok(calls)
}

/// What the writers of one job share.
struct Work {
    job: Job,
    template: PutTemplate,
    end: Option<Instant>,
    started: Cell<u64>,
    written: RefCell<Written>,
}

async fn work(calls: &[Call], job: &Job) -> Result<Written> {
    let start = Instant::now();
    let end = if let Until::Elapsed(time) = job.until { Some(start + time) } else { None };
    let template = PutTemplate::new(&job.keys, job.value_size)?;
    let work = Rc::new(Work { job: job.clone(), template, end, started: Cell::new(0), written: RefCell::default() });
    let writers = calls.iter().take(job.writers.max(1));
    let mut tasks = JoinSet::new();
    match job.pace {
        Pace::Closed => {
            for call in writers {
                tasks.spawn_local(Rc::clone(&work).closed(call.clone()));
            }
        }
        Pace::Open(rate) => {
            tasks.spawn_local(Rc::clone(&work).open(writers.cloned().collect(), rate));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let mut written = work.written.take();
    written.elapsed = start.elapsed();
    Ok(written)
}

impl Work {
    /// The number of the next put, unless the job is done.
    fn next(&self) -> Option<u64> {
        let number = self.started.get();
        let done = match &self.job.until {
            Until::Count(count) => number >= *count,
            Until::Elapsed(_) => self.end.is_some_and(|end| Instant::now() >= end),
            Until::Told(stop) => stop.load(Ordering::Relaxed),
        };
        if done {
            return None;
        }
        self.started.set(number + 1);
        Some(number)
    }

    async fn put(&self, call: &Call, number: u64) -> Result<()> {
        let key = self.job.keys.get(number);
        let start = clock::now();
        let revision = call.call(self.template.fill(&key, start), scan::header_revision).await.context("a put")?;
        let mut written = self.written.borrow_mut();
        written.latency.record(clock::now() - start);
        written.puts += 1;
        written.last_revision = written.last_revision.max(revision);
        if written.first_revision == 0 || revision < written.first_revision {
            written.first_revision = revision;
        }
        Ok(())
    }

    async fn closed(self: Rc<Work>, call: Call) -> Result<()> {
        while let Some(number) = self.next() {
            self.put(&call, number).await?;
        }
        Ok(())
    }

    async fn open(self: Rc<Work>, calls: Vec<Call>, rate: f64) -> Result<()> {
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate.max(0.001)));
        // A put that was due while this thread could not run is sent late, not left out.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut puts = JoinSet::new();
        for call in calls.iter().cycle() {
            ticks.tick().await;
            let Some(number) = self.next() else { break };
            let (work, call) = (Rc::clone(&self), call.clone());
            puts.spawn_local(async move { work.put(&call, number).await });
            while let Some(ended) = puts.try_join_next() {
                ended??;
            }
        }
        while let Some(ended) = puts.join_next().await {
            ended??;
        }
        Ok(())
    }
}
