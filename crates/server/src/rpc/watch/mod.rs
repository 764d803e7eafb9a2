//! The service Watch: one [`WatchStream`] per call, driven by whoever polls the response.
//!
//! The connection polls for bytes when it has room to send some, and drops the call when the client is
//! gone; so there is no task, no channel and no queue to own beside it. It is served without the generated
//! stub: events are encoded once, when they are written to the store, and only copied here.

mod call;
mod packer;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Request, Response};
use stentor_proto::EtcdError;
use stentor_watch::{Hub, StreamOptions, WatchStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::call::{Call, ResponseStream};
use self::requests::Requests;
use crate::config::Config;
use crate::node::Node;
use crate::watchers::StreamLabel;

/// How much larger than a request a response may be before it is split into fragments, in bytes.
const FRAGMENT_OVERHEAD_BYTES: usize = 512 << 10;

/// The service Watch.
#[derive(Clone)]
pub struct WatchService {
    inner: Arc<Inner>,
}

/// What all calls share.
struct Inner {
    node: Arc<Node>,
    hub: Arc<Hub>,
    options: StreamOptions,
    progress_interval: Duration,
    /// Bytes of a request, at most.
    message_limit: usize,
    stop: CancellationToken,
}

impl WatchService {
    /// Serves what `hub` tells of, until `stop`: the one that the connections are stopped by, since it is
    /// they who poll a call then.
    pub fn new(node: &Arc<Node>, hub: Arc<Hub>, config: &Config, stop: CancellationToken) -> WatchService {
        let signer = node.clone();
        let options = StreamOptions {
            header: Arc::new(move |revision| signer.header(revision)),
            fragment_bytes: config.max_request_bytes + FRAGMENT_OVERHEAD_BYTES,
            ..StreamOptions::default()
        };
        let inner = Inner {
            node: node.clone(),
            hub,
            options,
            progress_interval: config.watch_progress_notify_interval,
            message_limit: config.max_request_bytes + crate::services::MESSAGE_OVERHEAD_BYTES,
            stop,
        };
        WatchService { inner: Arc::new(inner) }
    }

    /// Answers a call. Its headers go out at once: clients wait for them.
    pub(crate) fn serve(&self, request: Request<Body>) -> Response<Body> {
        match self.open(request) {
            Ok(call) => {
                let mut response = Response::new(Body::new(ResponseStream::of(call)));
                response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                response
            }
            Err(status) => status.into_http(),
        }
    }

    fn open(&self, request: Request<Body>) -> Result<Call, Status> {
        if self.inner.stop.is_cancelled() {
            return Err(EtcdError::Stopped.into());
        }
        let now = (self.inner.node.environment.wall_unix_ms)();
        let label = StreamLabel::of(&request, now).text();
        let options = StreamOptions { label: Some(label), ..self.inner.options.clone() };
        let stream = WatchStream::open(&self.inner.hub, options);
        let requests = Requests::new(request.into_body(), self.inner.message_limit);
        Ok(Call::new(self.inner.clone(), stream, requests))
    }
}

impl Inner {
    /// The time between progress notes of a stream: with jitter of up to a tenth, so that streams that
    /// began together don't stay together.
    fn tick_period(&self) -> Duration {
        let tenth = u64::try_from(self.progress_interval.as_nanos() / 10).unwrap_or(u64::MAX).max(1);
        self.progress_interval + Duration::from_nanos((self.node.environment.random)() % tenth)
    }
}
