//! stentor-raft: a replicated log of opaque entries.
//!
//! An existing Raft library decides; this crate gives it a log on disk ([`log`]) and joins both to a
//! transport. It knows nothing of keys and values: an entry is bytes.

pub mod log;
