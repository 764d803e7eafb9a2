//! Stentor beside a real etcd: the same random requests to both ([`differential`]), etcd's own tools
//! and clients against Stentor (the tests), kill -9 under load ([`crash`]), an end at each failpoint
//! ([`failpoints`]), three servers that fail one after the other ([`chaos`]), and links that fail ([`proxy`]).
//!
//! Nothing here knows Stentor's own crates but the protocol, and the checks that the simulation uses too: a
//! server is a binary that takes etcd's flags. So every test can be proved on etcd itself, by naming an etcd as the server under test.

pub mod chaos;
pub mod client;
pub mod crash;
pub mod differential;
pub mod failpoints;
pub mod launch;
pub mod peers;
pub mod process;
pub mod proxy;
pub mod stream;
