//! The calls of each service with the protocol's own messages, over one connection to one member: for
//! tools that show or take every field, as `stentorctl` does. Behind the feature `raw`; no part of what
//! this crate promises to keep, since the messages are generated and grow with the protocol.
//!
//! It retries nothing by itself and a watch ends with its stream. Programs want the
//! [`Client`](crate::Client) of the crate instead.
//!
//! ```no_run
//! use stentor_client::raw::Client;
//! use stentor_client::raw::proto::etcdserverpb::{PutRequest, RangeRequest};
//!
//! # async fn example() -> Result<(), stentor_client::raw::Error> {
//! let client = Client::connect(["127.0.0.1:2379"]).await?;
//! client.kv().put(PutRequest { key: "hello".into(), value: "world".into(), ..Default::default() }).await?;
//! let found = client.kv().range(RangeRequest { key: "hello".into(), ..Default::default() }).await?;
//! assert_eq!(found.kvs[0].value, "world");
//! # Ok(())
//! # }
//! ```

mod auth;
mod call;
mod cluster;
mod connection;
mod introspection;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::sync::Arc;

pub use crate::endpoint::Endpoint;
pub use crate::fault::Fault as Error;
pub use cluster::Cluster;
pub use introspection::Introspection;
pub use kv::{Kv, RangeStream};
pub use lease::{Lease, LeaseKeepAlive};
pub use maintenance::{Maintenance, SnapshotStream};
pub use stentor_proto as proto;
pub use watch::{Watch, WatchStream};

use crate::ClientBuilder;
use connection::Connection;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// A connection to one member of a cluster. Cheap to clone; clones share the connection.
///
/// Dropping the future of a call abandons it: a write may still have been applied.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
}

impl Client {
    /// Connects with the defaults of a client, as [`by`](Self::by) does.
    ///
    /// # Errors
    /// As [`by`](Self::by).
    pub async fn connect<I, S>(endpoints: I) -> Result<Client>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        Client::by(crate::Client::builder(endpoints)).await
    }

    /// Connects as a builder says: with its timeouts of connecting and of calls, its pings, credentials, TLS and
    /// connector. What else it says is about what this client does not do.
    ///
    /// Tries the endpoints in the order given and keeps the first that answers. The connection is made again by
    /// itself, to the same endpoint, when a later call finds it broken.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`], [`Error::InvalidEndpoint`] and [`Error::Settings`] before anything is tried;
    /// [`Error::Unreachable`] when no endpoint answered, [`Error::Tls`] when one side did not trust the other;
    /// [`Error::Credentials`] and the server's refusal of them.
    pub async fn by(builder: ClientBuilder) -> Result<Client> {
        Ok(Client { connection: Arc::new(Connection::open(&builder).await?) })
    }

    /// The endpoint that this client is connected to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.connection.endpoint
    }

    /// Keys and values.
    pub fn kv(&self) -> Kv<'_> {
        Kv::new(&self.connection)
    }

    /// Leases.
    pub fn lease(&self) -> Lease<'_> {
        Lease::new(&self.connection)
    }

    /// Watches.
    pub fn watch(&self) -> Watch<'_> {
        Watch::new(&self.connection)
    }

    /// The member's own state: status, hashes, snapshots, alarms.
    pub fn maintenance(&self) -> Maintenance<'_> {
        Maintenance::new(&self.connection)
    }

    /// What only a Stentor tells of itself: its watchers.
    pub fn introspection(&self) -> Introspection<'_> {
        Introspection::new(&self.connection)
    }

    /// The cluster's members.
    pub fn cluster(&self) -> Cluster<'_> {
        Cluster::new(&self.connection)
    }
}
