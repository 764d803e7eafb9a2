//! Transactions: nested, too long, contradicting themselves.

use bytes::Bytes;
use rand::Rng;
use stentor_proto::etcdserverpb::compare::TargetUnion;
use stentor_proto::etcdserverpb::request_op::Request as Op;
use stentor_proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};

use super::Generator;
use crate::differential::answer::CHOSEN;

/// Levels of nested transactions below the first.
const DEEPEST: u32 = 3;

impl Generator {
    pub(super) fn txn(&mut self) -> TxnRequest {
        let mut txn = match self.rng.random_range(0..100) {
            0..86 => self.level(DEEPEST),
            86..90 => self.long(),
            90..95 => self.twice(),
            _ => TxnRequest { compare: self.compares(), ..TxnRequest::default() },
        };
        // A put that ignores what a delete of the same transaction has taken away stops an etcd for
        // good: its check looks at the state before, its put at the state then.
        if deletes(&txn) {
            no_ignoring(&mut txn);
        }
        txn
    }

    fn level(&mut self, depth: u32) -> TxnRequest {
        let compare = self.compares();
        let success = self.branch(depth);
        let failure = self.branch(depth);
        TxnRequest { compare, success, failure }
    }

    fn branch(&mut self, depth: u32) -> Vec<RequestOp> {
        let count = self.pick(&[0, 1, 1, 2, 2, 3, 4], 1);
        (0..count).map(|_| RequestOp { request: self.op(depth) }).collect()
    }

    fn op(&mut self, depth: u32) -> Option<Op> {
        match self.rng.random_range(0..100) {
            0..30 => Some(Op::RequestRange(self.range_in_txn())),
            30..64 => Some(Op::RequestPut(self.put_in_txn())),
            64..80 => Some(Op::RequestDeleteRange(self.delete_range())),
            80..99 if depth > 0 => Some(Op::RequestTxn(self.level(depth - 1))),
            80..99 => Some(Op::RequestPut(self.put_in_txn())),
            _ => None,
        }
    }

    /// Errors are rarer than alone: one is enough to refuse the whole transaction.
    fn range_in_txn(&mut self) -> stentor_proto::etcdserverpb::RangeRequest {
        let mut range = self.range();
        if self.chance(70) {
            range.revision = 0;
        }
        if self.old_etcd || self.chance(90) {
            range.sort_order = range.sort_order.clamp(0, 2);
            range.sort_target = range.sort_target.clamp(0, 4);
        }
        range
    }

    fn put_in_txn(&mut self) -> PutRequest {
        let mut put = self.put();
        if self.chance(80) {
            put.lease = 0;
            put.ignore_lease = false;
            put.ignore_value = false;
        }
        // Keys of its own, so that not every transaction has the same key twice.
        if self.chance(60) {
            put.key = format!("t/{}", self.rng.random_range(0..30)).into();
        }
        put
    }

    fn compares(&mut self) -> Vec<Compare> {
        let count = self.pick(&[0, 0, 1, 1, 1, 2, 3], 1);
        (0..count).map(|_| self.compare()).collect()
    }

    fn compare(&mut self) -> Compare {
        let (key, mut range_end) = self.interval();
        if self.chance(60) {
            range_end.clear();
        }
        let result = if self.chance(2) { 9 } else { self.rng.random_range(0..4) };
        let target = if self.chance(2) { 9 } else { self.rng.random_range(0..5) };
        // A union that is not the target's counts as zero; none at all too.
        let union = if self.chance(5) { self.rng.random_range(0..6) } else { target };
        let target_union = match union {
            0 => Some(TargetUnion::Version(self.rng.random_range(-1..5))),
            1 => Some(TargetUnion::CreateRevision(self.known_revision())),
            2 => Some(TargetUnion::ModRevision(self.known_revision())),
            3 => Some(TargetUnion::Value(self.short_value())),
            4 => Some(TargetUnion::Lease(self.lease_to_compare(result))),
            _ => None,
        };
        Compare { result, target, key, range_end, target_union }
    }

    fn known_revision(&mut self) -> i64 {
        if self.chance(30) { 0 } else { self.odd_revision() }
    }

    fn short_value(&mut self) -> Bytes {
        let value = self.value();
        if value.len() > 10 { Bytes::from_static(b"v1") } else { value }
    }

    /// An id that the servers chose is known by another number here, so it has no order.
    fn lease_to_compare(&mut self, result: i32) -> i64 {
        let lease = self.lease();
        if lease >= CHOSEN && matches!(result, 1 | 2) { 5 } else { lease }
    }

    /// Around the limit of 128, by operations of one level or of two.
    fn long(&mut self) -> TxnRequest {
        let count = self.pick(&[127, 128, 129, 130], 128);
        let put = |n: usize| {
            let put = PutRequest { key: format!("long/{n:03}").into(), ..PutRequest::default() };
            RequestOp { request: Some(Op::RequestPut(put)) }
        };
        let mut txn = TxnRequest::default();
        match self.rng.random_range(0..4) {
            0 => txn.success = (0..count).map(put).collect(),
            1 => txn.failure = (0..count).map(put).collect(),
            2 => txn.compare = (0..count).map(|_| self.compare()).collect(),
            _ => {
                let inner = TxnRequest { success: (0..64).map(put).collect(), ..TxnRequest::default() };
                txn.success = (64..count).map(put).collect();
                txn.success.push(RequestOp { request: Some(Op::RequestTxn(inner)) });
            }
        }
        txn
    }

    /// One key changed twice in one revision, in the two ways that etcd overlooks.
    fn twice(&mut self) -> TxnRequest {
        let key = self.key();
        let put = PutRequest { key: key.clone(), value: Bytes::from_static(b"twice"), ..PutRequest::default() };
        let put = Op::RequestPut(put);
        let from_key = DeleteRangeRequest { key: key.clone(), range_end: Bytes::from_static(b"\0"), prev_kv: true };
        let one = DeleteRangeRequest { key, prev_kv: true, ..DeleteRangeRequest::default() };
        let nested = |op: Op| {
            let success = vec![RequestOp { request: Some(op) }];
            Op::RequestTxn(TxnRequest { success, ..TxnRequest::default() })
        };
        let ops = match self.rng.random_range(0..4) {
            0 => vec![Op::RequestDeleteRange(from_key), put],
            1 => vec![put, Op::RequestDeleteRange(from_key)],
            2 => vec![nested(put), nested(Op::RequestDeleteRange(one))],
            _ => vec![nested(Op::RequestDeleteRange(one)), nested(put)],
        };
        let success = ops.into_iter().map(|op| RequestOp { request: Some(op) }).collect();
        TxnRequest { success, ..TxnRequest::default() }
    }
}

fn deletes(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Op::RequestDeleteRange(_)) => true,
        Some(Op::RequestTxn(txn)) => deletes(txn),
        _ => false,
    })
}

fn no_ignoring(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Op::RequestPut(put)) => (put.ignore_value, put.ignore_lease) = (false, false),
            Some(Op::RequestTxn(txn)) => no_ignoring(txn),
            _ => {}
        }
    }
}
