//! The server in this process, on the memory engine, as clients meet it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;
mod serving;

mod answers;
mod cluster;
mod documents;
mod failures;
mod kv;
mod leases;
#[cfg(all(feature = "binary", feature = "rocksdb"))]
mod processes;
mod quota;
mod replication;
#[cfg(feature = "tls")]
mod tls;
mod watch;
