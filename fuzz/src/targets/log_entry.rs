//! An entry of the log: any write that a client can send, as it is proposed and applied.

use bytes::Bytes;
use stentor_mvcc::engine::memory::Disk;
use stentor_mvcc::{Alarm, Error, KvHash, LeaseId, LogPosition, View, check};
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, RangeRequest,
    RequestOp, TxnRequest, compare, request_op,
};
use stentor_proto::log_entry::{self, ProposalId};
use stentor_proto::storagepb::{LogEntry, log_entry::Op};

use super::store;
use crate::{Outcome, Target};

/// Input: an entry as the log keeps it.
pub const LOG_ENTRY: Target = Target { name: "log_entry", decode, samples, refuses: true, cost: 1 };

fn decode(bytes: &[u8]) -> Outcome {
    let Ok((id, rest)) = log_entry::split(Bytes::copy_from_slice(bytes)) else { return Outcome::Refused };
    let Ok(entry) = log_entry::decode(rest) else { return Outcome::Refused };
    let again = log_entry::split(log_entry::encode(id, &entry)).and_then(|(again, rest)| {
        assert_eq!(again, id);
        log_entry::decode(rest)
    });
    assert_eq!(again, Ok(entry.clone()));
    if !passes(&entry) {
        return Outcome::Refused;
    }
    match applied_and_read_back(&entry) {
        Ok(()) => Outcome::Accepted,
        Err(e) => unreachable!("an entry that was checked fails the store: {e}: {entry:?}"),
    }
}

/// The checks that a server makes before it proposes.
fn passes(entry: &LogEntry) -> bool {
    match &entry.op {
        Some(Op::Put(put)) => check::put(put).is_ok(),
        Some(Op::DeleteRange(delete)) => check::delete_range(delete).is_ok(),
        Some(Op::Txn(txn)) => check::txn(txn, check::MAX_TXN_OPS).is_ok(),
        // The server chooses an id and raises the TTL.
        Some(Op::LeaseGrant(grant)) => grant.id != 0 && grant.ttl > 0,
        _ => true,
    }
}

/// Applies the entry, crashes and opens the store again: it must say the same as before.
fn applied_and_read_back(entry: &LogEntry) -> Result<(), Error> {
    let disk = Disk::new();
    let store = store::open(&disk)?;
    store::fill(&store)?;
    let before = store.view();
    let index = before.applied().index + 1;
    let outcomes = store.apply(std::slice::from_ref(entry), LogPosition { term: 1, index })?;
    let after = Content::of(&store.view())?;
    assert!([0, 1].contains(&(after.revision.get() - before.revision().get())), "an entry makes a revision or none");
    if outcomes.iter().any(Result::is_err) {
        assert_eq!(after.revision, before.revision(), "what is refused leaves no trace");
    }
    disk.crash();
    assert_eq!(Content::of(&store::open(&disk)?.view())?, after);
    Ok(())
}

/// All that can be seen of a store.
#[derive(Debug, PartialEq)]
struct Content {
    revision: Revision,
    compacted: Option<Revision>,
    applied: LogPosition,
    keys: u64,
    logical_bytes: u64,
    hash: KvHash,
    leases: Vec<(LeaseId, i64)>,
    attached: Vec<(Bytes, LeaseId)>,
    alarms: Vec<Alarm>,
}

impl Content {
    fn of(view: &View) -> Result<Content, Error> {
        let attached = view.leases().attached().map(|(key, lease)| (key.clone(), lease));
        Ok(Content {
            revision: view.revision(),
            compacted: view.compacted(),
            applied: view.applied(),
            keys: view.keys(),
            logical_bytes: view.logical_bytes(),
            hash: view.hash_kv(0)?,
            leases: sorted(view.leases().iter().map(|(id, lease)| (id, lease.ttl_seconds))),
            attached: sorted(attached),
            alarms: view.all_alarms().collect(),
        })
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items
}

fn samples() -> Vec<Vec<u8>> {
    let put = |key, lease| Op::Put(store::put(key, "5", lease));
    let op = |request| RequestOp { request: Some(request) };
    let txn = TxnRequest {
        compare: vec![Compare {
            key: "a".into(),
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Value.into(),
            target_union: Some(compare::TargetUnion::Value("2".into())),
            ..Default::default()
        }],
        success: vec![
            op(request_op::Request::RequestRange(RangeRequest {
                key: "a".into(),
                range_end: "z".into(),
                ..Default::default()
            })),
            op(request_op::Request::RequestTxn(TxnRequest {
                success: vec![op(request_op::Request::RequestPut(store::put("n", "6", 77)))],
                ..Default::default()
            })),
        ],
        failure: vec![op(request_op::Request::RequestDeleteRange(DeleteRangeRequest {
            key: "c".into(),
            ..Default::default()
        }))],
    };
    let delete = DeleteRangeRequest { key: "a".into(), range_end: "d".into(), prev_kv: true };
    let ops = [
        put("a", 0),
        put("new", 77),
        put("new", 78),
        Op::DeleteRange(delete),
        Op::Txn(txn),
        Op::Compact(CompactionRequest { revision: 5, physical: true }),
        Op::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 10 }),
        Op::LeaseRevoke(LeaseRevokeRequest { id: 77 }),
        store::alarm(),
        Op::Alarm(AlarmRequest { action: 2, member_id: 2, alarm: 1 }),
    ];
    let entry = |op| LogEntry { time_unix_ms: 1_790_000_000_001, user: "root".into(), only_in_term: 0, op: Some(op) };
    ops.into_iter().map(|op| log_entry::encode(ProposalId { member_id: 1, number: 2 }, &entry(op)).to_vec()).collect()
}
