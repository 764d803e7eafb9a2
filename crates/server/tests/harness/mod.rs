//! A member in this process and on this thread: memory engine, pipes for a network, tokio's clock (paused
//! by most tests), counted-up randomness, work as tasks.

#[cfg(all(feature = "binary", feature = "rocksdb"))]
pub(crate) mod ports;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use stentor_mvcc::engine::memory::Disk;
use stentor_mvcc::engine::{Batch, Durability, Engine, Family};
use stentor_mvcc::{ChangeId, Record};
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::lease_client::LeaseClient;
use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use stentor_proto::etcdserverpb::{LeaseGrantRequest, PutRequest, RangeRequest, RangeResponse};
use stentor_proto::mvccpb::KeyValue;
use stentor_proto::{EtcdError, Revision};
use stentor_raft::log;
use stentor_server::config::{self, Command, Config};
use stentor_server::environment::{Environment, Workers};
use stentor_server::member::Member;
use stentor_server::metrics::Metrics;
use stentor_server::net::{Listener, Server};
use stentor_server::storage::Disks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

/// For what takes milliseconds by a clock that runs, or is decided by nothing but timers if it is paused.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that a connection holds on their way.
const PIPE_BYTES: usize = 64 << 10;

/// Messages of tests may be as large as the server sends them.
const NO_LIMIT: usize = usize::MAX;

/// A listener whose connections are pipes.
pub(crate) struct Pipes {
    pub(crate) accepted: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Listener for Pipes {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.accepted.recv().await {
            Some(pipe) => Ok((pipe, self.local_addr())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

/// How a member is started.
pub(crate) struct Setup {
    flags: Vec<String>,
    disks: Disks,
    workers: Workers,
    /// What somebody has set the wall clock to, beside what it was, in milliseconds.
    wall_ahead_ms: Arc<AtomicU64>,
}

impl Setup {
    pub(crate) fn new(flags: &[&str]) -> Setup {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Setup { flags, disks: Disks::new(), workers: Workers::Tasks, wall_ahead_ms: Arc::default() }
    }

    /// On what these disks hold.
    pub(crate) fn on_disks(disks: Disks, flags: &[&str]) -> Setup {
        Setup { disks, ..Setup::new(flags) }
    }

    /// Applies writes on threads, as the binary does, for tests that stop one of them.
    pub(crate) fn on_threads(self) -> Setup {
        Setup { workers: Workers::Threads, ..self }
    }

    /// The wall clock is ahead by so many milliseconds, which may change.
    pub(crate) fn ahead_by(self, wall_ahead_ms: Arc<AtomicU64>) -> Setup {
        Setup { wall_ahead_ms, ..self }
    }

    fn environment(&self) -> Environment {
        let environment = environment(self.workers);
        let (wall, ahead) = (environment.wall_unix_ms, self.wall_ahead_ms.clone());
        Environment { wall_unix_ms: Arc::new(move || wall() + ahead.load(Ordering::Relaxed)), ..environment }
    }

    fn config(&self) -> Config {
        match config::load(self.flags.iter().map(Into::into), []) {
            Ok(Command::Run { config, .. }) => *config,
            other => panic!("{:?} are no flags to run with: {other:?}", self.flags),
        }
    }

    pub(crate) async fn start(self) -> Rig {
        let config = self.config();
        let metrics = Metrics::new(config.metrics);
        let stop = CancellationToken::new();
        let storage = self.disks.storage().unwrap();
        let member = Member::start(storage, &config, self.environment(), metrics.clone(), &stop).unwrap();
        let server = Server::new(&config, metrics.clone(), stop);
        let (connect, accepted) = mpsc::unbounded_channel();
        server.serve(Pipes { accepted }, member.app());
        member.set_serving(true).await;
        Rig { setup: self, metrics, member, server, connect }
    }
}

/// Nothing of it differs from run to run.
pub(crate) fn environment(workers: Workers) -> Environment {
    let begun = tokio::time::Instant::now();
    let drawn = AtomicU64::new(0);
    Environment {
        wall_unix_ms: Arc::new(move || 1_700_000_000_000 + begun.elapsed().as_millis() as u64),
        // An odd factor spreads the count over all bits.
        random: Arc::new(move || (drawn.fetch_add(1, Ordering::Relaxed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        workers,
        dialer: stentor_server::peers::Dialer::system(),
    }
}

/// A member that is served.
pub(crate) struct Rig {
    setup: Setup,
    pub(crate) metrics: Metrics,
    pub(crate) member: Member,
    server: Server,
    connect: mpsc::UnboundedSender<DuplexStream>,
}

impl Rig {
    /// With further flags of the command line.
    pub(crate) async fn start(flags: &[&str]) -> Rig {
        Setup::new(flags).start().await
    }

    /// The disk of the store.
    pub(crate) fn disk(&self) -> Disk {
        self.setup.disks.engine()
    }

    pub(crate) fn disks(&self) -> &Disks {
        &self.setup.disks
    }

    /// The disk of the log.
    pub(crate) fn log(&self) -> &log::memory::Disk {
        &self.setup.disks.log
    }

    /// The bytes of a connection of its own.
    pub(crate) fn pipe(&self) -> DuplexStream {
        dial(&self.connect)
    }

    /// A connection of its own, made when it is needed.
    pub(crate) fn channel(&self) -> Channel {
        self.channel_by(Endpoint::from_static("http://pipe"))
    }

    pub(crate) fn channel_by(&self, endpoint: Endpoint) -> Channel {
        channel_by(endpoint, &self.connect)
    }

    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel()).max_decoding_message_size(NO_LIMIT)
    }

    pub(crate) fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel())
    }

    pub(crate) fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel())
    }

    /// Puts a pair; its revision.
    pub(crate) async fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> i64 {
        revision(self.kv().put(put(key, value)).await.unwrap().into_inner().header)
    }

    /// All keys under a prefix, by the protocol.
    pub(crate) async fn list(&self, prefix: &str) -> RangeResponse {
        self.kv().range(prefixed(prefix)).await.unwrap().into_inner()
    }

    pub(crate) async fn grant(&self, id: i64, ttl: i64) -> i64 {
        self.lease().lease_grant(LeaseGrantRequest { id, ttl }).await.unwrap().into_inner().id
    }

    /// The newest revision, by no call.
    pub(crate) fn revision(&self) -> i64 {
        self.member.node.store.view().revision().get()
    }

    /// The answer to an HTTP request, headers and all.
    pub(crate) async fn http(&self, path: &str) -> String {
        let mut pipe = self.pipe();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        pipe.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        pipe.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Stops in order.
    pub(crate) async fn stop(self) {
        self.server.shutdown(PATIENCE).await;
        self.member.ended().await;
    }

    /// Stops in order and starts again on the same disk.
    pub(crate) async fn restart(self) -> Rig {
        let disk = self.disk();
        let Rig { setup, member, server, .. } = self;
        server.shutdown(PATIENCE).await;
        member.ended().await;
        // Whatever still holds the engine is as dead as a process that has ended; its writes are there.
        disk.write_back();
        disk.crash();
        setup.start().await
    }

    /// The host loses power, what was not synced is gone, and the member starts again.
    pub(crate) async fn crash(self) -> Rig {
        let mut drawn = 0u64;
        let mut random = move || {
            drawn += 1;
            drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        let Rig { setup, member, server, .. } = self;
        setup.disks.crash(&mut random);
        setup.disks.log.clear_faults();
        drop(server);
        member.ended().await;
        setup.start().await
    }
}

/// A connection to whoever accepts there, made when it is needed.
pub(crate) fn channel(connect: &mpsc::UnboundedSender<DuplexStream>) -> Channel {
    channel_by(Endpoint::from_static("http://pipe"), connect)
}

fn channel_by(endpoint: Endpoint, connect: &mpsc::UnboundedSender<DuplexStream>) -> Channel {
    let connect = connect.clone();
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let pipe = TokioIo::new(dial(&connect));
        async { Ok::<_, io::Error>(pipe) }
    }))
}

fn dial(connect: &mpsc::UnboundedSender<DuplexStream>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(PIPE_BYTES);
    // A listener that is gone drops the pipe, and the client meets its end.
    let _ = connect.send(server);
    client
}

pub(crate) fn put(key: &str, value: impl Into<Vec<u8>>) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.into().into(), ..PutRequest::default() }
}

pub(crate) fn get(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() }
}

/// All keys that begin so.
pub(crate) fn prefixed(prefix: &str) -> RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    RangeRequest { range_end: end.into(), ..get(prefix) }
}

pub(crate) fn revision(header: Option<stentor_proto::etcdserverpb::ResponseHeader>) -> i64 {
    header.expect("an answer has a header").revision
}

/// The value that was put at a revision becomes another one; false if it is not there.
pub(crate) fn corrupt(engine: &dyn Engine, revision: i64) -> bool {
    let id = ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    let Some(stored) = engine.get(Family::History, &id.to_bytes()).unwrap() else { return false };
    let record = Record::decode(id, stored).unwrap();
    let pair = KeyValue { value: "corrupt".into(), ..record.pair().unwrap() };
    let mut batch = Batch::default();
    let other = Record::put(id, record.time_unix_ms, record.previous, &pair);
    batch.put(Family::History, id.to_bytes().to_vec(), other.encode());
    engine.write(batch, Durability::Synced).unwrap();
    true
}

/// The call was refused with this error: code and text.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<Response<T>, Status>, error: EtcdError) {
    let status = result.expect_err(error.text());
    assert_eq!((status.code() as i32, status.message()), (error.code() as i32, error.text()));
}

/// Waits for a condition, which must come about within [`PATIENCE`].
#[track_caller]
pub(crate) fn until(mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let due = tokio::time::Instant::now() + PATIENCE;
        while !condition() {
            assert!(tokio::time::Instant::now() < due, "waited in vain at {caller}");
            // A pause, since a paused clock moves on only when nothing is left to do.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
