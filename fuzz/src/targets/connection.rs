//! What a client sends on a connection: HTTP/1.1, HTTP/2 and gRPC, down to the messages of requests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_proto::etcdserverpb::{
    LeaseGrantRequest, RangeRequest, WatchCancelRequest, WatchCreateRequest, WatchRequest, watch_request,
};
use stentor_server::config::{self, Command};
use stentor_server::environment::{Environment, Workers};
use stentor_server::member::Member;
use stentor_server::metrics::Metrics;
use stentor_server::net::{Listener, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::{http2, store};
use crate::{Outcome, Target};

/// Input: the bytes of a connection from its client, which are sent at once; then it only listens.
pub const CONNECTION: Target = Target { name: "connection", decode, samples, refuses: true, cost: 20 };

/// The server has no more to say when it is silent for so long. The clock is tokio's own: it goes on when
/// nothing is left to do.
const SILENCE: Duration = Duration::from_secs(1);
/// Bytes on their way in each direction.
const PIPE_BYTES: usize = 1 << 20;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn decode(bytes: &[u8]) -> Outcome {
    let panics = crate::panics();
    let answer = match tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build() {
        Ok(runtime) => runtime.block_on(exchange(bytes)),
        Err(e) => unreachable!("no runtime: {e}"),
    };
    // A panic of a task does not end the process: it is counted.
    assert_eq!(crate::panics(), panics, "the server panics");
    match answer {
        Ok(answer) if is_answered(&answer) => Outcome::Accepted,
        Ok(_) => Outcome::Refused,
        Err(e) => unreachable!("the server does not start: {e}"),
    }
}

/// Sends the bytes to a new server, and returns what it says.
async fn exchange(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| io::Error::other(e.to_string());
    let Ok(Command::Run { config, .. }) = config::load([], []) else { return Err(io::Error::other("no defaults")) };
    let disk = Disk::new();
    store::open(&disk).and_then(|store| store::fill(&store)).map_err(|e| failed(&e))?;
    let engine = Arc::new(MemoryEngine::open(&disk).map_err(|e| failed(&e))?);
    let (metrics, stop) = (Metrics::new(config.metrics), CancellationToken::new());
    let environment = Environment {
        wall_unix_ms: Arc::new(|| 1_790_000_000_000),
        random: Arc::new(|| 0x9e37_79b9_7f4a_7c15),
        workers: Workers::Tasks,
        dialer: stentor_server::peers::Dialer::system(),
    };
    let member = Member::start(engine, &config, environment, metrics.clone(), &stop).map_err(|e| failed(&e))?;
    member.set_serving(true).await;
    let server = Server::new(&config, metrics, stop.clone());
    let (mut client, pipe) = tokio::io::duplex(PIPE_BYTES);
    server.serve(OnePipe(Some(pipe)), member.app());
    let mut answer = Vec::new();
    // It hangs up on what it cannot read.
    let _ = client.write_all(bytes).await;
    while let Ok(Ok(1..)) = tokio::time::timeout(SILENCE, client.read_buf(&mut answer)).await {}
    stop.cancel();
    Ok(answer)
}

/// A listener with one connection, which is a pipe.
struct OnePipe(Option<DuplexStream>);

impl Listener for OnePipe {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.take() {
            Some(pipe) => Ok((pipe, self.local_addr())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

/// Whether a request was understood: an answer of HTTP/1.1 that is no error, or headers in HTTP/2.
fn is_answered(mut answer: &[u8]) -> bool {
    if answer.starts_with(b"HTTP/1.1") {
        return answer.starts_with(b"HTTP/1.1 2");
    }
    while let Some((&[high, mid, low, kind, ..], rest)) = answer.split_first_chunk::<{ http2::FRAME_HEAD }>() {
        if kind == http2::HEADERS {
            return true;
        }
        let len = usize::from(high) << 16 | usize::from(mid) << 8 | usize::from(low);
        answer = rest.get(len..).unwrap_or_default();
    }
    false
}

fn samples() -> Vec<Vec<u8>> {
    let range = RangeRequest { key: "a".into(), range_end: "\0".into(), limit: 2, ..RangeRequest::default() };
    let watch = |union| WatchRequest { request_union: Some(union) };
    let create = WatchCreateRequest { key: "a".into(), start_revision: 4, prev_kv: true, ..Default::default() };
    let watches = [
        watch(watch_request::RequestUnion::CreateRequest(create)),
        watch(watch_request::RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 })),
    ];
    vec![
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec(),
        call("/etcdserverpb.KV/Range", &[range.encode_to_vec()]),
        call("/etcdserverpb.KV/Put", &[store::put("k", "v", 77).encode_to_vec()]),
        call("/etcdserverpb.Lease/LeaseGrant", &[LeaseGrantRequest { id: 3, ttl: 10 }.encode_to_vec()]),
        call("/etcdserverpb.Watch/Watch", &watches.map(|request| request.encode_to_vec())),
        call("/etcdserverpb.Auth/AuthStatus", &[Vec::new()]),
    ]
}

/// A connection of HTTP/2 with one call of gRPC.
fn call(path: &str, messages: &[Vec<u8>]) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    let body: Vec<u8> = messages.iter().flat_map(|message| http2::message(message)).collect();
    [PREFACE, &http2::settings(), &http2::headers(1, &fields, false), &http2::data(1, &body, true)].concat()
}
