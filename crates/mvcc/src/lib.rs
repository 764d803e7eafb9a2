//! stentor-mvcc: a multi-version key-value store.

mod change;
pub mod engine;
pub mod key_index;

pub use change::ChangeId;
