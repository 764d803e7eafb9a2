//! What the cases have come by.

use std::collections::BTreeMap;

use stentor_mvcc::Outcome;
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::RangeRequest;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::storagepb::{LogEntry, log_entry::Op};

use crate::model::{Found, Model};

/// Counts by name. Every name must be one of [`NAMES`].
#[derive(Debug, Default)]
pub(crate) struct Reached(BTreeMap<&'static str, u64>);

/// What a test of enough cases must come by; where some engine can't, its place says so.
pub(crate) const NAMES: &[&str] = &[
    "put",
    "delete",
    "delete of nothing",
    "txn",
    "txn changing nothing",
    "nested txn",
    "compact",
    "grant",
    "revoke with keys",
    "alarm raised",
    "refused: EmptyKey",
    "refused: ValueProvided",
    "refused: LeaseProvided",
    "refused: KeyNotFound",
    "refused: LeaseNotFound",
    "refused: LeaseExist",
    "refused: DuplicateKey",
    "refused: InvalidSortOption",
    "refused: NoSpace",
    "refused: Corrupt",
    "refused: Compacted",
    "refused: FutureRev",
    "txn taken back half-way",
    "put then delete in one revision",
    "delete then put in one revision",
    "lease moved",
    "lease detached",
    "previous value at the compacted revision",
    "tombstone at the compacted revision",
    "double change at the compacted revision",
    "read at an old revision",
    "read of a compacted revision refused",
    "more",
    "sorted and limited",
    "filtered",
    "held view outlived a compaction",
    "space work waited for a view",
    "space work in parts",
    "space work resumed after reopening",
    "space work finished",
    "newer compaction before the last was worked off",
    "crash lost entries",
    "lost entries applied again",
    "crash lost nothing",
    "reopened",
    "observer told",
    "opened from a checkpoint",
    "opened from a checkpoint and changes after it",
    "opened from a checkpoint, trimmed by a later compaction",
    "checkpoint overtaken by a compaction",
    "checkpoint outlived a crash that lost entries",
    "replaced by a snapshot",
    "replaced while a view was held",
    "snapshot left space work out",
];

impl Reached {
    pub(crate) fn note(&mut self, name: &'static str) {
        debug_assert!(NAMES.contains(&name), "{name} is not in the list");
        *self.0.entry(name).or_default() += 1;
    }

    pub(crate) fn note_if(&mut self, condition: bool, name: &'static str) {
        if condition {
            self.note(name);
        }
    }

    /// Notes why something was refused.
    pub(crate) fn refused(&mut self, error: stentor_proto::EtcdError) {
        let name = format!("refused: {error:?}");
        if let Some(name) = NAMES.iter().find(|n| **n == name) {
            self.note(name);
        }
    }

    pub(crate) fn add(&mut self, other: Reached) {
        for (name, times) in other.0 {
            *self.0.entry(name).or_default() += times;
        }
    }

    /// What was never come by.
    pub(crate) fn missing(&self, not_here: &[&str]) -> Vec<&'static str> {
        NAMES.iter().filter(|name| !self.0.contains_key(*name) && !not_here.contains(name)).copied().collect()
    }
}

impl Reached {
    /// What an entry did.
    pub(crate) fn note_entry(&mut self, entry: &LogEntry, outcome: &Outcome, before: &Model, after: &Model) {
        let events = &after.events[before.events.len()..];
        match (entry.op.as_ref(), outcome) {
            (_, Err(error)) => {
                self.refused(*error);
                self.note_if(after.taken_back.get() > before.taken_back.get(), "txn taken back half-way");
            }
            (Some(Op::Put(put)), Ok(_)) => {
                self.note("put");
                let lease = before.newest().get(&put.key).map_or(0, |old| old.lease);
                self.note_if(lease != 0 && put.lease != 0 && put.lease != lease, "lease moved");
                self.note_if(lease != 0 && put.lease == 0 && !put.ignore_lease, "lease detached");
            }
            (Some(Op::DeleteRange(_)), Ok(_)) => {
                self.note(if events.is_empty() { "delete of nothing" } else { "delete" });
            }
            (Some(Op::Txn(txn)), Ok(_)) => {
                self.note(if events.is_empty() { "txn changing nothing" } else { "txn" });
                let ops = txn.success.iter().chain(&txn.failure);
                self.note_if(
                    ops.into_iter().any(|op| matches!(op.request, Some(Request::RequestTxn(_)))),
                    "nested txn",
                );
            }
            (Some(Op::Compact(_)), Ok(_)) => self.note("compact"),
            (Some(Op::LeaseGrant(_)), Ok(_)) => self.note("grant"),
            (Some(Op::LeaseRevoke(_)), Ok(_)) => self.note_if(!events.is_empty(), "revoke with keys"),
            (Some(Op::Alarm(r)), Ok(_)) => self.note_if(r.action == 1, "alarm raised"),
            (Some(Op::Member(_)) | None, Ok(_)) => {}
        }
        for (i, second) in events.iter().enumerate() {
            for first in events[..i].iter().filter(|first| first.pair.key == second.pair.key) {
                self.note_if(!first.delete && second.delete, "put then delete in one revision");
                self.note_if(first.delete && !second.delete, "delete then put in one revision");
            }
        }
    }

    /// What the compacted revision looks like.
    pub(crate) fn note_compacted(&mut self, model: &Model) {
        let at: Vec<_> = model.events.iter().filter(|e| e.revision == model.compacted).collect();
        for (i, event) in at.iter().enumerate() {
            let had = model.state(event.revision - 1).contains_key(&event.pair.key);
            self.note_if(had, "previous value at the compacted revision");
            self.note_if(event.delete, "tombstone at the compacted revision");
            let again = at[..i].iter().any(|e| e.pair.key == event.pair.key);
            self.note_if(again, "double change at the compacted revision");
        }
    }

    /// What a range read asked for.
    pub(crate) fn note_range(&mut self, request: &RangeRequest, found: &Result<Found, EtcdError>, model: &Model) {
        let old = request.revision > 0 && request.revision < model.revision();
        match found {
            Err(error) => {
                self.refused(*error);
                self.note_if(*error == EtcdError::Compacted, "read of a compacted revision refused");
            }
            Ok(found) => {
                self.note_if(old && found.count > 0, "read at an old revision");
                self.note_if(found.more, "more");
                self.note_if(found.more && request.sort_target != 0, "sorted and limited");
                let filtered = found.count as usize > found.kvs.len() && !found.more && !request.count_only;
                self.note_if(filtered, "filtered");
            }
        }
    }
}
