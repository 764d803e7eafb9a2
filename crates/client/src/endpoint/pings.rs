use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How connections are pinged, while a call or stream is open. Clones share the interval.
#[derive(Clone, Debug)]
pub(crate) struct KeepAlive {
    interval: Arc<Mutex<Interval>>,
    /// How long an answer may take.
    timeout: Duration,
}

#[derive(Debug)]
struct Interval {
    now: Duration,
    warned: bool,
}

/// How one connection is pinged.
#[derive(Clone, Debug)]
pub(crate) struct Pinged {
    keep_alive: KeepAlive,
    interval: Duration,
}

impl KeepAlive {
    pub(crate) fn new(interval: Duration, timeout: Duration) -> KeepAlive {
        KeepAlive { interval: Arc::new(Mutex::new(Interval { now: interval, warned: false })), timeout }
    }

    pub(crate) fn for_a_connection(&self) -> Pinged {
        let interval = self.interval.lock().unwrap_or_else(PoisonError::into_inner).now;
        Pinged { keep_alive: self.clone(), interval }
    }
}

impl Pinged {
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.keep_alive.timeout
    }

    /// The server ends the connection for its pings: those opened from now on are pinged half as often. Once
    /// for each interval, however many connections end for it.
    fn too_often(&self) {
        let mut interval = self.keep_alive.interval.lock().unwrap_or_else(PoisonError::into_inner);
        if interval.now > self.interval {
            return;
        }
        interval.now = self.interval.saturating_mul(2);
        if !std::mem::replace(&mut interval.warned, true) {
            tracing::warn!(interval = ?interval.now, "a server wants fewer pings; pinging half as often");
        }
    }
}

/// A connection's bytes, in which the server is heard when it wants fewer pings. It says so in the GOAWAY that
/// ends the connection; of that, the HTTP/2 library tells a call under way no more than that the pipe broke.
pub(crate) struct Heeding<T> {
    io: T,
    pinged: Option<Pinged>,
    frames: Frames,
}

impl<T> Heeding<T> {
    pub(crate) fn new(io: T, pinged: Option<Pinged>) -> Heeding<T> {
        Heeding { io, pinged, frames: Frames::default() }
    }
}

/// Where in the frames of HTTP/2 the bytes received so far end.
#[derive(Debug, Default)]
struct Frames {
    /// Of the next frame, as far as it has come.
    head: Vec<u8>,
    /// Of the frame that is on its way.
    left: usize,
    /// Its payload, if it is a GOAWAY.
    farewell: Option<Vec<u8>>,
}

const HEAD: usize = 9;
const GOAWAY: u8 = 7;
/// Of a GOAWAY, more than this is not looked at: two numbers and a text.
const FAREWELL: usize = 256;
const TOO_MANY_PINGS: &[u8] = b"too_many_pings";

impl Frames {
    /// Takes what came next. True if a GOAWAY for too many pings ends in it.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut too_many = false;
        while !bytes.is_empty() {
            if self.left == 0 {
                let (head, rest) = bytes.split_at(bytes.len().min(HEAD - self.head.len()));
                self.head.extend_from_slice(head);
                bytes = rest;
                if let [a, b, c, kind, ..] = self.head[..]
                    && self.head.len() == HEAD
                {
                    self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                    self.farewell = (kind == GOAWAY).then(Vec::new);
                    self.head.clear();
                }
                continue;
            }
            let (payload, rest) = bytes.split_at(bytes.len().min(self.left));
            self.left -= payload.len();
            bytes = rest;
            if let Some(farewell) = &mut self.farewell {
                farewell.extend(payload.iter().take(FAREWELL - farewell.len().min(FAREWELL)));
                if self.left == 0 {
                    too_many |= farewell.windows(TOO_MANY_PINGS.len()).any(|text| text == TOO_MANY_PINGS);
                    self.farewell = None;
                }
            }
        }
        too_many
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Heeding<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        let this = &mut *self;
        if let (Some(pinged), Some(new)) = (&this.pinged, buffer.filled().get(before..))
            && this.frames.take(new)
        {
            pinged.too_often();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heeding<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_doubles_once_for_each_interval() {
        let seconds = Duration::from_secs;
        let keep_alive = KeepAlive::new(seconds(10), seconds(5));
        let (first, second) = (keep_alive.for_a_connection(), keep_alive.for_a_connection());
        first.too_often();
        second.too_often();
        let third = keep_alive.for_a_connection();
        assert_eq!((first.interval(), third.interval()), (seconds(10), seconds(20)));
        third.too_often();
        assert_eq!(keep_alive.for_a_connection().interval(), seconds(40));
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn the_servers_wish_is_found_however_the_bytes_are_cut() {
        let wish = frame(GOAWAY, b"\0\0\0\x01\0\0\0\x0btoo_many_pings");
        let data = frame(0, &[7; 300]);
        let mut bytes = [frame(4, b""), data.clone(), frame(6, b"12345678"), wish].concat();
        for size in 1..bytes.len() {
            let mut frames = Frames::default();
            let found: Vec<_> = bytes.chunks(size).map(|chunk| frames.take(chunk)).collect();
            assert_eq!(found.iter().filter(|found| **found).count(), 1, "in pieces of {size}");
            assert_eq!(found.last(), Some(&true));
        }
        // Another farewell, and the same text as data.
        bytes = [frame(GOAWAY, &[0; 1000]), frame(0, TOO_MANY_PINGS), data].concat();
        assert!(!Frames::default().take(&bytes));
    }
}
