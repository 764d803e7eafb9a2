use std::fmt;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::fault;
use crate::raw::{ClientBuilder, Endpoint, Error, Result};

/// One open connection and what every call on it needs.
pub(crate) struct Connection {
    pub(crate) endpoint: Endpoint,
    pub(crate) channel: Channel,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) token: Option<MetadataValue<Ascii>>,
}

impl Connection {
    /// Connects to `endpoint`, within the connect timeout.
    pub(crate) async fn open(endpoint: Endpoint, options: &ClientBuilder) -> Result<Connection> {
        let unreachable = |reason| Error::Unreachable { endpoint: endpoint.to_string(), reason };
        let mut transport = Channel::builder(endpoint.uri().clone())
            .connect_timeout(options.connect_timeout)
            .tcp_nodelay(true)
            .keep_alive_while_idle(false);
        if let Some((interval, timeout)) = options.keep_alive {
            transport = transport.http2_keep_alive_interval(interval).keep_alive_timeout(timeout);
        }
        // The transport's own limit does not cover an HTTP/2 handshake that never ends.
        let channel = tokio::time::timeout(options.connect_timeout, transport.connect())
            .await
            .map_err(|_| unreachable("connection timed out".to_owned()))?
            .map_err(|e| unreachable(fault::innermost(&e)))?;
        Ok(Connection { endpoint, channel, call_timeout: options.call_timeout, token: None })
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("endpoint", &self.endpoint)
            .field("call_timeout", &self.call_timeout)
            .field("authenticated", &self.token.is_some())
            .finish_non_exhaustive()
    }
}
