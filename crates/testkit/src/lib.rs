//! A Stentor server inside a test, for programs that use `stentor-client`: the real server on its engine in
//! memory, over pipes instead of sockets, with faults on command.
//!
//! ```
//! use stentor_client::{ErrorKind, KeyRange};
//! use stentor_testkit::TestServer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = TestServer::start().await?;
//! let client = server.client();
//! let first = client.put("/config/limit", "10").await?;
//! let mut changes = client.watch(KeyRange::prefix("/config/")).from(first).await?.into_events();
//! changes.next().await.transpose()?;
//!
//! // The connection breaks, and history is compacted before the client is back.
//! server.unreachable();
//! server.put("/config/limit", "20").await?;
//! server.put("/config/limit", "30").await?;
//! server.compact().await?;
//! server.reachable();
//! let error = changes.next().await.and_then(Result::err).map(|error| error.kind().clone());
//! assert!(matches!(error, Some(ErrorKind::Compacted { .. })));
//! # Ok(())
//! # }
//! ```
//!
//! Everything runs on the runtime of the test, which may be of one thread with its clock paused
//! (`#[tokio::test(start_paused = true)]`): timeouts and backoff then take no time.

mod link;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use link::Network;
use parking_lot::Mutex;
use stentor_client::{Client, ClientBuilder, Revision};
use stentor_mvcc::engine::memory::MemoryEngine;
use stentor_mvcc::snapshot::{self, RestoreOptions};
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::lease_client::LeaseClient;
use stentor_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, LeaseRevokeRequest, PutRequest};
use stentor_server::config::{self, Command, Config};
use stentor_server::environment::{Environment, Workers};
use stentor_server::member::Member;
use stentor_server::metrics::Metrics;
use stentor_server::net::Server;
use stentor_server::storage::Disks;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Where clients believe the server to be. Nothing is listening there.
const ADDRESS: &str = "http://stentor.test:2379";

/// For a stop in order; by a paused clock it takes no time.
const STOP: Duration = Duration::from_secs(5);

/// A fault, or a start, that did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestError {
    /// The flags given are no flags of the server.
    #[error("these are no flags to start with: {0}")]
    Flags(String),
    /// The server did not start.
    #[error("the server did not start: {0}")]
    Start(String),
    /// The server is stopped: start it again first.
    #[error("the server is stopped")]
    Stopped,
    /// The server refused what was asked of it.
    #[error("the server refused: {0}")]
    Refused(String),
}

/// The store as it was at one time; see [`TestServer::save`].
#[derive(Clone)]
pub struct SavedStore(Arc<[u8]>);

/// A server in this process. It ends when it is dropped.
pub struct TestServer {
    config: Config,
    network: Network,
    disks: Mutex<Disks>,
    running: Mutex<Option<Running>>,
}

struct Running {
    member: Member,
    server: Server,
    stop: CancellationToken,
}

impl TestServer {
    /// A server with an empty store.
    ///
    /// # Errors
    /// [`TestError::Start`].
    pub async fn start() -> Result<TestServer, TestError> {
        TestServer::start_with(&[]).await
    }

    /// The same, with flags of the server's command line.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), stentor_testkit::TestError> {
    /// let server = stentor_testkit::TestServer::start_with(&["--max-txn-ops=4"]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TestError::Flags`], [`TestError::Start`].
    pub async fn start_with(flags: &[&str]) -> Result<TestServer, TestError> {
        let config = match config::load(flags.iter().map(Into::into), []) {
            Ok(Command::Run { config, .. }) => *config,
            Ok(_) => return Err(TestError::Flags(flags.join(" "))),
            Err(error) => return Err(TestError::Flags(error.to_string())),
        };
        let (network, disks) = (Network::new(), Mutex::new(Disks::new()));
        let server = TestServer { config, network, disks, running: Mutex::new(None) };
        server.run().await?;
        Ok(server)
    }

    async fn run(&self) -> Result<(), TestError> {
        let failed = |error: &dyn fmt::Display| TestError::Start(error.to_string());
        let (metrics, stop) = (Metrics::new(self.config.metrics), CancellationToken::new());
        let storage = self.disks.lock().storage().map_err(|error| failed(&error))?;
        let member = Member::start(storage, &self.config, environment(), metrics.clone(), &stop);
        let member = member.map_err(|error| failed(&error))?;
        let server = Server::new(&self.config, metrics, stop.clone());
        server.serve(self.network.listen(), member.app());
        member.set_serving(true).await;
        *self.running.lock() = Some(Running { member, server, stop });
        Ok(())
    }

    /// A client of it, with the defaults of [`ClientBuilder`].
    pub fn client(&self) -> Client {
        // An address and a seed that are always good.
        self.builder().build().unwrap_or_else(|error| unreachable!("a client of the test server: {error}"))
    }

    /// A client that is still to be set up. Its jitter is the same in every run.
    pub fn builder(&self) -> ClientBuilder {
        let network = self.network.clone();
        Client::builder([ADDRESS]).seed(1).connector(move |_| std::future::ready(network.connect()))
    }

    /// Breaks every connection. Clients can connect again at once.
    pub fn cut(&self) {
        self.network.cut();
    }

    /// Breaks every connection, and lets none be made until [`reachable`](Self::reachable).
    pub fn unreachable(&self) {
        self.network.set_reachable(false);
        self.network.cut();
    }

    /// Clients can connect again.
    pub fn reachable(&self) {
        self.network.set_reachable(true);
    }

    /// Stops it and starts it again on what it has stored. Every connection breaks.
    ///
    /// # Errors
    /// [`TestError::Start`].
    pub async fn restart(&self) -> Result<(), TestError> {
        self.halt().await;
        self.run().await
    }

    /// Stops it. Every connection breaks, and none can be made until [`restart`](Self::restart).
    pub async fn halt(&self) {
        let Some(Running { member, server, stop }) = self.running.lock().take() else { return };
        self.network.cut();
        stop.cancel();
        server.shutdown(STOP).await;
        member.ended().await;
        // Whatever still holds the engine is as dead as a process that has ended; its writes are there.
        let disks = self.disks.lock();
        disks.engine().write_back();
        disks.engine().crash();
    }

    /// Puts a pair by a way of its own, which [`unreachable`](Self::unreachable) does not close.
    ///
    /// # Errors
    /// [`TestError::Stopped`], [`TestError::Refused`].
    pub async fn put(&self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Result<Revision, TestError> {
        let request = PutRequest { key: key.into().into(), value: value.into().into(), ..PutRequest::default() };
        self.direct(async |channel| KvClient::new(channel).put(request).await).await?;
        Ok(self.revision())
    }

    /// Deletes a key by a way of its own.
    ///
    /// # Errors
    /// [`TestError::Stopped`], [`TestError::Refused`].
    pub async fn delete(&self, key: impl Into<Vec<u8>>) -> Result<Revision, TestError> {
        let request = DeleteRangeRequest { key: key.into().into(), ..DeleteRangeRequest::default() };
        self.direct(async |channel| KvClient::new(channel).delete_range(request).await).await?;
        Ok(self.revision())
    }

    /// Compacts history up to the newest revision, which it returns.
    ///
    /// # Errors
    /// [`TestError::Stopped`]; [`TestError::Refused`] if that is compacted already.
    pub async fn compact(&self) -> Result<Revision, TestError> {
        let revision = self.revision();
        let request = CompactionRequest { revision: revision.get(), physical: true };
        self.direct(async |channel| KvClient::new(channel).compact(request).await).await?;
        Ok(revision)
    }

    /// Ends a lease as if its time had run out: its keys are deleted.
    ///
    /// # Errors
    /// [`TestError::Stopped`]; [`TestError::Refused`] if there is no such lease.
    pub async fn expire_lease(&self, id: i64) -> Result<(), TestError> {
        let request = LeaseRevokeRequest { id };
        self.direct(async |channel| LeaseClient::new(channel).lease_revoke(request).await).await
    }

    /// Keeps the store as it is now, for [`restore`](Self::restore).
    ///
    /// # Errors
    /// [`TestError::Stopped`], [`TestError::Refused`].
    pub fn save(&self) -> Result<SavedStore, TestError> {
        let running = self.running.lock();
        let store = &running.as_ref().ok_or(TestError::Stopped)?.member.node.store;
        let refused = |error: stentor_mvcc::Error| TestError::Refused(error.to_string());
        let (mut reader, mut bytes) = (store.snapshot("testkit").map_err(refused)?, Vec::new());
        while let Some(chunk) = reader.next_chunk(1 << 20).map_err(refused)? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(SavedStore(bytes.into()))
    }

    /// Goes back in history: starts again with a store that was saved before, as after a restore from a backup.
    /// The cluster has another id then.
    ///
    /// # Errors
    /// [`TestError::Start`].
    pub async fn restore(&self, saved: &SavedStore) -> Result<(), TestError> {
        self.halt().await;
        let failed = |error: &dyn fmt::Display| TestError::Start(error.to_string());
        let disks = Disks::new();
        let engine = MemoryEngine::open(&disks.engine()).map_err(|error| failed(&error))?;
        snapshot::restore(&mut &saved.0[..], &engine, &RestoreOptions::default()).map_err(|error| failed(&error))?;
        drop(engine);
        disks.engine().write_back();
        disks.engine().crash();
        *self.disks.lock() = disks;
        self.run().await
    }

    /// The newest revision; that of an empty store if it is stopped.
    pub fn revision(&self) -> Revision {
        let running = self.running.lock();
        running.as_ref().map_or(Revision::FIRST, |running| running.member.node.store.view().revision())
    }

    /// A call past the network's faults.
    async fn direct<T>(
        &self,
        call: impl AsyncFnOnce(Channel) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<(), TestError> {
        if self.running.lock().is_none() {
            return Err(TestError::Stopped);
        }
        let network = self.network.clone();
        let channel = Endpoint::from_static(ADDRESS).connect_with_connector_lazy(tower::service_fn(move |_| {
            std::future::ready(network.connect_past_faults().map(TokioIo::new))
        }));
        call(channel).await.map(|_| ()).map_err(|status| TestError::Refused(status.message().to_owned()))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.lock().take() {
            running.stop.cancel();
        }
        self.network.cut();
    }
}

/// By the clock of the runtime, so that a test can pause it.
fn environment() -> Environment {
    let system = Environment::system();
    let (begun, begun_unix_ms) = (tokio::time::Instant::now(), (system.wall_unix_ms)());
    Environment {
        wall_unix_ms: Arc::new(move || begun_unix_ms + begun.elapsed().as_millis() as u64),
        random: Arc::new(rand::random),
        workers: Workers::Tasks,
        dialer: stentor_server::peers::Dialer::system(),
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl fmt::Debug for SavedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedStore").field("bytes", &self.0.len()).finish()
    }
}
