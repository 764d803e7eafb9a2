//! One Watch call: requests in, frames out, and what it waits for in between.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use stentor_proto::EtcdError;
use stentor_watch::{Next, ReadDone, WatchStream};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

use super::Inner;
use super::packer::Packer;
use super::requests::Requests;
use crate::environment::Stopping;
use crate::failpoints;

/// How long a stream may still send what is due when the server stops.
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// A call in progress.
pub(super) struct Call {
    shared: Arc<Inner>,
    stream: WatchStream,
    requests: Requests,
    packer: Packer,
    /// A read of history under way.
    reading: Option<BoxFuture<'static, Result<ReadDone, Stopping>>>,
    /// When progress is noted next, if somebody wants that.
    tick: Option<Pin<Box<Sleep>>>,
    /// Nothing was due when it was looked last.
    is_idle: bool,
    /// The server stops: until then, what is due may still go out.
    drain_until: Option<Instant>,
}

impl Call {
    pub(super) fn new(shared: Arc<Inner>, stream: WatchStream, requests: Requests) -> Call {
        Call {
            shared,
            stream,
            requests,
            packer: Packer::default(),
            reading: None,
            tick: None,
            is_idle: false,
            drain_until: None,
        }
    }

    /// The next frame, or how the call ends.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        loop {
            let heard_all = self.take_requests(cx)?;
            self.poll_read(cx)?;
            let hears_more = !heard_all && self.stream.accepts_requests();
            if self.is_idle && !hears_more && !self.poll_wakes(cx) && !self.must_drain() {
                return Poll::Pending;
            }
            if self.is_time_up() {
                return Poll::Ready(self.packer.take().ok_or_else(stopped));
            }
            match self.fill() {
                Next::Read(read) if self.drain_until.is_some() => {
                    // Nobody polls any more for what is only pending.
                    self.stream.read_done(read.run());
                    continue;
                }
                Next::Read(read) => {
                    let workers = self.shared.node.environment.workers;
                    self.reading = Some(Box::pin(workers.blocking(move || read.run())));
                    self.poll_read(cx)?;
                    if self.reading.is_none() {
                        continue;
                    }
                    self.is_idle = true;
                }
                Next::Broken => return Poll::Ready(self.packer.take().ok_or_else(broken)),
                Next::Idle if self.drain_until.is_some() && self.reading.is_none() => {
                    return Poll::Ready(self.packer.take().ok_or_else(stopped));
                }
                Next::Full => self.is_idle = false,
                Next::Idle => self.is_idle = true,
            }
            if let Some(frame) = self.packer.take() {
                return Poll::Ready(Ok(frame));
            }
        }
    }

    fn fill(&mut self) -> Next {
        if self.packer.is_full() { Next::Full } else { self.stream.fill(&mut self.packer) }
    }

    /// The server stops, which the stream has not been told yet.
    fn must_drain(&self) -> bool {
        self.drain_until.is_none() && self.shared.stop.is_cancelled()
    }

    /// Whether the server stops and has given the stream its time. A response that was begun is ended, as
    /// long as the client takes it.
    fn is_time_up(&mut self) -> bool {
        if self.must_drain() {
            self.stream.stop();
            self.drain_until = Some(Instant::now() + DRAIN_TIME);
        }
        self.drain_until.is_some_and(|until| Instant::now() >= until && self.stream.is_between_responses())
    }

    /// Takes requests that have come in, as many as the stream accepts. Whether that was all.
    fn take_requests(&mut self, cx: &mut Context<'_>) -> Result<bool, Status> {
        if self.drain_until.is_some() {
            return Ok(true);
        }
        while self.stream.accepts_requests() {
            match self.requests.poll_next(cx) {
                Poll::Ready(Some(Ok(request))) => {
                    self.is_idle = false;
                    // Who may watch what is not restricted yet.
                    self.stream.request(request, |_| Ok(()));
                }
                Poll::Ready(Some(Err(status))) => return Err(status),
                Poll::Ready(None) | Poll::Pending => return Ok(true),
            }
        }
        Ok(false)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        if let Some(reading) = &mut self.reading
            && let Poll::Ready(done) = reading.as_mut().poll(cx)
        {
            self.reading = None;
            self.is_idle = false;
            self.stream.read_done(done.map_err(|_| stopped())?);
        }
        Ok(())
    }

    /// Whether something has come up meanwhile; if not, whoever polls is woken when it does. (Requests and
    /// a read have been polled before; at the stop, the connection polls by itself.)
    fn poll_wakes(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_tick(cx) | self.stream.poll_changed(cx).is_ready()
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.stream.wants_ticks() {
            self.tick = None;
            return false;
        }
        let shared = &self.shared;
        let tick = self.tick.get_or_insert_with(|| Box::pin(sleep(shared.tick_period())));
        if tick.as_mut().poll(cx).is_pending() {
            return false;
        }
        tick.as_mut().reset(Instant::now() + shared.tick_period());
        self.stream.tick();
        // The timer is to wake for the next one.
        let _ = tick.as_mut().poll(cx);
        true
    }
}

fn stopped() -> Status {
    EtcdError::Stopped.into()
}

fn broken() -> Status {
    Status::unavailable("stentor: the rest of a response was compacted before it was taken")
}

/// The body of the response.
pub(super) struct ResponseStream(Option<Box<Call>>);

impl ResponseStream {
    pub(super) fn of(call: Call) -> ResponseStream {
        ResponseStream(Some(Box::new(call)))
    }
}

impl http_body::Body for ResponseStream {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        let Some(call) = &mut this.0 else { return Poll::Ready(None) };
        match call.poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(frame)) => {
                failpoints::BEFORE_WATCH_RESPONSE.hit();
                Poll::Ready(Some(Ok(Frame::data(frame))))
            }
            Poll::Ready(Err(status)) => {
                this.0 = None;
                let mut trailers = HeaderMap::new();
                if status.add_header(&mut trailers).is_err() {
                    trailers.insert("grpc-status", HeaderValue::from_static("13"));
                }
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }
}
