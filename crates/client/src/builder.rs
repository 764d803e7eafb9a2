use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;

use crate::auth::{Auth, Source};
use crate::backoff::Backoff;
use crate::call::Core;
use crate::client::Client;
use crate::credentials::{Credentials, Secret};
use crate::endpoint::{Dial, DialOptions, Endpoint, KeepAlive, Names, Pool, PoolOptions};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::floor::Floor;
use crate::members::Upkeep;
use crate::observe::{ClientEvent, Metrics, Observer};
use crate::random::Random;
use crate::status::Traffic;

/// How a [`Client`] connects and calls.
#[must_use = "a builder does nothing until `connect` or `build` is called"]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    pub(crate) credentials: Source,
    pub(crate) call_timeout: Option<Duration>,
    try_timeout: Duration,
    connect_timeout: Duration,
    keep_alive: Option<(Duration, Duration)>,
    backoff: Backoff,
    dial: Dial,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Tls>,
    seed: Option<u64>,
    observer: Observer,
    sync_interval: Option<Duration>,
    rebalance: Option<Duration>,
    monotonic_reads: bool,
    lease_runtime: Option<Handle>,
}

/// Servers end connections that ping more often than every 5 s; with other requests between, 10 s is safe.
const SHORTEST_PING_INTERVAL: Duration = Duration::from_secs(10);

/// What a client does by itself at an interval, it does no more often than this.
const SHORTEST_UPKEEP: Duration = Duration::from_millis(100);

impl ClientBuilder {
    pub(crate) fn new(endpoints: Vec<String>) -> ClientBuilder {
        ClientBuilder {
            endpoints,
            credentials: Source::None,
            call_timeout: Some(Duration::from_secs(5)),
            try_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            keep_alive: Some((SHORTEST_PING_INTERVAL, Duration::from_secs(5))),
            backoff: Backoff::default(),
            dial: Dial::tcp(Names::of_the_system()),
            #[cfg(feature = "tls")]
            tls: None,
            seed: None,
            observer: Observer::default(),
            sync_interval: None,
            rebalance: None,
            monotonic_reads: false,
            lease_runtime: None,
        }
    }

    /// Logs in as `user`. A server on which authentication is off is used without.
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Source::Fixed(Secret::password(user, password));
        self
    }

    /// Shows this token, a JWT for one, that the program got from elsewhere. It is never renewed: when it has
    /// expired, calls and watches end with [`Unauthenticated`](crate::ErrorKind::Unauthenticated). With
    /// [`credentials_from`](Self::credentials_from) it can be.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.credentials = Source::Fixed(Secret::token(token));
        self
    }

    /// Asks this for a password or a token whenever one is needed: at first, and when a token was refused.
    pub fn credentials_from(mut self, credentials: impl Credentials) -> Self {
        self.credentials = Source::Asked(Arc::new(credentials));
        self
    }

    /// How long a call may take, all its tries and pauses included; 5 s by default, `None` for no limit.
    /// It does not limit a whole list, only each of its pages, and no watch.
    pub fn call_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.call_timeout = timeout.into();
        self
    }

    /// How long one try of a call that may be repeated can take before another endpoint is asked; 2 s by
    /// default.
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.try_timeout = timeout;
        self
    }

    /// How long connecting to one endpoint may take; 2 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Pings the server every `interval` while a call or stream is open, and gives the connection up when
    /// no answer came within `timeout`; 10 s and 5 s by default. An interval below 10 s is raised to that,
    /// since servers end connections that ping more often. If one does that all the same, the client pings
    /// half as often from then on, and warns once.
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.keep_alive = Some((interval.max(SHORTEST_PING_INTERVAL), timeout));
        self
    }

    /// How long to wait before an endpoint, a call or a stream is tried again.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Encrypts every connection. Endpoints are then `https://host:port` or `host:port`.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::tls::Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Connects by this instead of TCP: through a proxy, over a unix socket, in a simulated network. With
    /// TLS, what it connects to is where TLS ends.
    pub fn connector<F, Fut, S>(mut self, connect: F) -> Self
    where
        F: Fn(Endpoint) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.dial = Dial::by(connect);
        self
    }

    /// Calls this for everything that happens to the client. It is called from the client's own tasks, so it
    /// must neither block nor panic; sending into a channel is a good use of it.
    pub fn on_event(mut self, hook: impl Fn(&ClientEvent) + Send + Sync + 'static) -> Self {
        self.observer.hook = Some(Arc::new(hook));
        self
    }

    /// Counts there; nowhere by default.
    pub fn metrics(mut self, metrics: impl Metrics) -> Self {
        self.observer.metrics = Some(Arc::new(metrics));
        self
    }

    /// Asks the cluster for its members about this often, as [`Client::sync_endpoints`] does, from the first
    /// call on; never by default. What fails is tried again the next time.
    pub fn sync_endpoints_every(mut self, interval: Duration) -> Self {
        self.sync_interval = Some(interval.max(SHORTEST_UPKEEP));
        self
    }

    /// Moves watch streams to endpoints that came back or were added, until all are used evenly: at most one
    /// stream of this client about every `interval`. Off by default; a minute is a good interval. Nothing is
    /// missed and nothing comes twice by a move; with [`notices`](crate::WatchBuilder::notices) it is
    /// [`Interruption::Moved`](crate::Interruption::Moved).
    pub fn rebalance(mut self, interval: Duration) -> Self {
        self.rebalance = Some(interval.max(SHORTEST_UPKEEP));
        self
    }

    /// Reads never go back behind what this client and its clones had seen of the store when they were sent, by a read,
    /// a write or a watch. Off by default.
    ///
    /// Only [`serializable`](crate::Get::serializable) reads could: the member that answers may be behind the one
    /// before. With this, such an answer is dropped, and the read is made once more in agreement with the other
    /// members. If even that is behind, the store has lost its history:
    /// [`HistoryReset`](crate::ErrorKind::HistoryReset), once, and reads go on from there.
    pub fn monotonic_reads(mut self) -> Self {
        self.monotonic_reads = true;
        self
    }

    /// Keeps leases alive on this runtime, over connections of its own; by default on the runtime that a lease is
    /// granted in.
    ///
    /// For a program whose tasks can keep its runtime busy for as long as a lease lives. One more runtime with one
    /// worker is enough, and has to outlive the leases: with it they are
    /// [`Closed`](crate::LeaseLoss::Closed).
    pub fn lease_runtime(mut self, runtime: Handle) -> Self {
        self.lease_runtime = Some(runtime);
        self
    }

    /// Draws jitter from this seed. With a simulated network and a paused clock, everything a client does
    /// is then the same in every run; its clock is tokio's.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The endpoints, and what every connection to them is opened with. Reads the files of TLS.
    pub(crate) fn dialling(&self) -> std::result::Result<(Vec<Endpoint>, DialOptions), Fault> {
        let endpoints =
            self.endpoints.iter().map(|e| Endpoint::parse(e)).collect::<std::result::Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(Fault::NoEndpoint);
        }
        let dial = DialOptions {
            dial: self.dial.clone(),
            #[cfg(feature = "tls")]
            tls: self.tls.clone().map(crate::tls::Connector::new).transpose()?.map(Arc::new),
            connect_timeout: self.connect_timeout,
            keep_alive: self.keep_alive.map(|(interval, timeout)| KeepAlive::new(interval, timeout)),
            observer: self.observer.clone(),
        };
        for endpoint in &endpoints {
            dial.admit(endpoint)?;
        }
        Ok((endpoints, dial))
    }

    /// A client that has not touched the network yet: it connects when something is asked of it.
    ///
    /// # Errors
    /// [`InvalidEndpoint`](crate::ErrorKind::InvalidEndpoint) for an address that cannot be read, or none at all; for
    /// `https://` without settings of TLS, and `http://` with them. [`Tls`](crate::ErrorKind::Tls) for settings of TLS
    /// that cannot be used: their files are read here. [`Unauthenticated`](crate::ErrorKind::Unauthenticated) for a
    /// token that no request can carry.
    pub fn build(self) -> Result<Client> {
        let (endpoints, dial) = self.dialling().map_err(|fault| Error::from_fault(&fault, false))?;
        let mut random = Random::seeded(self.seed.unwrap_or_else(Random::seed_of_the_system));
        let (backoff, try_timeout, observer) = (self.backoff, self.try_timeout, self.observer);
        let lease_runtime = self.lease_runtime;
        let options = PoolOptions {
            endpoints,
            dial,
            backoff,
            try_timeout,
            observer: observer.clone(),
            lease_runtime: lease_runtime.clone(),
        };
        Ok(Client::new(Core {
            pool: Pool::new(options, random.fork()),
            auth: Auth::new(self.credentials)?,
            backoff: self.backoff,
            call_timeout: self.call_timeout,
            random: Mutex::new(random),
            observer,
            traffic: Traffic::default(),
            upkeep: Upkeep::new(self.sync_interval),
            rebalance: self.rebalance,
            floor: Floor::new(self.monotonic_reads),
            lease_runtime,
            pinned: false,
        }))
    }

    /// A client that is known to reach one of its endpoints, and whose credentials are good.
    ///
    /// # Errors
    /// As [`build`](Self::build); [`Unavailable`](crate::ErrorKind::Unavailable) if no endpoint answered within
    /// the call timeout; [`Unauthenticated`](crate::ErrorKind::Unauthenticated) if the credentials were refused.
    ///
    /// # Cancel safety
    /// If the future is dropped, nothing is left open.
    pub async fn connect(self) -> Result<Client> {
        let client = self.build()?;
        client.core().check().await?;
        Ok(client)
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("endpoints", &self.endpoints)
            .field("credentials", &self.credentials)
            .field("call_timeout", &self.call_timeout)
            .field("try_timeout", &self.try_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("keep_alive", &self.keep_alive)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn secrets_stay_out_of_debug() {
        let builder = Client::builder(["a:1"]).credentials("root", "s3cret");
        let text = format!("{builder:?}");
        assert!(text.contains("root") && !text.contains("s3cret"), "{text}");
        let text = format!("{:?}", builder.build().unwrap());
        assert!(text.contains("root") && !text.contains("s3cret"), "{text}");
        let builder = Client::builder(["a:1"]).token("s3cret");
        let text = format!("{builder:?}");
        assert!(text.contains("token") && !text.contains("s3cret"), "{text}");
        let text = format!("{:?}", builder.build().unwrap());
        assert!(text.contains("token") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn pings_are_never_too_frequent() {
        let builder = Client::builder(["a:1"]).keep_alive(Duration::from_secs(2), Duration::from_secs(6));
        assert_eq!(builder.keep_alive, Some((Duration::from_secs(10), Duration::from_secs(6))));
    }

    #[test]
    fn a_token_that_no_request_can_carry_is_refused() {
        let error = Client::builder(["a:1"]).token("two\nlines").build().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unauthenticated);
    }

    #[test]
    fn building_needs_an_endpoint_that_can_be_read_and_no_runtime() {
        assert!(Client::builder(["a:1", "b:2"]).build().is_ok());
        for endpoints in [vec![], vec!["nonsense"], vec!["a:1", "https://b:2"]] {
            let error = Client::builder(endpoints).build().unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidEndpoint);
        }
    }
}
