//! Steps from a seed. Revisions in them are choices that `resolve` turns into revisions around those of
//! the store, so that a step means something wherever it stands.

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use stentor_proto::etcdserverpb::compare::TargetUnion;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest,
};
use stentor_proto::storagepb::log_entry::Op;

/// One step of a case.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Entries applied as one group.
    Group(Vec<Op>),
    /// One operation through the store's own front.
    Execute(Op),
    Range(RangeRequest),
    ReadTxn(TxnRequest),
    /// The hash at a revision.
    Hash(i64),
    /// Take a view and keep it.
    Hold,
    /// Check the oldest held view and let it go.
    Release,
    /// Compare everything.
    Verify,
    /// Space work on this many records.
    Work(usize),
    /// Make everything durable.
    Flush,
    /// Let the system make everything durable by itself, where that can be told to it.
    WriteBack,
    /// Write the index to a checkpoint.
    Checkpoint,
    Defragment,
    /// Put a copy made by a snapshot in the store's place.
    Replace,
    /// Close and open again.
    Reopen,
    /// Crash the host and open again; then apply what was lost once more, or go on without.
    Crash {
        apply_again: bool,
    },
}

pub(crate) fn steps(rng: &mut StdRng, count: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = (0..count).map(|_| step(rng)).collect();
    if rng.random_bool(0.5) {
        // Space work to its end, before the last look.
        steps.extend([Step::Work(1000), Step::Work(1000)]);
    }
    steps.push(Step::Verify);
    steps
}

fn step(rng: &mut StdRng) -> Step {
    match rng.random_range(0..100) {
        0..=43 => Step::Group((0..rng.random_range(1..=3)).map(|_| op(rng)).collect()),
        44..=54 => Step::Execute(op(rng)),
        55..=64 => Step::Range(range(rng)),
        65..=67 => Step::ReadTxn(read_only_txn(rng)),
        68..=69 => Step::Hash(revision(rng)),
        70..=72 => Step::Hold,
        73..=75 => Step::Release,
        76..=77 => Step::Verify,
        78..=83 => Step::Work(*[1, 1, 2, 3, 5, 1000].choose(rng).unwrap()),
        84..=86 => Step::Checkpoint,
        87 => Step::Flush,
        88..=89 => Step::WriteBack,
        90 => Step::Defragment,
        91..=92 => Step::Replace,
        93..=94 => Step::Reopen,
        _ => Step::Crash { apply_again: rng.random_bool(0.7) },
    }
}

fn op(rng: &mut StdRng) -> Op {
    match rng.random_range(0..100) {
        0..=34 => Op::Put(put(rng)),
        35..=44 => Op::DeleteRange(delete(rng)),
        45..=69 => Op::Txn(txn(rng, 3)),
        70..=81 => Op::Compact(CompactionRequest { revision: revision(rng), physical: false }),
        82..=89 => Op::LeaseGrant(LeaseGrantRequest { ttl: rng.random_range(1..100), id: lease(rng) }),
        90..=94 => Op::LeaseRevoke(LeaseRevokeRequest { id: lease(rng) }),
        _ => Op::Alarm(AlarmRequest {
            // Raised alarms stop most of what follows, so they are lifted more often.
            action: *[0, 1, 2, 2, 2].choose(rng).unwrap(),
            member_id: rng.random_range(0..2),
            alarm: *[1, 1, 1, 2, 0].choose(rng).unwrap(),
        }),
    }
}

const KEYS: [&[u8]; 9] = [b"a", b"a\0", b"ab", b"b", b"c", b"cc", b"\xff", b"\xff\xff", b"z"];
const ENDS: [&[u8]; 8] = [b"", b"\0", b"\0", b"b", b"c", b"b\0", b"\xff", b"z"];

fn key(rng: &mut StdRng) -> Bytes {
    if rng.random_bool(0.01) {
        return Bytes::new();
    }
    // Few keys, so that each lives through something.
    let known = if rng.random_bool(0.7) { 4 } else { KEYS.len() };
    Bytes::from_static(KEYS[rng.random_range(0..known)])
}

fn ends(rng: &mut StdRng) -> (Bytes, Bytes) {
    if rng.random_bool(0.1) {
        return (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    }
    (key(rng), Bytes::from_static(ENDS[rng.random_range(0..ENDS.len())]))
}

fn value(rng: &mut StdRng) -> Bytes {
    match rng.random_range(0..12) {
        0 => Bytes::new(),
        1 => Bytes::from(vec![b'x'; 1100]),
        n => Bytes::from(format!("v{n}")),
    }
}

/// A lease's id; few.
fn lease(rng: &mut StdRng) -> i64 {
    *[1, 2, -3].choose(rng).unwrap()
}

/// A choice of revision: see `resolve`.
pub(crate) fn revision(rng: &mut StdRng) -> i64 {
    rng.random_range(0..40)
}

fn put(rng: &mut StdRng) -> PutRequest {
    let ignore_value = rng.random_bool(0.1);
    let ignore_lease = rng.random_bool(0.1);
    let mut put = PutRequest {
        key: key(rng),
        value: value(rng),
        lease: if rng.random_bool(0.3) { lease(rng) } else { 0 },
        prev_kv: rng.random_bool(0.3),
        ignore_value,
        ignore_lease,
    };
    if rng.random_bool(0.97) {
        if ignore_value {
            put.value = Bytes::new();
        }
        if ignore_lease {
            put.lease = 0;
        }
    }
    put
}

fn delete(rng: &mut StdRng) -> DeleteRangeRequest {
    let (key, range_end) = ends(rng);
    DeleteRangeRequest { key, range_end, prev_kv: rng.random_bool(0.3) }
}

pub(crate) fn range(rng: &mut StdRng) -> RangeRequest {
    let (key, range_end) = if rng.random_bool(0.4) { (b"\0"[..].into(), b"\0"[..].into()) } else { ends(rng) };
    let mut request = RangeRequest {
        key,
        range_end,
        limit: *[0, 0, 0, 1, 2, 3, -1].choose(rng).unwrap(),
        revision: if rng.random_bool(0.5) { 0 } else { revision(rng) },
        sort_order: rng.random_range(0..3),
        sort_target: rng.random_range(0..5),
        keys_only: rng.random_bool(0.2),
        count_only: rng.random_bool(0.1),
        ..RangeRequest::default()
    };
    if rng.random_bool(0.3) {
        request.sort_order = 0;
        request.sort_target = 0;
    }
    if rng.random_bool(0.25) {
        let r = &mut request;
        let bounds =
            [&mut r.min_mod_revision, &mut r.max_mod_revision, &mut r.min_create_revision, &mut r.max_create_revision];
        for bound in bounds {
            if rng.random_bool(0.4) {
                *bound = revision(rng);
            }
        }
    }
    if rng.random_bool(0.01) {
        request.sort_order = 7;
    }
    request
}

fn compare(rng: &mut StdRng) -> Compare {
    let (key, range_end) = ends(rng);
    let number = *[0, 1, 2, 3].choose(rng).unwrap();
    let target = rng.random_range(0..5);
    let union = if rng.random_bool(0.9) { target } else { rng.random_range(0..6) };
    let target_union = match union {
        0 => Some(TargetUnion::Version(number)),
        1 => Some(TargetUnion::CreateRevision(revision(rng))),
        2 => Some(TargetUnion::ModRevision(revision(rng))),
        3 => Some(TargetUnion::Value(value(rng))),
        4 => Some(TargetUnion::Lease(*[0, 1, 2, -3].choose(rng).unwrap())),
        _ => None,
    };
    Compare {
        result: rng.random_range(0..4),
        target,
        key,
        range_end: if rng.random_bool(0.5) { Bytes::new() } else { range_end },
        target_union,
    }
}

pub(crate) fn txn(rng: &mut StdRng, depth: usize) -> TxnRequest {
    let branch = |rng: &mut StdRng| {
        let mut ops: Vec<RequestOp> = (0..rng.random_range(0..=4)).map(|_| request_op(rng, depth)).collect();
        if rng.random_bool(0.08) {
            ops.extend(overlooked(rng));
        }
        ops
    };
    TxnRequest {
        compare: (0..rng.random_range(0..=2)).map(|_| compare(rng)).collect(),
        success: branch(rng),
        failure: branch(rng),
    }
}

/// A double change that etcd overlooks: a key that is deleted from there on and put again, perhaps with
/// what it had, which it then no longer has.
fn overlooked(rng: &mut StdRng) -> [RequestOp; 2] {
    let key = Bytes::from_static(KEYS[rng.random_range(0..4)]);
    let delete = DeleteRangeRequest { key: key.clone(), range_end: Bytes::from_static(b"\0"), prev_kv: true };
    let put = PutRequest { key, ignore_value: rng.random_bool(0.4), prev_kv: true, ..PutRequest::default() };
    [Request::RequestDeleteRange(delete), Request::RequestPut(put)].map(|op| RequestOp { request: Some(op) })
}

fn request_op(rng: &mut StdRng, depth: usize) -> RequestOp {
    let request = match rng.random_range(0..100) {
        0..=29 => Request::RequestPut(put(rng)),
        30..=49 => Request::RequestDeleteRange(delete(rng)),
        50..=74 if depth > 1 => Request::RequestTxn(txn(rng, depth - 1)),
        75 => return RequestOp { request: None },
        _ => Request::RequestRange(in_txn(rng)),
    };
    RequestOp { request: Some(request) }
}

/// Most ranges in a transaction read the newest, or each would fail one sooner or later.
fn in_txn(rng: &mut StdRng) -> RangeRequest {
    let mut request = range(rng);
    if rng.random_bool(0.6) {
        request.revision = 0;
    }
    request
}

fn read_only_txn(rng: &mut StdRng) -> TxnRequest {
    let branch = |rng: &mut StdRng| {
        (0..rng.random_range(0..3)).map(|_| RequestOp { request: Some(Request::RequestRange(in_txn(rng))) }).collect()
    };
    TxnRequest {
        compare: (0..rng.random_range(0..=2)).map(|_| compare(rng)).collect(),
        success: branch(rng),
        failure: branch(rng),
    }
}
