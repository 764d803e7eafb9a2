//! Handshakes beside each other, so that nobody waits for a slow or silent one.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::accepting::{Acceptor, Refused};
use crate::net::Listener;

/// How handshakes are bounded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Time for one of them.
    pub(super) time: Duration,
    /// How many there may be at a time; further connections wait with the kernel.
    pub(super) at_once: usize,
    /// With so many, the oldest that has taken as long as this gives way.
    pub(super) grace: Duration,
}

const BOUNDS: Bounds = Bounds { time: Duration::from_secs(10), at_once: 1024, grace: Duration::from_secs(1) };

/// The connections of a listener, encrypted.
#[derive(Debug)]
pub struct TlsListener<L: Listener> {
    listener: L,
    acceptor: Acceptor,
    bounds: Bounds,
    handshakes: JoinSet<Option<Accepted<L>>>,
    /// Those that run, and some that have ended, the oldest first.
    begun: VecDeque<(Instant, AbortHandle)>,
    /// How many were made to give way and have not ended yet.
    leaving: usize,
}

type Accepted<L> = (Box<TlsStream<<L as Listener>::Io>>, SocketAddr);

impl<L: Listener> TlsListener<L> {
    /// Encrypts what `listener` accepts.
    pub fn new(listener: L, acceptor: Acceptor) -> TlsListener<L> {
        Self::with_bounds(listener, acceptor, BOUNDS)
    }

    pub(super) fn with_bounds(listener: L, acceptor: Acceptor, bounds: Bounds) -> TlsListener<L> {
        let (handshakes, begun) = (JoinSet::new(), VecDeque::new());
        TlsListener { listener, acceptor, bounds, handshakes, begun, leaving: 0 }
    }

    fn begin(&mut self, stream: L::Io, from: SocketAddr) {
        let (acceptor, time) = (self.acceptor.clone(), self.bounds.time);
        let handshake = self.handshakes.spawn(async move {
            match timeout(time, acceptor.accept(stream, from)).await {
                Ok(Ok(stream)) => return Some((Box::new(stream), from)),
                Ok(Err(Refused::Silent)) => tracing::debug!(%from, "a connection ended before the TLS handshake"),
                Ok(Err(error)) => tracing::info!(%from, %error, "a TLS handshake failed"),
                Err(_) => tracing::info!(%from, "a connection was cut: no TLS handshake in time"),
            }
            None
        });
        self.begun.push_back((Instant::now(), handshake));
    }

    /// If there are as many as may be: when the oldest has had its time, so that it gives way to the next.
    fn full_until(&mut self) -> Option<Instant> {
        while self.begun.front().is_some_and(|(_, handshake)| handshake.is_finished()) {
            self.begun.pop_front();
        }
        let running = self.handshakes.len().saturating_sub(self.leaving);
        let (begun, _) = self.begun.front().filter(|_| running >= self.bounds.at_once)?;
        Some(*begun + self.bounds.grace)
    }

    fn give_way(&mut self) {
        if let Some((_, handshake)) = self.begun.pop_front() {
            tracing::debug!("a TLS handshake gives way to others");
            handshake.abort();
            self.leaving += 1;
        }
    }
}

impl<L: Listener> Listener for TlsListener<L> {
    type Io = Box<TlsStream<L::Io>>;

    /// The next connection whose handshake has succeeded.
    async fn accept(&mut self) -> io::Result<(Self::Io, SocketAddr)> {
        loop {
            let full_until = self.full_until();
            let has_room = full_until.is_none_or(|until| until <= Instant::now());
            tokio::select! {
                Some(ended) = self.handshakes.join_next() => match ended {
                    Ok(Some(accepted)) => return Ok(accepted),
                    Ok(None) => {}
                    Err(gave_way) => self.leaving = self.leaving.saturating_sub(gave_way.is_cancelled().into()),
                },
                accepted = self.listener.accept(), if has_room => {
                    let (stream, from) = accepted?;
                    if self.full_until().is_some() {
                        self.give_way();
                    }
                    self.begin(stream, from);
                }
                () = sleep_until(full_until.unwrap_or_else(Instant::now)), if !has_room => {}
            }
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }
}

/// A listener whose connections are encrypted, or not.
#[derive(Debug)]
pub enum MaybeTls<L: Listener> {
    /// As they come.
    Plain(L),
    /// Encrypted.
    Tls(TlsListener<L>),
}

impl<L: Listener> Listener for MaybeTls<L> {
    type Io = Either<L::Io, Box<TlsStream<L::Io>>>;

    async fn accept(&mut self) -> io::Result<(Self::Io, SocketAddr)> {
        match self {
            MaybeTls::Plain(listener) => listener.accept().await.map(|(stream, from)| (Either::Left(stream), from)),
            MaybeTls::Tls(listener) => listener.accept().await.map(|(stream, from)| (Either::Right(stream), from)),
        }
    }

    fn local_addr(&self) -> SocketAddr {
        match self {
            MaybeTls::Plain(listener) => listener.local_addr(),
            MaybeTls::Tls(listener) => listener.local_addr(),
        }
    }
}
