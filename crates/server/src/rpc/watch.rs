//! The service Watch: one [`WatchStream`] per call, driven by whoever polls the response.
//!
//! The connection polls for a response when it has room to send one, and drops the call when the client
//! is gone; so there is no task, no channel and no queue to own beside it.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use futures::{FutureExt, Stream};
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::watch_server::Watch;
use stentor_proto::etcdserverpb::{WatchRequest, WatchResponse};
use stentor_watch::{Hub, Step, StreamOptions, WatchStream};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::config::Config;
use crate::node::Node;

/// How much larger than a request a response may be before it is split into fragments, in bytes.
const FRAGMENT_OVERHEAD_BYTES: usize = 512 << 10;

/// How long a stream may still send what is due when the server stops.
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// The service Watch.
#[derive(Clone)]
pub struct WatchService {
    node: Arc<Node>,
    hub: Arc<Hub>,
    options: StreamOptions,
    progress_interval: Duration,
    stop: CancellationToken,
}

impl WatchService {
    /// Serves what `hub` tells of, until `stop`.
    pub fn new(node: &Arc<Node>, hub: Arc<Hub>, config: &Config, stop: CancellationToken) -> WatchService {
        let signer = node.clone();
        let options = StreamOptions {
            header: Arc::new(move |revision| signer.header(revision)),
            fragment_bytes: config.max_request_bytes + FRAGMENT_OVERHEAD_BYTES,
            ..StreamOptions::default()
        };
        let progress_interval = config.watch_progress_notify_interval;
        WatchService { node: node.clone(), hub, options, progress_interval, stop }
    }

    /// Ticks of progress notes: with jitter of up to a tenth, so that streams that began together don't
    /// stay together.
    fn ticks(&self) -> Interval {
        let tenth = u64::try_from(self.progress_interval.as_nanos() / 10).unwrap_or(u64::MAX).max(1);
        let jitter = Duration::from_nanos((self.node.environment.random)() % tenth);
        let period = self.progress_interval + jitter;
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// The responses of one call.
    fn responses(self, requests: Streaming<WatchRequest>) -> impl Stream<Item = Result<WatchResponse, Status>> {
        let mut call = Call {
            stream: WatchStream::open(&self.hub, self.options.clone()),
            requests: Some(requests),
            ticks: self.ticks(),
            gauges: Gauges { node: self.node.clone(), hub: self.hub.clone() },
            service: self,
        };
        try_stream! {
            while let Some(response) = call.next().await? {
                yield response;
            }
            let until = Instant::now() + DRAIN_TIME;
            call.stream.stop();
            while let Some(response) = call.next_due().await?.filter(|_| Instant::now() < until) {
                yield response;
            }
            Err(Status::from(EtcdError::Stopped))?;
        }
    }
}

/// One call in progress.
struct Call {
    stream: WatchStream,
    /// `None` once the client has half-closed, which ends nothing else.
    requests: Option<Streaming<WatchRequest>>,
    ticks: Interval,
    /// After the stream, so that it is told of its end.
    gauges: Gauges,
    service: WatchService,
}

/// Tells the metrics how many watchers there are.
struct Gauges {
    node: Arc<Node>,
    hub: Arc<Hub>,
}

impl Gauges {
    fn set(&self) {
        let gauges = self.hub.gauges();
        let mvcc = &self.node.metrics.mvcc;
        mvcc.watch_stream.set(gauges.streams as i64);
        mvcc.watcher.set(gauges.watchers() as i64);
        mvcc.slow_watcher.set((gauges.unsynced + gauges.victims) as i64);
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.set();
    }
}

impl Call {
    /// The next response, or `None` when the server stops.
    async fn next(&mut self) -> Result<Option<WatchResponse>, Status> {
        loop {
            if self.service.stop.is_cancelled() {
                return Ok(None);
            }
            self.take_waiting_request()?;
            if let Some(response) = self.next_due().await? {
                return Ok(Some(response));
            }
            let Call { stream, requests, ticks, service, .. } = self;
            tokio::select! {
                request = next_request(requests) => self.take_request(request?),
                () = stream.changed() => {}
                _ = ticks.tick() => stream.tick(),
                () = service.stop.cancelled() => return Ok(None),
            }
        }
    }

    /// The next response that is due already.
    async fn next_due(&mut self) -> Result<Option<WatchResponse>, Status> {
        loop {
            match self.stream.step() {
                Step::Send(response) => {
                    self.service.node.metrics.mvcc.events.inc_by(response.events.len() as u64);
                    return Ok(Some(response));
                }
                Step::Read(read) => {
                    let workers = self.service.node.environment.workers;
                    let done = workers.blocking(move || read.run()).await;
                    self.stream.read_done(done.map_err(|_| Status::from(EtcdError::Stopped))?);
                }
                Step::Idle => {
                    self.gauges.set();
                    return Ok(None);
                }
            }
        }
    }

    /// Takes a request that has already come in, so that a busy stream still hears its client.
    fn take_waiting_request(&mut self) -> Result<(), Status> {
        if self.stream.accepts_requests()
            && let Some(request) = next_request(&mut self.requests).now_or_never()
        {
            self.take_request(request?);
        }
        Ok(())
    }

    fn take_request(&mut self, request: Option<WatchRequest>) {
        match request {
            // Who may watch what is not restricted yet.
            Some(request) => self.stream.request(request, |_| Ok(())),
            None => self.requests = None,
        }
    }
}

/// The next request; `None` when the client half-closes, once.
async fn next_request(requests: &mut Option<Streaming<WatchRequest>>) -> Result<Option<WatchRequest>, Status> {
    match requests {
        Some(requests) => requests.message().await,
        None => pending().await,
    }
}

/// Clients say their version; it must at least be text.
fn check_client_version(metadata: &MetadataMap) -> Result<(), Status> {
    match metadata.get("client-api-version") {
        Some(version) if std::str::from_utf8(version.as_encoded_bytes()).is_err() => {
            Err(EtcdError::InvalidClientAPIVersion.into())
        }
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        check_client_version(request.metadata())?;
        if self.stop.is_cancelled() {
            return Err(EtcdError::Stopped.into());
        }
        Ok(Response::new(Box::pin(self.clone().responses(request.into_inner()))))
    }
}
