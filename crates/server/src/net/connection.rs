//! One connection, from accept to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::io::ServerIo;
use super::pings::PingRule;
use super::service::ConnectionService;
use crate::config::Keepalive;

/// Time a client has for its preface and settings, or its first request's first bytes.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Time an HTTP/1.1 client has for a request's headers, and how long it may be idle.
const HTTP1_HEADER_TIME: Duration = Duration::from_secs(30);
/// Bytes of an HTTP/1.1 request's line and headers, and of what is buffered.
const HTTP1_BUFFER: usize = 64 << 10;
const HTTP1_HEADERS: usize = 64;
/// Unread bytes one stream may have on their way: a whole request of the default size nearly fits.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same for a connection. h2 also derives from it how many small unread DATA frames it bears before it
/// ends the connection (ENHANCE_YOUR_CALM): 16 MiB bear over 30,000, and 10,000 puts in flight are normal.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Bytes of an answer that hyper buffers per stream, beyond which it waits for the client to read. The
/// default, 400 KiB, times many slow readers is memory nobody counts.
const STREAM_SEND_BUFFER: usize = 64 << 10;
/// Bytes of a request's headers, decoded: a token and some metadata take a few hundred.
const HEADER_LIST_SIZE: u32 = 64 << 10;
/// Streams that a client may reset before we have looked at them. The default, 20, ends the connection of
/// a client that opens and drops many watches at once.
const PENDING_RESET_STREAMS: usize = 1024;
/// Streams that we reset for a client's error before the connection ends.
const LOCAL_ERROR_RESET_STREAMS: usize = 1024;

/// What all connections have in common.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_concurrent_streams: u32,
    pub(crate) keepalive: Keepalive,
    pub(crate) handshake_time: Duration,
}

impl Limits {
    pub(crate) fn new(max_concurrent_streams: u32, keepalive: Keepalive) -> Self {
        Limits { max_concurrent_streams, keepalive, handshake_time: HANDSHAKE_TIME }
    }
}

/// What the bytes, the requests and the owner of one connection share.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    established: AtomicBool,
    open: AtomicUsize,
}

impl ConnectionState {
    pub(crate) fn set_established(&self) {
        self.established.store(true, Relaxed);
    }

    pub(crate) fn is_established(&self) -> bool {
        self.established.load(Relaxed)
    }

    /// Requests that are not yet answered to the end.
    pub(crate) fn open_streams(&self) -> usize {
        self.open.load(Relaxed)
    }
}

/// Counts a request as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<ConnectionState>);

impl OpenStream {
    pub(crate) fn new(state: &Arc<ConnectionState>) -> Self {
        state.open.fetch_add(1, Relaxed);
        OpenStream(Arc::clone(state))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// Runs requests' tasks where the server waits for their end.
#[derive(Clone, Debug)]
pub(crate) struct TrackedExecutor(pub(crate) TaskTracker);

impl<F> hyper::rt::Executor<F> for TrackedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

fn builder(limits: &Limits, tasks: TaskTracker) -> auto::Builder<TrackedExecutor> {
    let mut builder = auto::Builder::new(TrackedExecutor(tasks));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP1_HEADER_TIME)
        .max_buf_size(HTTP1_BUFFER)
        .max_headers(HTTP1_HEADERS)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .adaptive_window(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_SEND_BUFFER)
        .max_header_list_size(HEADER_LIST_SIZE)
        .max_pending_accept_reset_streams(PENDING_RESET_STREAMS)
        .max_local_error_reset_streams(LOCAL_ERROR_RESET_STREAMS)
        // The largest number is etcd's way to say "no limit".
        .max_concurrent_streams(Some(limits.max_concurrent_streams).filter(|max| *max != u32::MAX))
        .keep_alive_interval(limits.keepalive.interval)
        .keep_alive_timeout(limits.keepalive.timeout);
    builder
}

/// Serves a connection until the client leaves, breaks the rules, or `kill` says so. `stop` makes it finish
/// what it has and take nothing new.
pub(crate) async fn run<S>(
    stream: S,
    service: ConnectionService,
    limits: Limits,
    tasks: TaskTracker,
    stop: CancellationToken,
    kill: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let state = Arc::clone(service.state());
    let io = TokioIo::new(ServerIo::new(stream, PingRule::new(limits.keepalive.min_time), Arc::clone(&state)));
    let builder = builder(&limits, tasks);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let mut stopping = false;
    let mut handshake = Some(Box::pin(tokio::time::sleep(limits.handshake_time)));
    loop {
        tokio::select! {
            biased;
            () = kill.cancelled() => return,
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = async { if let Some(due) = &mut handshake { due.await } }, if handshake.is_some() => {
                handshake = None;
                if !state.is_established() {
                    tracing::debug!("connection cut: no handshake in time");
                    return;
                }
            }
        }
    }
}
