//! The bodies that pass between a connection and the services: counted, and bounded in time.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Code;

use super::connection::OpenStream;
use super::frames::MessageScanner;
use super::status;
use crate::metrics::{Call, MethodMetrics};

/// Time for the whole body of a request that is one message. The largest allowed takes 20 s at 100 kB/s.
const REQUEST_BODY_TIME: Duration = Duration::from_secs(60);

/// What is noted of a gRPC request while it comes in.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) method: Arc<MethodMetrics>,
    pub(crate) bytes: Counter,
    pub(crate) client_left: Arc<AtomicBool>,
}

/// What the client sends.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Incoming,
    grpc: Option<Received>,
    messages: MessageScanner,
    /// Whether it must end in time, and from the first wait on, when.
    bounded: bool,
    due: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    /// `grpc` is for gRPC's requests.
    pub(crate) fn new(body: Incoming, grpc: Option<Received>) -> Self {
        let bounded = grpc.as_ref().is_none_or(|received| !received.method.kind.client_streams());
        RequestBody { body, grpc, messages: MessageScanner::default(), bounded, due: None }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            if this.bounded {
                let due = this.due.get_or_insert_with(|| Box::pin(tokio::time::sleep(REQUEST_BODY_TIME)));
                ready!(due.as_mut().poll(cx));
                return Poll::Ready(Some(Err("the request's body did not come in time".into())));
            }
            return Poll::Pending;
        };
        match (&this.grpc, &frame) {
            (Some(received), Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    received.bytes.inc_by(data.len() as u64);
                    received.method.received.inc_by(this.messages.count(data));
                }
            }
            (Some(received), Some(Err(_))) => received.client_left.store(true, Relaxed),
            _ => {}
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What ends an answer that its service would go on with.
#[derive(Default)]
pub(crate) struct Ends {
    /// The client's deadline.
    pub(crate) deadline: Option<Pin<Box<Sleep>>>,
    /// The server's stop, for answers that last as long as the client stays.
    pub(crate) stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The member has lost its leader, for clients that ask for one.
    pub(crate) lost: Option<BoxFuture<'static, ()>>,
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").finish_non_exhaustive()
    }
}

impl Ends {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Code, &'static str)> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(status::DEADLINE);
        }
        if let Some(stop) = &mut self.stop
            && stop.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(status::STOPPED);
        }
        if let Some(lost) = &mut self.lost
            && lost.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(status::NO_LEADER);
        }
        Poll::Pending
    }
}

/// What the service answers.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    /// `None` once it is cut off.
    body: Option<axum::body::Body>,
    grpc: Option<(Call, Counter)>,
    messages: MessageScanner,
    ends: Ends,
    _open: OpenStream,
}

impl ResponseBody {
    /// `grpc` is the call and the counter of bytes, for gRPC's answers.
    pub(crate) fn new(body: axum::body::Body, grpc: Option<(Call, Counter)>, ends: Ends, open: OpenStream) -> Self {
        ResponseBody { body: Some(body), grpc, messages: MessageScanner::default(), ends, _open: open }
    }

    fn note(&mut self, frame: &mut Frame<Bytes>) {
        let Some((call, bytes)) = &mut self.grpc else { return };
        if let Some(data) = frame.data_ref() {
            bytes.inc_by(data.len() as u64);
            call.method().sent.inc_by(self.messages.count(data));
        } else if let Some(trailers) = frame.trailers_mut() {
            call.set_code(status::settle(trailers).unwrap_or(Code::Unknown));
        }
    }

    fn cut(&mut self, (code, message): (Code, &'static str)) -> Frame<Bytes> {
        self.body = None;
        if let Some((call, _)) = &mut self.grpc {
            call.set_code(code);
        }
        let mut trailers = HeaderMap::with_capacity(2);
        status::write(&mut trailers, code, message);
        Frame::trailers(trailers)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            let end = ready!(this.ends.poll(cx));
            return Poll::Ready(Some(Ok(this.cut(end))));
        };
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                this.note(&mut frame);
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                if let Some((call, _)) = &mut this.grpc {
                    call.set_code(Code::Internal);
                }
                Some(Err(error))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
