//! Load for any etcd v3 endpoint, and what each unit of it costs the server.
//!
//! A [`workload`] puts watchers and writers of its kind on one [`target`] and returns
//! [`figures::Figures`]: the server's CPU per event first, since on a machine that both share the wall
//! clock tells of the generator too. [`compare`] runs it on Stentor and on etcd in turn.
//!
//! The generator itself must cost little: requests are encoded before, answers are scanned for just
//! what must be checked ([`scan`]), HTTP/2 is spoken without a gRPC library ([`connection`]). Readers
//! have one thread, writers another.

pub mod account;
pub mod bars;
pub mod chart;
pub mod clients;
pub mod clock;
pub mod compare;
pub mod connection;
pub mod figures;
pub mod histogram;
pub mod machine;
pub mod report;
pub mod scan;
pub mod schedule;
pub mod scratch;
pub mod stream;
pub mod target;
pub mod watchers;
pub mod wire;
pub mod work;
pub mod workload;
pub mod writers;
