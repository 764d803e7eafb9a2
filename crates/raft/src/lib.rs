//! The replicated log of Stentor: opaque entries in one order, the same on every member of a cluster.
//!
//! The consensus protocol is a library's, behind this crate's own types so that it can be changed; what is
//! here joins it to a log on disk. [`Replica`] is one member's state machine: it has no clock, no task and
//! no socket. Whoever drives it hands it ticks, proposals and messages, then calls [`Replica::advance`],
//! which writes the log and hands out what is to be sent and applied. It knows nothing of what entries
//! mean.
//!
//! See docs/decisions/0009 for the choice of the library.

pub mod failpoints;
pub mod log;
mod logger;
mod membership;
mod message;
mod payload;
mod replica;
mod storage;
mod wire;

pub use membership::{Change, Membership};
pub use message::Message;
pub use payload::Payload;
pub use replica::{Committed, Follower, Options, Outputs, Refused, Replica, ReplicaError, Role, Standing};
pub use wire::WireError;
