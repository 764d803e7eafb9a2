use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use stentor_server::net::Listener;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Bytes that a link holds on their way, in each direction.
const PIPE_BYTES: usize = 64 << 10;

/// The network between a server and its clients.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<State>>);

struct State {
    /// Where new connections go; `None` while there is no server.
    server: Option<mpsc::UnboundedSender<DuplexStream>>,
    reachable: bool,
    /// Cancelled to break the links there are.
    links: CancellationToken,
}

impl Network {
    pub(crate) fn new() -> Network {
        Network(Arc::new(Mutex::new(State { server: None, reachable: true, links: CancellationToken::new() })))
    }

    /// Connections go to this listener from now on.
    pub(crate) fn listen(&self) -> Pipes {
        let (server, accepted) = mpsc::unbounded_channel();
        self.0.lock().server = Some(server);
        Pipes { accepted }
    }

    /// Breaks every connection.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut self.0.lock().links).cancel();
    }

    /// Whether connections can be made.
    pub(crate) fn set_reachable(&self, reachable: bool) {
        self.0.lock().reachable = reachable;
    }

    pub(crate) fn connect(&self) -> io::Result<Link> {
        let state = self.0.lock();
        if !state.reachable {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        state.link(state.links.clone())
    }

    /// A connection that no fault concerns.
    pub(crate) fn connect_past_faults(&self) -> io::Result<Link> {
        self.0.lock().link(CancellationToken::new())
    }
}

impl State {
    fn link(&self, cut: CancellationToken) -> io::Result<Link> {
        let (client, accepted) = tokio::io::duplex(PIPE_BYTES);
        match self.server.as_ref().map(|server| server.send(accepted)) {
            Some(Ok(())) => Ok(Link { pipe: Some(client), cut: Box::pin(cut.cancelled_owned()) }),
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// A client's end of a connection.
pub(crate) struct Link {
    /// `None` once it is cut: then the server meets its end too.
    pipe: Option<DuplexStream>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Link {
    fn poll_pipe<T>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut DuplexStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.pipe.is_some() && self.cut.as_mut().poll(cx).is_ready() {
            self.pipe = None;
        }
        match &mut self.pipe {
            Some(pipe) => poll(Pin::new(pipe), cx),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_pipe(cx, |pipe, cx| pipe.poll_read(cx, buf))
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_pipe(cx, |pipe, cx| pipe.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_pipe(cx, |pipe, cx| pipe.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_pipe(cx, |pipe, cx| pipe.poll_shutdown(cx))
    }
}

/// The server's side of the network.
pub(crate) struct Pipes {
    accepted: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Listener for Pipes {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.accepted.recv().await {
            Some(pipe) => Ok((pipe, self.local_addr())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}
