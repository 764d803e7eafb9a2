//! What an entry of the log holds.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::ConfChange;

use crate::log::{Entry, EntryKind};
use crate::membership::Change;
use crate::replica::ReplicaError;

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Nothing,
    /// What was proposed.
    Entry(Bytes),
    /// A change of the membership, with what was proposed beside it.
    /// [`Replica::apply_change`](crate::Replica::apply_change) follows.
    Change(Change, Bytes),
}

impl Payload {
    /// What this entry holds.
    ///
    /// # Errors
    /// [`ReplicaError::Change`] if it says that it is a change of the membership, and can't be read as one.
    pub fn of(entry: Entry) -> Result<Payload, ReplicaError> {
        let index = entry.position.index;
        match entry.kind {
            EntryKind::Normal if entry.data.is_empty() => Ok(Payload::Nothing),
            EntryKind::Normal => Ok(Payload::Entry(entry.data)),
            EntryKind::Change => {
                let mut change = ConfChange::default();
                let read = change.merge_from_bytes(&entry.data);
                read.map_err(|error| ReplicaError::Change { index, cause: error.to_string() })?;
                Ok(Payload::Change(Change::from_raft(&change), change.context))
            }
            EntryKind::ChangeV2 => {
                Err(ReplicaError::Change { index, cause: "of a kind that is never proposed".to_owned() })
            }
        }
    }
}
