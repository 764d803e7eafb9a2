use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::Channel;

use crate::endpoint::Endpoint;
use crate::fault::{self, Fault};

/// A connection's bytes, whatever carries them.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

type Dialled = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// How bytes get to an endpoint: TCP, or what the program gave.
#[derive(Clone)]
pub(crate) struct Dial(Arc<dyn Fn(Endpoint) -> Dialled + Send + Sync>);

impl Dial {
    /// TCP. The name is looked up at every connection, so a member that moved is found again.
    pub(crate) fn tcp() -> Dial {
        Dial::by(async |endpoint: Endpoint| {
            let stream = TcpStream::connect(endpoint.authority()).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }

    pub(crate) fn by<F, Fut, S>(connect: F) -> Dial
    where
        F: Fn(Endpoint) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Dial(Arc::new(move |endpoint| {
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
    pub(crate) connect_timeout: Duration,
    /// Interval and patience of the pings, sent only while a call or stream is open.
    pub(crate) keep_alive: Option<(Duration, Duration)>,
}

impl DialOptions {
    /// Opens an HTTP/2 connection.
    pub(crate) async fn open(&self, endpoint: &Endpoint) -> Result<Channel, Fault> {
        let unreachable = |reason| Fault::Unreachable { endpoint: endpoint.to_string(), reason };
        let mut transport = Channel::builder(endpoint.uri().clone()).keep_alive_while_idle(false);
        if let Some((interval, timeout)) = self.keep_alive {
            transport = transport.http2_keep_alive_interval(interval).keep_alive_timeout(timeout);
        }
        let dial = self.dial.clone();
        let target = endpoint.clone();
        let connector = tower::service_fn(move |_| {
            let dialled = (dial.0)(target.clone());
            async move { dialled.await.map(TokioIo::new) }
        });
        tokio::time::timeout(self.connect_timeout, transport.connect_with_connector(connector))
            .await
            .map_err(|_| unreachable("connection timed out".to_owned()))?
            .map_err(|e| unreachable(fault::innermost(&e)))
    }
}
