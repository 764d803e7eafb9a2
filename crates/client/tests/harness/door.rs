//! Where a member takes connections: pipes, decrypted if need be.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use stentor_server::config::Config;
use stentor_server::metrics::Metrics;
use stentor_server::net::{App, Listener, Server};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Bytes that a connection holds on their way.
pub(super) const PIPE_BYTES: usize = 64 << 10;

/// A connection's bytes at the server.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

type Accepted = Pin<Box<dyn Future<Output = io::Result<Box<dyn Bytes>>> + Send>>;

/// What a listener does with a connection before it is served.
pub(crate) type Accept = Arc<dyn Fn(DuplexStream) -> Accepted + Send + Sync>;

/// Nothing.
pub(super) fn as_it_is() -> Accept {
    Arc::new(|pipe| Box::pin(async { Ok(Box::new(pipe) as Box<dyn Bytes>) }))
}

/// A listener whose connections are pipes.
struct Pipes {
    accepted: mpsc::UnboundedReceiver<DuplexStream>,
    accept: Accept,
}

impl Listener for Pipes {
    type Io = Box<dyn Bytes>;

    async fn accept(&mut self) -> io::Result<(Box<dyn Bytes>, SocketAddr)> {
        match self.accepted.recv().await {
            Some(pipe) => Ok(((self.accept)(pipe).await?, self.local_addr())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

/// Served until it is dropped.
pub(crate) struct Door {
    server: Server,
    pub(super) connect: mpsc::UnboundedSender<DuplexStream>,
}

impl Door {
    pub(super) fn open(config: &Config, metrics: &Metrics, stop: &CancellationToken, app: App, accept: Accept) -> Door {
        let server = Server::new(config, metrics.clone(), stop.child_token());
        let (connect, accepted) = mpsc::unbounded_channel();
        server.serve(Pipes { accepted, accept }, app);
        Door { server, connect }
    }

    /// A connection.
    pub(super) fn enter(&self) -> io::Result<DuplexStream> {
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        self.connect.send(server).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(client)
    }

    /// Ends every connection.
    pub(super) async fn shut(self) {
        drop(self.connect);
        self.server.shutdown(Duration::ZERO).await;
    }
}
