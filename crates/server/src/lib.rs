//! stentor-server: one member that speaks the etcd v3 protocol, as a library and as the binary
//! `stentor`.
//!
//! As a library it runs on one thread, without RocksDB, over any listener: engine, clock, randomness,
//! workers and network are parameters ([`environment::Environment`], [`net::Listener`]).

// The process and what it is told.
pub mod config;
#[cfg(all(feature = "binary", feature = "rocksdb"))]
mod data_dir;
mod failpoints;
pub mod logging;
#[cfg(all(feature = "binary", feature = "rocksdb"))]
pub mod process;
pub mod version;

// One member: its services and its health, on connections.
pub mod http;
pub mod member;
pub mod metrics;
pub mod net;
pub mod rpc;
mod services;
#[cfg(feature = "tls")]
pub mod tls;
pub mod watchers;

// A write's way, from the service to the store and back; and what else the core does.
mod checkpoints;
pub mod cluster;
mod compactor;
pub mod corruption;
mod gate;
mod lessor;
pub mod node;
pub mod peers;
mod quota;
pub mod reads;
pub mod replication;
pub mod storage;

pub mod environment;
