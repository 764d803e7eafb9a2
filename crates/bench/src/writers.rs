//! Writers: clients that put, each value with the time of its put.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

pub use crate::clients::Pace;
use crate::clients::{Clients, Done, Load, PER_CONNECTION};
use crate::histogram::Histogram;
pub use crate::schedule::Until;
use crate::wire::Keys;
use crate::work::Puts;

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
    /// The revisions and when each was acknowledged, where that was asked for.
    pub acknowledged: Vec<(i64, u64)>,
}

impl Written {
    /// Puts per second.
    pub fn rate(&self) -> f64 {
        self.puts as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

impl From<Done> for Written {
    fn from(done: Done) -> Written {
        Written {
            puts: done.calls,
            elapsed: done.elapsed,
            latency: done.latency,
            first_revision: done.first_revision,
            last_revision: done.last_revision,
            acknowledged: done.acknowledged,
        }
    }
}

/// Connected writers, waiting for a [`Job`].
pub struct Writers {
    clients: Clients,
}

impl Writers {
    /// Connects as many as `count`, on one new thread.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn connect(address: SocketAddr, count: usize) -> Result<Writers> {
        Ok(Writers { clients: Clients::connect(&[address], count, PER_CONNECTION).await? })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.clients.count()
    }

    /// Does a job, and returns when every put is answered.
    ///
    /// # Errors
    /// When a put fails.
    pub async fn run(&self, job: Job) -> Result<Written> {
        self.start(job)?.await
    }

    /// Starts a job whose end is waited for later.
    ///
    /// # Errors
    /// When the job makes no sense.
    pub fn start(&self, job: Job) -> Result<impl Future<Output = Result<Written>> + use<>> {
        self.begin(job, false)
    }

    /// The same; each put's acknowledgement is kept too.
    ///
    /// # Errors
    /// When the job makes no sense.
    pub fn start_recorded(&self, job: Job) -> Result<impl Future<Output = Result<Written>> + use<>> {
        self.begin(job, true)
    }

    fn begin(&self, job: Job, record: bool) -> Result<impl Future<Output = Result<Written>> + use<>> {
        let Job { keys, value_size, writers, pace, until } = job;
        let work = Arc::new(Puts::in_turn(keys, value_size)?);
        let done = self.clients.start(Load { work, clients: writers, pace, until, record });
        Ok(async { Ok(done.await?.all_right()?.into()) })
    }
}
