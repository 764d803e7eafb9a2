//! The byte stream of one connection, as hyper sees it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::connection::ConnectionState;
use super::frames::{self, FrameScanner, PREFACE};
use super::pings::PingRule;

/// A GOAWAY with ENHANCE_YOUR_CALM and the text that gRPC clients look for: they ping less afterwards.
/// The last stream id is the highest there is: what is on its way is still answered as far as it goes.
const TOO_MANY_PINGS: &[u8] = b"\0\0\x16\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0btoo_many_pings";

/// What the client speaks.
#[derive(Debug)]
enum Reading {
    /// The preface of HTTP/2 so far, by length.
    Preface(usize),
    Http2(FrameScanner),
    Http1,
}

/// So much is put together before it must be written.
const GATHERED_BYTES: usize = 64 << 10;

/// With so much to write, more is likely to follow at once.
const MUCH_BYTES: usize = 8 << 10;

/// Wraps an accepted stream:
/// - frames leave together. A system call takes longer than anything else that is done for an event, and
///   HTTP/2's library makes one for each frame of some size. So what it writes is put together here, and the
///   flush behind it waits for one more turn of the connection's task if there is much or several streams are
///   open: those that were woken by the same commit add their frames meanwhile.
/// - pings are counted, and too many end the connection.
/// - the end of the handshake is noticed.
#[derive(Debug)]
pub(crate) struct ServerIo<S> {
    stream: S,
    /// What is still to be written.
    gathered: BytesMut,
    /// The next flush has waited its turn.
    has_waited: bool,
    reading: Reading,
    writing: FrameScanner,
    pings: PingRule,
    /// Bytes of [`TOO_MANY_PINGS`] sent, once that is what happens.
    goodbye: Option<usize>,
    state: Arc<ConnectionState>,
}

impl<S> ServerIo<S> {
    pub(crate) fn new(stream: S, pings: PingRule, state: Arc<ConnectionState>) -> Self {
        ServerIo {
            stream,
            gathered: BytesMut::new(),
            has_waited: false,
            reading: Reading::Preface(0),
            writing: FrameScanner::default(),
            pings,
            goodbye: None,
            state,
        }
    }

    /// Whether a flush is put off, so that others add to it first.
    fn puts_off(&mut self, cx: &mut Context<'_>) -> bool {
        let others = self.gathered.len() >= MUCH_BYTES || self.state.open_streams() > 1;
        if self.has_waited || !others || !matches!(self.reading, Reading::Http2(_)) {
            return false;
        }
        self.has_waited = true;
        // A task that wakes itself goes to the end of the queue; its next turn flushes again.
        cx.waker().wake_by_ref();
        true
    }

    fn note_read(&mut self, mut bytes: &[u8]) {
        if let Reading::Preface(matched) = self.reading {
            let expected = PREFACE.get(matched..).unwrap_or_default();
            let len = expected.len().min(bytes.len());
            let (start, rest) = bytes.split_at(len);
            if expected.get(..len) != Some(start) {
                self.reading = Reading::Http1;
                return;
            }
            bytes = rest;
            self.reading = match matched + len {
                all if all == PREFACE.len() => Reading::Http2(FrameScanner::default()),
                part => Reading::Preface(part),
            };
        }
        let Reading::Http2(scanner) = &mut self.reading else { return };
        scanner.feed(bytes, |frame| {
            // The first frame is the client's settings.
            self.state.set_established();
            if frame.kind == frames::PING
                && frame.flags & frames::FLAG_ACK == 0
                && self.pings.is_too_many(Instant::now(), self.state.open_streams())
            {
                self.goodbye.get_or_insert(0);
            }
        });
    }

    fn note_written(&mut self, bytes: &[u8]) {
        if matches!(self.reading, Reading::Http2(_)) {
            self.writing.feed(bytes, |frame| {
                if matches!(frame.kind, frames::DATA | frames::HEADERS) {
                    self.pings.sent_data();
                }
            });
        }
    }
}

impl<S: AsyncWrite + Unpin> ServerIo<S> {
    /// Ends the connection if that is due; `Ready(Ok)` when there is nothing of the kind to do.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(sent) = &mut self.goodbye else { return Poll::Ready(Ok(())) };
        if *sent == 0 && !self.writing.at_boundary() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_drain(cx))?;
        let Some(sent) = &mut self.goodbye else { return Poll::Ready(Ok(())) };
        while let Some(rest) = TOO_MANY_PINGS.get(*sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => *sent += written,
            }
        }
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client pings too often")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ServerIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if !matches!(this.reading, Reading::Http1) {
            this.note_read(buf.filled().get(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> ServerIo<S> {
    /// Writes what was put together.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.gathered))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.gathered.advance(written),
            }
        }
        // An idle connection holds nothing.
        self.gathered = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ServerIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_goodbye(cx))?;
        if this.gathered.len() >= GATHERED_BYTES {
            ready!(this.poll_drain(cx))?;
        }
        let taken = buf.get(..buf.len().min(GATHERED_BYTES)).unwrap_or_default();
        this.gathered.extend_from_slice(taken);
        this.note_written(taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_goodbye(cx))?;
        if this.puts_off(cx) {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_drain(cx))?;
        this.has_waited = false;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
