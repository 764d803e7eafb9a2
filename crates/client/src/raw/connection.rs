use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::ClientBuilder;
use crate::endpoint::{Line, Opened};
use crate::raw::{Endpoint, Error, Result, auth};

/// One open connection and what every call on it needs.
pub(crate) struct Connection {
    pub(crate) endpoint: Endpoint,
    pub(crate) channel: Channel,
    opened: Opened,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) token: Option<MetadataValue<Ascii>>,
}

impl Connection {
    /// To the first endpoint that answers, logged in.
    pub(crate) async fn open(builder: &ClientBuilder) -> Result<Connection> {
        let (endpoints, dial) = builder.dialling()?;
        let mut last = Error::NoEndpoint;
        for endpoint in endpoints {
            match dial.open(&endpoint, &Arc::<Line>::default()).await {
                Ok(opened) => {
                    let (channel, call_timeout) = (opened.channel.clone(), builder.call_timeout);
                    let mut connection = Connection { endpoint, channel, opened, call_timeout, token: None };
                    connection.token = auth::token(&connection, &builder.credentials).await?;
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(crate) fn error(&self, status: &tonic::Status) -> Error {
        self.opened.refusal.fault(status, &self.endpoint)
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
