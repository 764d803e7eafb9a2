//! Connections: accepting them, speaking HTTP on them, and ending them.

mod body;
mod connection;
mod frames;
mod io;
mod listener;
mod pings;
mod service;
#[cfg(feature = "binary")]
mod socket;
mod standing;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use listener::{Listener, TcpAcceptor};
pub use service::{App, PeerAddr};
#[cfg(feature = "binary")]
pub use socket::{SocketAcceptor, UnixAcceptor};
pub(crate) use standing::Standing;

use crate::config::Config;
use crate::metrics::Metrics;
use connection::Limits;
use service::{ConnectionService, Shared};

/// Pause after a failed accept: out of file descriptors, the next one would fail at once too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time for connections that are cut to be gone.
const CUT_TIME: Duration = Duration::from_millis(200);

/// Serves any number of listeners, and ends what it began.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    slow_call: Duration,
    metrics: Metrics,
    /// Take nothing new, finish the rest.
    stop: CancellationToken,
    /// Drop everything.
    kill: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// A server without listeners. When `stop` is cancelled, it stops accepting, tells clients so (GOAWAY)
    /// and ends every stream that the server sends with Unavailable; other calls are finished.
    pub fn new(config: &Config, metrics: Metrics, stop: CancellationToken) -> Server {
        Server {
            limits: Limits::new(config.max_concurrent_streams, config.keepalive),
            slow_call: config.warning_unary_request_duration,
            metrics,
            stop,
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Accepts connections in the background and serves `app` on them, until the stop.
    pub fn serve<L: Listener>(&self, listener: L, app: App) {
        let shared = Shared { app, metrics: self.metrics.clone(), stop: self.stop.clone(), slow_call: self.slow_call };
        let acceptor = Acceptor {
            shared: Arc::new(shared),
            limits: self.limits.clone(),
            tasks: self.tasks.clone(),
            kill: self.kill.clone(),
        };
        self.tasks.spawn(acceptor.run(listener));
    }

    /// Stops (also without the token given), waits at most `bound` for what is running, then cuts it.
    /// Returns whether nothing had to be cut.
    pub async fn shutdown(self, bound: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        let finished = tokio::time::timeout(bound, self.tasks.wait()).await.is_ok();
        if !finished {
            self.kill.cancel();
            if tokio::time::timeout(CUT_TIME, self.tasks.wait()).await.is_err() {
                tracing::debug!(tasks = self.tasks.len(), "requests outlive their connections");
            }
        }
        finished
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing outlives its owner.
        self.stop.cancel();
        self.kill.cancel();
    }
}

struct Acceptor {
    shared: Arc<Shared>,
    limits: Limits,
    tasks: TaskTracker,
    kill: CancellationToken,
}

impl Acceptor {
    async fn run<L: Listener>(self, mut listener: L) {
        let stop = self.shared.stop.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let service = ConnectionService::new(Arc::clone(&self.shared), peer);
                    let gauge = CountedConnection::new(&self.shared.metrics);
                    let run = connection::run(
                        stream,
                        service,
                        self.limits.clone(),
                        self.tasks.clone(),
                        stop.clone(),
                        self.kill.clone(),
                    );
                    self.tasks.spawn(async move {
                        let _gauge = gauge;
                        run.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
    }
}

/// Keeps the gauge of open connections right.
struct CountedConnection(Metrics);

impl CountedConnection {
    fn new(metrics: &Metrics) -> Self {
        metrics.server.connections.inc();
        CountedConnection(metrics.clone())
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.server.connections.dec();
    }
}
