//! A member in this process and on this thread, and clients that reach it over pipes: memory engine, tokio's
//! clock (paused by the tests), counted-up randomness. The pipes can be cut, and answers on them lost.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use stentor_client::{Client, ClientBuilder, Endpoint, ErrorKind, Result};
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_server::config::{self, Command, Config};
use stentor_server::environment::{Environment, Workers};
use stentor_server::member::Member;
use stentor_server::metrics::Metrics;
use stentor_server::net::{Listener, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// For what is decided by nothing but timers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that a connection holds on their way.
const PIPE_BYTES: usize = 64 << 10;

/// A listener whose connections are pipes.
struct Pipes {
    accepted: mpsc::UnboundedReceiver<DuplexStream>,
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

/// A member that is served.
pub(crate) struct Rig {
    pub(crate) member: Member,
    // Stops when it is dropped.
    _server: Server,
    connect: mpsc::UnboundedSender<DuplexStream>,
    /// The way of clients that name no other.
    pub(crate) wire: Wire,
}

/// The way of some clients to the member. Clones are the same way.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Shared>);

struct Shared {
    connect: mpsc::UnboundedSender<DuplexStream>,
    /// What the member sends is lost.
    deaf: AtomicBool,
    /// What the clients send is lost.
    mute: AtomicBool,
    /// No connection can be made.
    down: AtomicBool,
    cuts: watch::Sender<u64>,
    dials: AtomicU64,
}

impl Rig {
    pub(crate) async fn start() -> Rig {
        Rig::with_flags(&[]).await
    }

    /// With further flags of the command line.
    pub(crate) async fn with_flags(flags: &[&str]) -> Rig {
        let config = config(flags);
        let metrics = Metrics::new(config.metrics);
        let stop = CancellationToken::new();
        let engine = Arc::new(MemoryEngine::open(&Disk::new()).unwrap());
        let member = Member::start(engine, &config, environment(), metrics.clone(), &stop).unwrap();
        let server = Server::new(&config, metrics, stop);
        let (connect, accepted) = mpsc::unbounded_channel();
        server.serve(Pipes { accepted }, member.app());
        member.set_serving(true).await;
        Rig { member, _server: server, wire: Wire::new(connect.clone()), connect }
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    /// A client with one endpoint.
    pub(crate) fn builder(&self) -> ClientBuilder {
        self.wire.builder()
    }

    /// Another way to the member.
    pub(crate) fn other_wire(&self) -> Wire {
        Wire::new(self.connect.clone())
    }

    /// The newest revision, by no call.
    pub(crate) fn revision(&self) -> i64 {
        self.member.node.store.view().revision().get()
    }
}

impl Wire {
    fn new(connect: mpsc::UnboundedSender<DuplexStream>) -> Wire {
        let [deaf, mute, down] = [false; 3].map(AtomicBool::new);
        Wire(Arc::new(Shared { connect, deaf, mute, down, cuts: watch::Sender::new(0), dials: AtomicU64::new(0) }))
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        over([self.clone()])
    }

    /// Whether what the member sends is lost.
    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.0.deaf.store(deaf, Ordering::Relaxed);
    }

    /// Whether what the clients send is lost.
    pub(crate) fn set_mute(&self, mute: bool) {
        self.0.mute.store(mute, Ordering::Relaxed);
    }

    /// Whether connecting fails.
    pub(crate) fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::Relaxed);
    }

    /// Breaks every connection.
    pub(crate) fn cut(&self) {
        self.0.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Connections made so far.
    pub(crate) fn dials(&self) -> u64 {
        self.0.dials.load(Ordering::Relaxed)
    }

    pub(crate) fn dial(&self) -> io::Result<DuplexStream> {
        if self.0.down.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.0.dials.fetch_add(1, Ordering::Relaxed);
        let (client, near) = tokio::io::duplex(PIPE_BYTES);
        let (far, server) = tokio::io::duplex(PIPE_BYTES);
        // A listener that is gone drops the pipe, and the client meets its end.
        let _ = self.0.connect.send(server);
        tokio::spawn(carry(near, far, self.clone()));
        Ok(client)
    }
}

/// A client for whom each of the ways is a member.
pub(crate) fn over<const N: usize>(wires: [Wire; N]) -> ClientBuilder {
    let endpoints = (0..N).map(|n| format!("pipe:{}", n + 1));
    Client::builder(endpoints).seed(1).connector(move |endpoint: Endpoint| {
        let n: usize = endpoint.authority().trim_start_matches("pipe:").parse().unwrap();
        let dialled = wires[n - 1].dial();
        async { dialled }
    })
}

/// Carries bytes both ways until one side ends, or the wire is cut.
async fn carry(near: DuplexStream, far: DuplexStream, wire: Wire) {
    let mut cuts = wire.0.cuts.subscribe();
    let (from_client, to_client) = tokio::io::split(near);
    let (from_server, to_server) = tokio::io::split(far);
    tokio::select! {
        _ = copy(from_client, to_server, &wire.0.mute) => {}
        _ = copy(from_server, to_client, &wire.0.deaf) => {}
        _ = cuts.changed() => {}
    }
}

async fn copy(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, lost: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; PIPE_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        if !lost.load(Ordering::Relaxed) {
            to.write_all(&buffer[..read]).await?;
        }
    }
}

fn config(flags: &[&str]) -> Config {
    match config::load(flags.iter().map(Into::into), []) {
        Ok(Command::Run { config, .. }) => *config,
        other => panic!("{flags:?} are no flags to run with: {other:?}"),
    }
}

/// Nothing of it differs from run to run.
fn environment() -> Environment {
    let begun = tokio::time::Instant::now();
    let drawn = AtomicU64::new(0);
    Environment {
        wall_unix_ms: Arc::new(move || 1_700_000_000_000 + begun.elapsed().as_millis() as u64),
        // An odd factor spreads the count over all bits.
        random: Arc::new(move || (drawn.fetch_add(1, Ordering::Relaxed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        workers: Workers::Tasks,
        barrier: None,
    }
}

/// It failed like this.
#[track_caller]
pub(crate) fn failed<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    let error = result.expect_err("it should have failed");
    assert_eq!(*error.kind(), kind, "{error}");
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
