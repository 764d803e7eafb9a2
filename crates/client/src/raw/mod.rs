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
mod builder;
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
pub use builder::ClientBuilder;
pub use cluster::Cluster;
pub use introspection::Introspection;
pub use kv::{Kv, RangeStream};
pub use lease::{Lease, LeaseKeepAlive};
pub use maintenance::{Maintenance, SnapshotStream};
pub use stentor_proto as proto;
pub use watch::{Watch, WatchStream};

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
    /// Connects with the defaults of [`ClientBuilder`].
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect<I, S>(endpoints: I) -> Result<Client>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        Client::builder(endpoints).connect().await
    }

    /// A client for these endpoints, each `host:port` or `http://host:port`.
    pub fn builder<I, S>(endpoints: I) -> ClientBuilder
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        ClientBuilder::new(endpoints.into_iter().map(|e| e.as_ref().to_owned()).collect())
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
