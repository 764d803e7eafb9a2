//! Members in this process and on this thread, and clients that reach them over pipes: memory engine, tokio's
//! clock (paused by the tests), counted-up randomness. The pipes can be cut, and what is on them lost.

mod door;
mod wire;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stentor_client::{Client, ClientBuilder, ErrorKind, KeyRange, Result, Revision};
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_server::config::{self, Command, Config};
use stentor_server::environment::{Environment, Workers};
use stentor_server::member::Member;
use stentor_server::metrics::Metrics;
use tokio_util::sync::CancellationToken;

#[cfg(all(feature = "tls-ring", feature = "tls-native-roots", feature = "rustls-0_23", feature = "dangerous"))]
pub(crate) use door::Bytes;
pub(crate) use door::{Accept, Door};
pub(crate) use wire::{Wire, over};

/// For what a clock that is paused decides by timers alone.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// A member that is served.
pub(crate) struct Rig {
    pub(crate) member: Member,
    config: Config,
    metrics: Metrics,
    stop: CancellationToken,
    door: Door,
    /// The way of clients that name no other.
    pub(crate) wire: Wire,
    /// Further doors, by their addresses.
    doors: Arc<Mutex<HashMap<String, Door>>>,
    /// A client past the wire.
    hand: Client,
}

impl Rig {
    pub(crate) async fn start() -> Rig {
        Rig::build(&[], 0).await
    }

    /// With further flags of the command line.
    pub(crate) async fn with_flags(flags: &[&str]) -> Rig {
        Rig::build(flags, 0).await
    }

    /// Members of different numbers are of different clusters.
    pub(crate) async fn of_cluster(number: u64) -> Rig {
        Rig::build(&[], number).await
    }

    async fn build(flags: &[&str], number: u64) -> Rig {
        let config = config(flags);
        let metrics = Metrics::new(config.metrics);
        let stop = CancellationToken::new();
        let engine = Arc::new(MemoryEngine::open(&Disk::new()).unwrap());
        let member = Member::start(engine, &config, environment(number), metrics.clone(), &stop).unwrap();
        let door = Door::open(&config, &metrics, &stop, member.app(), door::as_it_is());
        member.set_serving(true).await;
        let (wire, hand) = (Wire::to(&door), Wire::to(&door).client());
        Rig { member, config, metrics, stop, door, wire, doors: Arc::default(), hand }
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
        Wire::to(&self.door)
    }

    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// The newest revision, by no call.
    pub(crate) fn revision(&self) -> i64 {
        self.member.node.store.view().revision().get()
    }

    // By a client of the member's own, whose way is always whole.

    pub(crate) async fn put(&self, key: &str, value: &str) -> Revision {
        self.hand.put(key.to_owned(), value.to_owned()).await.unwrap()
    }

    pub(crate) async fn delete(&self, key: &str) -> Revision {
        self.hand.delete(KeyRange::key(key.to_owned())).await.unwrap().revision
    }

    pub(crate) async fn compact(&self, revision: Revision) {
        self.hand.compact(revision).physical().await.unwrap();
    }

    // Under several addresses, each of which can be shut and opened again.

    /// Serves under an address, `host:port`.
    pub(crate) fn open(&self, address: &str) {
        self.open_by(address, door::as_it_is());
    }

    /// Serves under an address what `accept` makes of its connections.
    pub(crate) fn open_by(&self, address: &str, accept: Accept) {
        let door = Door::open(&self.config, &self.metrics, &self.stop, self.member.app(), accept);
        self.doors.lock().unwrap().insert(address.to_owned(), door);
    }

    /// Ends what goes on under an address; connecting to it is refused.
    pub(crate) async fn shut(&self, address: &str) {
        let door = self.doors.lock().unwrap().remove(address).expect("it is open");
        door.shut().await;
    }

    /// A client that reaches the member by its addresses.
    pub(crate) fn by_address(&self, endpoints: &[&str]) -> ClientBuilder {
        let doors = self.doors.clone();
        Client::builder(endpoints).seed(1).connector(move |endpoint| {
            let pipe = match doors.lock().unwrap().get(endpoint.authority()) {
                Some(door) => door.enter(),
                None => Err(std::io::ErrorKind::ConnectionRefused.into()),
            };
            async { pipe }
        })
    }
}

/// A server that answers every call like this, and counts them.
pub(crate) fn that_refuses(code: &'static str, message: &'static str) -> (Door, Arc<AtomicU64>) {
    let config = config(&[]);
    let headers = [("content-type", "application/grpc"), ("grpc-status", code), ("grpc-message", message)];
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let answer = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(headers)
    };
    let router = axum::Router::new().route("/{*call}", axum::routing::any(answer));
    let app = stentor_server::net::App::grpc_only(tonic::service::Routes::from(router));
    let door = Door::open(&config, &Metrics::new(config.metrics), &CancellationToken::new(), app, door::as_it_is());
    (door, calls)
}

fn config(flags: &[&str]) -> Config {
    match config::load(flags.iter().map(Into::into), []) {
        Ok(Command::Run { config, .. }) => *config,
        other => panic!("{flags:?} are no flags to run with: {other:?}"),
    }
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
        dialer: stentor_server::peers::Dialer::system(),
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

/// What comes within [`PATIENCE`].
#[track_caller]
pub(crate) fn soon<T>(future: impl IntoFuture<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(done) => done,
            Err(_) => panic!("waited in vain at {caller}"),
        }
    }
}
