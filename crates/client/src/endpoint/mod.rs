//! Which member is asked, over which connection.
//!
//! Connections are kept apart by what they are for ([`Class`]), so that a large list does not hold up
//! events or a lease's renewal. What is known of an endpoint comes from the calls made on it
//! ([`health`], which does no I/O); one that failed is left alone by everybody but its one prober
//! until that finds it well again.

mod address;
mod dial;
mod health;
mod names;
mod pings;
mod pool;

pub(crate) use address::Scheme;
pub use address::{Endpoint, InvalidEndpoint};
pub(crate) use dial::{Dial, DialOptions};
#[cfg(feature = "tls")]
pub(crate) use dial::{Io, Refusal};
#[cfg(feature = "raw")]
pub(crate) use dial::{Line, Opened};
pub(crate) use health::Trouble;
pub(crate) use names::Names;
pub(crate) use pings::KeepAlive;
pub(crate) use pool::{Connection, Pool, PoolOptions, Route};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Small calls.
    Call,
    /// Lists, which may be large.
    Bulk,
    /// Watch streams.
    Watch,
    /// Leases, whose renewals must not wait.
    Lease,
}
