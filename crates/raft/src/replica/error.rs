//! What a member cannot do.

use crate::log::{LogError, Position, ReadError};

/// Why a member can't go on: it must be stopped, and started again.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The log could not be written.
    #[error("the log can't be written ({0}): see to the disk, then restart")]
    Log(#[from] LogError),
    /// An entry could not be read.
    #[error("the log can't be read: {0}")]
    Read(ReadError),
    /// What the store holds is not what the log goes on from.
    #[error(
        "the store is at entry {}, but the log has those from {} to {} only: restore a snapshot, or remove this \
         member and add it anew", .applied.index, .first, .last
    )]
    Apart {
        /// Of the store.
        applied: Position,
        /// The first entry of the log.
        first: u64,
        /// The last entry of the log.
        last: u64,
    },
    /// The library refuses what it was given: a mistake in this program.
    #[error("the Raft library refuses: {0}")]
    Library(String),
    /// A committed entry that is no change of the membership though it says so.
    #[error("entry {index} of the log is no change of the membership that can be read: {cause}")]
    Change {
        /// Of the entry.
        index: u64,
        /// What is wrong with it.
        cause: String,
    },
}

/// Why a proposal was not taken. It is certain that it will not be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no leader, or it is handing over or being removed.
    #[error("there is no leader")]
    NoLeader,
    /// Too much is waiting to be committed already.
    #[error("too much is waiting to be committed")]
    TooMuch,
}
