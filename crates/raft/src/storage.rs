//! The log as the library reads it.

use std::cell::RefCell;

use bytes::Bytes;
use raft::eraftpb::{self, EntryType};
use raft::{GetEntriesContext, RaftState, StorageError};

use crate::log::{self, Log, Position, ReadError, Unavailable};
use crate::membership::Membership;

/// The log with what else the library asks of it.
pub(crate) struct Storage {
    pub(crate) log: Log,
    /// Who takes part as of `applied`.
    pub(crate) membership: Membership,
    /// The last entry whose effects are in the store.
    pub(crate) applied: Position,
    /// The first entry that could not be read: the library can't be told of it in all places.
    pub(crate) failure: RefCell<Option<ReadError>>,
}

impl raft::Storage for Storage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let kept = self.log.hard_state();
        let mut state = eraftpb::HardState::default();
        (state.term, state.vote) = (kept.term.max(self.log.last().term), kept.vote);
        // What is applied was committed, though that need not have been written.
        state.commit = kept.commit.max(self.applied.index);
        Ok(RaftState::new(state, self.membership.to_raft()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        match self.log.entries(low, high, max_size.into().unwrap_or(u64::MAX)) {
            Ok(entries) => Ok(entries.into_iter().map(to_raft).collect()),
            Err(ReadError::Unavailable(unavailable)) => Err(unavailable.into()),
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                // The only answer that the library takes without giving up.
                Err(StorageError::LogTemporarilyUnavailable.into())
            }
        }
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.log.term(index).map_err(raft::Error::from)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.start().index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.last().index)
    }

    /// Only says what a snapshot must be of: the store's own is taken when it is sent.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<eraftpb::Snapshot> {
        if self.applied.index < request_index {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let mut snapshot = eraftpb::Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.applied.index;
        metadata.term = self.applied.term;
        metadata.set_conf_state(self.membership.to_raft());
        Ok(snapshot)
    }
}

impl From<Unavailable> for raft::Error {
    fn from(unavailable: Unavailable) -> raft::Error {
        match unavailable {
            Unavailable::Purged => StorageError::Compacted.into(),
            Unavailable::Beyond => StorageError::Unavailable.into(),
        }
    }
}

pub(crate) fn to_raft(entry: log::Entry) -> eraftpb::Entry {
    let mut to = eraftpb::Entry::default();
    to.set_entry_type(match entry.kind {
        log::EntryKind::Normal => EntryType::EntryNormal,
        log::EntryKind::Change => EntryType::EntryConfChange,
        log::EntryKind::ChangeV2 => EntryType::EntryConfChangeV2,
    });
    (to.term, to.index) = (entry.position.term, entry.position.index);
    (to.context, to.data) = (entry.context, entry.data);
    to
}

pub(crate) fn from_raft(entry: &eraftpb::Entry) -> log::Entry {
    log::Entry {
        position: position_of(entry),
        kind: match entry.get_entry_type() {
            EntryType::EntryNormal => log::EntryKind::Normal,
            EntryType::EntryConfChange => log::EntryKind::Change,
            EntryType::EntryConfChangeV2 => log::EntryKind::ChangeV2,
        },
        context: Bytes::clone(&entry.context),
        data: Bytes::clone(&entry.data),
    }
}

pub(crate) fn position_of(entry: &eraftpb::Entry) -> Position {
    Position { term: entry.term, index: entry.index }
}
