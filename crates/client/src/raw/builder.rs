use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::Scheme;
use crate::raw::connection::Connection;
use crate::raw::{Client, Endpoint, Error, Result, auth};

/// How a [`Client`] connects and calls.
#[derive(Clone)]
#[must_use = "a builder does nothing until `connect` is called"]
pub struct ClientBuilder {
    pub(crate) endpoints: Vec<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) keep_alive: Option<(Duration, Duration)>,
    pub(crate) credentials: Option<(String, String)>,
}

impl ClientBuilder {
    pub(crate) fn new(endpoints: Vec<String>) -> ClientBuilder {
        ClientBuilder {
            endpoints,
            connect_timeout: Duration::from_secs(2),
            call_timeout: Some(Duration::from_secs(5)),
            keep_alive: Some((Duration::from_secs(10), Duration::from_secs(5))),
            credentials: None,
        }
    }

    /// How long one try to connect to one endpoint may take; 2 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a unary call may take from end to end; 5 s by default, `None` for no limit. Streams
    /// have none.
    pub fn call_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.call_timeout = timeout.into();
        self
    }

    /// Pings the server every `interval` while a call or stream is open, and gives the connection up
    /// when no answer came within `timeout`; 10 s and 5 s by default. An interval below 10 s is raised
    /// to that, since servers end connections that ping more often.
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.keep_alive = Some((interval.max(Duration::from_secs(10)), timeout));
        self
    }

    /// Logs in as `user` when connecting. A server on which authentication is off is used without.
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    /// Tries the endpoints in the order given and keeps the first that answers. The connection is made
    /// again by itself, to the same endpoint, when a later call finds it broken.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`], [`Error::InvalidEndpoint`] before anything is tried;
    /// [`Error::Unreachable`] when no endpoint answered; the server's refusal of the credentials.
    pub async fn connect(self) -> Result<Client> {
        let endpoints = self.endpoints.iter().map(|e| Ok(Endpoint::parse(e)?)).collect::<Result<Vec<_>>>()?;
        if let Some(encrypted) = endpoints.iter().find(|e| e.scheme() == Scheme::Https) {
            return Err(encrypted.invalid("TLS is not supported yet; use http://").into());
        }
        let mut last = Error::NoEndpoint;
        for endpoint in endpoints {
            match Connection::open(endpoint, &self).await {
                Ok(mut connection) => {
                    if let Some((user, password)) = &self.credentials {
                        connection.token = auth::log_in(&connection, user, password).await?;
                    }
                    return Ok(Client { connection: Arc::new(connection) });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("endpoints", &self.endpoints)
            .field("connect_timeout", &self.connect_timeout)
            .field("call_timeout", &self.call_timeout)
            .field("keep_alive", &self.keep_alive)
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_out_of_debug() {
        let builder = Client::builder(["a:1"]).credentials("root", "s3cret");
        let text = format!("{builder:?}");
        assert!(text.contains("root") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn pings_are_never_too_frequent() {
        let builder = Client::builder(["a:1"]).keep_alive(Duration::from_secs(2), Duration::from_secs(6));
        assert_eq!(builder.keep_alive, Some((Duration::from_secs(10), Duration::from_secs(6))));
    }
}
