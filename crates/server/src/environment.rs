//! What the server takes from the world beside its network and its engine: time, chance, the way to other
//! members, and where its long-lived work runs. A simulation passes its own.

use std::future::Future;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use crate::peers::Dialer;

/// Time, chance and workers.
#[derive(Clone)]
pub struct Environment {
    /// Wall clock, milliseconds since 1970. Monotonic time is tokio's, which a simulation controls anyway.
    pub wall_unix_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Random numbers: ids of clusters, members and leases, and jitter.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Where long-lived and blocking work runs.
    pub workers: Workers,
    /// How other members are connected to.
    pub dialer: Dialer,
}

impl Environment {
    /// The system's clock and randomness, and threads.
    pub fn system() -> Environment {
        let wall = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        Environment {
            wall_unix_ms: Arc::new(wall),
            random: Arc::new(rand::random),
            workers: Workers::Threads,
            dialer: Dialer::system(),
        }
    }
}

/// Where work runs that would hold up the async threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// Long-lived work on a thread of its own, blocking calls on the runtime's blocking threads.
    Threads,
    /// Everything as tasks of the runtime, blocking calls in place: one thread does all.
    Tasks,
}

impl Workers {
    /// Starts long-lived work; it ends by itself when told to. [`Worker::ended`] waits for that.
    pub fn spawn(self, name: &str, work: impl Future<Output = ()> + Send + 'static) -> std::io::Result<Worker> {
        let (ended, has_ended) = oneshot::channel();
        let work = async move {
            work.await;
            // Nobody may be waiting.
            let _ = ended.send(());
        };
        match self {
            Workers::Tasks => drop(tokio::spawn(work)),
            Workers::Threads => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
                std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(work))?;
            }
        }
        Ok(Worker { has_ended })
    }

    /// Runs a call that may block. If the caller goes away, it still runs to its end.
    pub async fn blocking<T: Send + 'static>(self, call: impl FnOnce() -> T + Send + 'static) -> Result<T, Stopping> {
        match self {
            Workers::Tasks => Ok(call()),
            Workers::Threads => tokio::task::spawn_blocking(call).await.map_err(|_| Stopping),
        }
    }
}

/// Long-lived work that was started.
#[derive(Debug)]
pub struct Worker {
    has_ended: oneshot::Receiver<()>,
}

impl Worker {
    /// Waits until the work has ended.
    pub async fn ended(self) {
        // An error means that it ended without a word.
        let _ = self.has_ended.await;
    }
}

/// The runtime is stopping, so the call was not made or did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is stopping")]
pub struct Stopping;
