//! Members in this process: memory engine, pipes for a network that can be cut, tokio's clock.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use stentor_client::{Client, Revision};
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, ResponseHeader};
use stentor_server::config::{self, Command};
use stentor_server::environment::{Environment, Workers};
use stentor_server::member::Member as Core;
use stentor_server::metrics::Metrics;
use stentor_server::net::{App, Listener, Server};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};

/// For what takes milliseconds by a clock that runs, or is decided by nothing but timers if it is paused.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that a connection holds on their way.
const PIPE_BYTES: usize = 64 << 10;

/// A listener whose connections are pipes.
struct Pipes(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(pipe) => Ok((pipe, self.local_addr())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

/// A server that can be connected to.
pub(crate) struct Member {
    _core: Option<Core>,
    _server: Server,
    connect: mpsc::UnboundedSender<DuplexStream>,
}

impl Member {
    /// Members of different numbers are of different clusters.
    pub(crate) async fn start(number: u64) -> Member {
        let Ok(Command::Run { config, .. }) = config::load([], []) else { panic!("there are no flags") };
        let metrics = Metrics::new(config.metrics);
        let stop = CancellationToken::new();
        let engine = Arc::new(MemoryEngine::open(&Disk::new()).unwrap());
        let core = Core::start(engine, &config, environment(number), metrics.clone(), &stop).unwrap();
        let server = Server::new(&config, metrics, stop);
        let connect = serve(&server, core.app());
        core.set_serving(true).await;
        Member { _core: Some(core), _server: server, connect }
    }

    /// One that answers every call like this, and counts them.
    pub(crate) fn that_refuses(code: &'static str, message: &'static str) -> (Member, Arc<AtomicU64>) {
        let Ok(Command::Run { config, .. }) = config::load([], []) else { panic!("there are no flags") };
        let server = Server::new(&config, Metrics::new(config.metrics), CancellationToken::new());
        let headers = [("content-type", "application/grpc"), ("grpc-status", code), ("grpc-message", message)];
        let calls = Arc::new(AtomicU64::new(0));
        let counted = calls.clone();
        let answer = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(headers)
        };
        let router = axum::Router::new().route("/{*call}", axum::routing::any(answer));
        let connect = serve(&server, App::grpc_only(Routes::from(router)));
        (Member { _core: None, _server: server, connect }, calls)
    }

    /// By no client under test, and not through a network that can be cut.
    fn kv(&self) -> KvClient<Channel> {
        let connect = self.connect.clone();
        KvClient::new(Endpoint::from_static("http://pipe").connect_with_connector_lazy(tower::service_fn(move |_| {
            let pipe = TokioIo::new(dial(&connect));
            async { Ok::<_, io::Error>(pipe) }
        })))
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> Revision {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        let put = PutRequest { key, value, ..PutRequest::default() };
        revision(self.kv().put(put).await.unwrap().into_inner().header)
    }

    pub(crate) async fn delete(&self, key: &str) -> Revision {
        let delete = DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() };
        revision(self.kv().delete_range(delete).await.unwrap().into_inner().header)
    }

    pub(crate) async fn compact(&self, revision: Revision) {
        let compact = CompactionRequest { revision: revision.get(), physical: true };
        self.kv().compact(compact).await.unwrap();
    }
}

fn serve(server: &Server, app: App) -> mpsc::UnboundedSender<DuplexStream> {
    let (connect, accepted) = mpsc::unbounded_channel();
    server.serve(Pipes(accepted), app);
    connect
}

fn dial(connect: &mpsc::UnboundedSender<DuplexStream>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(PIPE_BYTES);
    // A listener that is gone drops the pipe, and the client meets its end.
    let _ = connect.send(server);
    client
}

fn revision(header: Option<ResponseHeader>) -> Revision {
    Revision::new(header.unwrap().revision).unwrap()
}

/// Nothing of it differs from run to run.
fn environment(number: u64) -> Environment {
    let begun = tokio::time::Instant::now();
    let drawn = AtomicU64::new(number << 32);
    Environment {
        wall_unix_ms: Arc::new(move || 1_700_000_000_000 + begun.elapsed().as_millis() as u64),
        // An odd factor spreads the count over all bits.
        random: Arc::new(move || (drawn.fetch_add(1, Ordering::Relaxed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        workers: Workers::Tasks,
        barrier: None,
    }
}

/// What lies between a client and the member it is connected to.
#[derive(Clone, Default)]
pub(crate) struct Network(Arc<Mutex<Wires>>);

#[derive(Default)]
struct Wires {
    leads_to: Option<mpsc::UnboundedSender<DuplexStream>>,
    connections: Vec<AbortHandle>,
}

impl Network {
    pub(crate) fn to(member: &Member) -> Network {
        let network = Network::default();
        network.join(member);
        network
    }

    /// Connections are made to this member from now on.
    pub(crate) fn join(&self, member: &Member) {
        self.0.lock().unwrap().leads_to = Some(member.connect.clone());
    }

    /// All connections break, and none can be made.
    pub(crate) fn cut(&self) {
        let mut wires = self.0.lock().unwrap();
        wires.leads_to = None;
        wires.connections.drain(..).for_each(|connection| connection.abort());
    }

    fn connect(&self) -> io::Result<DuplexStream> {
        let mut wires = self.0.lock().unwrap();
        let mut far = dial(wires.leads_to.as_ref().ok_or(io::ErrorKind::ConnectionRefused)?);
        let (client, mut near) = tokio::io::duplex(PIPE_BYTES);
        let carried = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await.ok() });
        wires.connections.push(carried.abort_handle());
        Ok(client)
    }

    pub(crate) fn client(&self) -> Client {
        let network = self.clone();
        let connector = move |_| std::future::ready(network.connect());
        Client::builder(["member:2379"]).connector(connector).seed(1).build().unwrap()
    }
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

/// What comes within [`PATIENCE`].
#[track_caller]
pub(crate) fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(done) => done,
            Err(_) => panic!("waited in vain at {caller}"),
        }
    }
}
