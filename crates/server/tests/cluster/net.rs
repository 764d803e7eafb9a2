//! The network between members: pipes that can be cut, by pairs of members.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use stentor_server::peers::{Dialer, PeerIo};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::harness::Pipes;

const PIPE_BYTES: usize = 256 << 10;

/// Members are named by the port that they listen on.
#[derive(Clone, Default)]
pub(crate) struct Net(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    listeners: BTreeMap<u16, mpsc::UnboundedSender<DuplexStream>>,
    /// Who can't reach whom.
    severed: BTreeSet<(u16, u16)>,
    pipes: BTreeMap<(u16, u16), CancellationToken>,
}

impl Net {
    pub(crate) fn listen(&self, port: u16) -> Pipes {
        let (connect, accepted) = mpsc::unbounded_channel();
        self.0.lock().unwrap().listeners.insert(port, connect);
        Pipes { accepted }
    }

    pub(crate) fn dialer(&self, from: u16) -> Dialer {
        let net = self.clone();
        Dialer::new(move |target| {
            let pipe = net.connect(from, target.port);
            Box::pin(async { pipe.map(|pipe| Box::new(pipe) as Box<dyn PeerIo>) })
        })
    }

    fn connect(&self, from: u16, to: u16) -> io::Result<Pipe> {
        let mut state = self.0.lock().unwrap();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        if state.severed.contains(&(from, to)) {
            return Err(refused());
        }
        let (pipe, accepted) = tokio::io::duplex(PIPE_BYTES);
        state.listeners.get(&to).ok_or_else(refused)?.send(accepted).map_err(|_| refused())?;
        let cut = state.pipes.entry((from, to)).or_default().clone();
        Ok(Pipe { pipe: Some(pipe), cut: Box::pin(cut.cancelled_owned()) })
    }

    /// Whether `one` and each of the others can reach each other.
    pub(crate) fn set_reachable(&self, one: u16, others: &[u16], reachable: bool) {
        self.set(others.iter().flat_map(|other| [(one, *other), (*other, one)]), reachable);
    }

    /// Whether each of the others can reach `one`, which can reach them.
    pub(crate) fn set_hears(&self, one: u16, others: &[u16], hears: bool) {
        self.set(others.iter().map(|other| (*other, one)), hears);
    }

    fn set(&self, pairs: impl Iterator<Item = (u16, u16)>, reachable: bool) {
        let mut state = self.0.lock().unwrap();
        for pair in pairs {
            if reachable {
                state.severed.remove(&pair);
            } else {
                state.severed.insert(pair);
                state.pipes.remove(&pair).inspect(CancellationToken::cancel);
            }
        }
    }
}

struct Pipe {
    /// `None` once it is cut: then the other side meets its end too.
    pipe: Option<DuplexStream>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Pipe {
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

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_pipe(cx, |pipe, cx| pipe.poll_read(cx, buf))
    }
}

impl AsyncWrite for Pipe {
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
