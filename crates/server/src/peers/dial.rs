//! How another member is connected to: the system's network, or a simulated one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::config::Url;
#[cfg(feature = "tls")]
use crate::tls::PeerConnector;

/// A member that is not there is given up after this; the kernel would take minutes.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// A link without a sign of life for so long is asked for one, and given up if none comes in that time again.
const SILENCE: Duration = Duration::from_secs(1);

/// Bytes of a link to another member.
pub trait PeerIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> PeerIo for T {}

/// Where another member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub secure: bool,
}

/// A connection, once there is one.
pub type DialFuture = Pin<Box<dyn Future<Output = io::Result<Box<dyn PeerIo>>> + Send>>;

/// Connects to other members.
#[derive(Clone)]
pub struct Dialer(Arc<dyn Fn(Target) -> DialFuture + Send + Sync>);

impl Dialer {
    /// One that connects by `dial`.
    pub fn new(dial: impl Fn(Target) -> DialFuture + Send + Sync + 'static) -> Dialer {
        Dialer(Arc::new(dial))
    }

    /// One that connects by TCP, without TLS.
    pub fn system() -> Dialer {
        Dialer::new(|target| {
            Box::pin(async move {
                if target.secure {
                    return Err(io::Error::new(io::ErrorKind::Unsupported, "TLS between members is not set up"));
                }
                Ok(Box::new(connect(&target).await?) as Box<dyn PeerIo>)
            })
        })
    }

    /// One that connects by TCP, and speaks TLS where the URL says so.
    #[cfg(feature = "tls")]
    pub fn with_tls(connector: PeerConnector) -> Dialer {
        Dialer::new(move |target| {
            let connector = connector.clone();
            Box::pin(async move {
                let stream = connect(&target).await?;
                if !target.secure {
                    return Ok(Box::new(stream) as Box<dyn PeerIo>);
                }
                Ok(Box::new(connector.connect(stream, &target.host).await?) as Box<dyn PeerIo>)
            })
        })
    }

    /// A channel to the member at a URL, which connects when it is used.
    ///
    /// # Errors
    /// A URL that is none.
    pub(crate) fn channel(&self, url: &str) -> Result<Channel, Status> {
        let bad = |why: String| Status::new(Code::InvalidArgument, format!("the peer URL {url} {why}"));
        let url = Url::parse(url).map_err(bad)?;
        let target = Target { host: url.host().to_owned(), port: url.port(), secure: url.is_secure() };
        // TLS, if any, is the dialer's.
        let authority = format!("http://{}", url.as_str().split_once("://").map_or("", |(_, authority)| authority));
        let endpoint = Endpoint::from_shared(authority).map_err(|error| bad(error.to_string()))?;
        let dial = self.0.clone();
        let connect = tower::service_fn(move |_| {
            let connection = dial(target.clone());
            async move { connection.await.map(TokioIo::new) }
        });
        Ok(endpoint
            .connect_timeout(CONNECT_TIME)
            .http2_keep_alive_interval(SILENCE)
            .keep_alive_timeout(SILENCE)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connect))
    }
}

async fn connect(target: &Target) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    // A message is complete when written: waiting for more only delays it.
    stream.set_nodelay(true)?;
    Ok(stream)
}
