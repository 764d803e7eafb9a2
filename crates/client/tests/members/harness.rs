//! One member, reached under several addresses, each of which can be shut and opened again.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stentor_client::{Client, ClientBuilder};
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_server::config::{self, Command, Config};
use stentor_server::environment::{Environment, Workers};
use stentor_server::member::Member;
use stentor_server::metrics::Metrics;
use stentor_server::net::{Listener, Server};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// For what a clock that is paused decides by timers alone.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

const PIPE_BYTES: usize = 64 << 10;

/// A connection's bytes at the server, decrypted if need be.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

type Accepted = Pin<Box<dyn Future<Output = io::Result<Box<dyn Bytes>>> + Send>>;

/// What a listener does with a connection before it is served.
pub(crate) type Accept = Arc<dyn Fn(DuplexStream) -> Accepted + Send + Sync>;

struct Pipes {
    connections: mpsc::UnboundedReceiver<DuplexStream>,
    accept: Accept,
}

impl Listener for Pipes {
    type Io = Box<dyn Bytes>;

    async fn accept(&mut self) -> io::Result<(Box<dyn Bytes>, SocketAddr)> {
        match self.connections.recv().await {
            Some(pipe) => Ok(((self.accept)(pipe).await?, self.local_addr())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

type Addresses = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<DuplexStream>>>>;

/// Waits for a condition, which must come about within [`PATIENCE`].
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let due = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < due, "waited in vain: {what}");
        // A pause, since a paused clock moves on only when nothing is left to do.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The member.
pub(crate) struct Rig {
    config: Config,
    metrics: Metrics,
    member: Member,
    stop: CancellationToken,
    addresses: Addresses,
    servers: Mutex<HashMap<String, Server>>,
}

impl Rig {
    pub(crate) async fn start(flags: &[&str]) -> Rig {
        let config = match config::load(flags.iter().map(Into::into), []) {
            Ok(Command::Run { config, .. }) => *config,
            other => panic!("no flags to run with: {other:?}"),
        };
        let environment = Environment { workers: Workers::Tasks, ..Environment::system() };
        let metrics = Metrics::new(config.metrics);
        let stop = CancellationToken::new();
        let engine = Arc::new(MemoryEngine::open(&Disk::new()).unwrap());
        let member = Member::start(engine, &config, environment, metrics.clone(), &stop).unwrap();
        member.set_serving(true).await;
        Rig { config, metrics, member, stop, addresses: Addresses::default(), servers: Mutex::default() }
    }

    /// Serves under an address, `host:port`.
    pub(crate) fn open(&self, address: &str) {
        self.open_by(address, Arc::new(|pipe| Box::pin(async { Ok(Box::new(pipe) as Box<dyn Bytes>) })));
    }

    /// Serves under an address what `accept` makes of its connections.
    pub(crate) fn open_by(&self, address: &str, accept: Accept) {
        let server = Server::new(&self.config, self.metrics.clone(), self.stop.child_token());
        let (connect, connections) = mpsc::unbounded_channel();
        server.serve(Pipes { connections, accept }, self.member.app());
        self.addresses.lock().unwrap().insert(address.to_owned(), connect);
        self.servers.lock().unwrap().insert(address.to_owned(), server);
    }

    /// Ends what goes on under an address; connecting to it is refused.
    pub(crate) async fn shut(&self, address: &str) {
        self.addresses.lock().unwrap().remove(address);
        let server = self.servers.lock().unwrap().remove(address).expect("it is open");
        server.shutdown(Duration::ZERO).await;
    }

    /// A client whose network is this.
    pub(crate) fn client(&self, endpoints: &[&str]) -> ClientBuilder {
        let addresses = self.addresses.clone();
        Client::builder(endpoints).seed(1).connector(move |endpoint| {
            let address = addresses.lock().unwrap().get(endpoint.authority()).cloned();
            async move {
                let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
                let (client, server) = tokio::io::duplex(PIPE_BYTES);
                address.ok_or_else(refused)?.send(server).map_err(|_| refused())?;
                Ok(client)
            }
        })
    }
}
