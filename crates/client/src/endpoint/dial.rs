use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;
use tonic::transport::Channel;
use tracing::Instrument as _;

use crate::endpoint::names::Names;
use crate::endpoint::pings::Heeding;
use crate::endpoint::{Endpoint, InvalidEndpoint, KeepAlive, Scheme};
use crate::fault::{self, Fault};
use crate::observe::{ClientEvent, Counter, Observer};
use crate::spans;
#[cfg(feature = "tls")]
use crate::tls::Connector;

/// A connection's bytes, whatever carries them.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

type Dialled = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// One try to connect.
struct Try {
    endpoint: Endpoint,
    /// How many were made for the same purpose before.
    number: usize,
    patience: Duration,
}

/// How bytes get to an endpoint: TCP, or what the program gave.
#[derive(Clone)]
pub(crate) struct Dial(Arc<dyn Fn(Try) -> Dialled + Send + Sync>);

impl Dial {
    /// TCP, to what the host's name stands for at that time.
    pub(crate) fn tcp(names: Names) -> Dial {
        Dial(Arc::new(move |Try { endpoint, number, patience }| {
            let names = names.clone();
            Box::pin(async move {
                let stream = names.connect(endpoint.authority(), number, patience).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn Io>)
            })
        }))
    }

    pub(crate) fn by<F, Fut, S>(connect: F) -> Dial
    where
        F: Fn(Endpoint) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Dial(Arc::new(move |Try { endpoint, .. }| {
            let connected = connect(endpoint);
            Box::pin(async move { Ok(Box::new(connected.await?) as Box<dyn Io>) })
        }))
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

/// What every connection is opened with.
#[derive(Clone, Debug)]
pub(crate) struct DialOptions {
    pub(crate) dial: Dial,
    /// Encrypts what `dial` carries.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<Connector>>,
    pub(crate) connect_timeout: Duration,
    /// Interval and patience of the pings, sent only while a call or stream is open.
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) observer: Observer,
}

/// What passes from one connection to the next of those to one endpoint for one purpose.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// One was open at some time.
    was_open: AtomicBool,
    /// Tries made, those that connections make by themselves after a break among them.
    tries: AtomicUsize,
}

/// A connection that is open, and opens itself again when it is used after a break.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) channel: Channel,
    pub(crate) refusal: Refusal,
}

/// Why the server refused this client's certificate. That comes after the handshake (TLS 1.3), where HTTP/2
/// makes no more of it than a connection that ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal(Arc<Mutex<Option<String>>>);

impl Refusal {
    /// What the status of a call on the connection means.
    pub(crate) fn fault(&self, status: &Status, endpoint: &Endpoint) -> Fault {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (Fault::from_status(status, endpoint.as_str()), refused) {
            (Fault::Connection { endpoint, .. } | Fault::Unreachable { endpoint, .. }, Some(reason)) => {
                Fault::Tls { endpoint, reason }
            }
            (fault, _) => fault,
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn set(&self, reason: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

impl DialOptions {
    #[cfg(feature = "tls")]
    fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_self)]
    fn has_tls(&self) -> bool {
        false
    }

    /// Whether an endpoint and the settings of TLS go together: never is a connection encrypted, or not
    /// encrypted, against what an address says.
    pub(crate) fn admit(&self, endpoint: &Endpoint) -> Result<(), InvalidEndpoint> {
        match (endpoint.scheme(), self.has_tls()) {
            (Scheme::Https, false) => Err(endpoint.invalid("https:// needs settings of TLS: `ClientBuilder::tls`")),
            (Scheme::Http, true) => {
                Err(endpoint.invalid("http:// is not encrypted, and the client has settings of TLS: write https://"))
            }
            #[cfg(feature = "tls")]
            (_, true) => self.tls.as_ref().map_or(Ok(()), |tls| tls.admit(endpoint)),
            _ => Ok(()),
        }
    }

    #[cfg_attr(not(feature = "tls"), allow(unused_variables))]
    async fn carry(self, endpoint: Endpoint, line: &Line, refusal: Refusal) -> Result<Box<dyn Io>, tower::BoxError> {
        let number = line.tries.fetch_add(1, Ordering::Relaxed);
        let io = (self.dial.0)(Try { endpoint: endpoint.clone(), number, patience: self.connect_timeout }).await?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Ok(Box::new(tls.encrypt(&endpoint, io, refusal).await?));
        }
        Ok(io)
    }

    /// Opens an HTTP/2 connection.
    pub(crate) async fn open(&self, endpoint: &Endpoint, line: &Arc<Line>) -> Result<Opened, Fault> {
        let unreachable = |reason| Fault::Unreachable { endpoint: endpoint.to_string(), reason };
        let mut transport = Channel::builder(endpoint.uri().clone()).keep_alive_while_idle(false);
        let pinged = self.keep_alive.as_ref().map(KeepAlive::for_a_connection);
        if let Some(pinged) = &pinged {
            transport = transport.http2_keep_alive_interval(pinged.interval()).keep_alive_timeout(pinged.timeout());
        }
        if self.has_tls() {
            transport = transport.origin(endpoint.origin_of_tls());
        }
        let refusal = Refusal::default();
        let (options, told) = (self.clone(), refusal.clone());
        let (target, line) = (endpoint.clone(), line.clone());
        let connector = tower::service_fn(move |_| {
            let (options, told, pinged) = (options.clone(), told.clone(), pinged.clone());
            let (endpoint, line, observer) = (target.clone(), line.clone(), options.observer.clone());
            async move {
                let io = options.carry(endpoint.clone(), &line, told).await?;
                if line.was_open.swap(true, Ordering::Relaxed) {
                    observer.count(Counter::Reconnects, 1);
                    observer.tell(|| ClientEvent::Reconnected { endpoint });
                }
                Ok::<_, tower::BoxError>(TokioIo::new(Heeding::new(io, pinged)))
            }
        });
        let channel = tokio::time::timeout(self.connect_timeout, transport.connect_with_connector(connector))
            .instrument(spans::dial(endpoint))
            .await
            .map_err(|_| unreachable("connection timed out".to_owned()))?
            .map_err(|e| match fault::innermost(&e) {
                reason if fault::is_distrust(&e) => Fault::Tls { endpoint: endpoint.to_string(), reason },
                reason => unreachable(reason),
            })?;
        Ok(Opened { channel, refusal })
    }
}
