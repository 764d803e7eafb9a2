//! The space quota: what a write costs, and whether it still fits.

use stentor_mvcc::SMALL_OVERWRITE_BYTES;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};
use stentor_proto::storagepb::log_entry::Op;

use crate::config::Quota;

/// What a pair costs beside its key and value, and a lease; etcd's figures.
const PAIR_OVERHEAD: u64 = 256;
const LEASE_OVERHEAD: u64 = 64;

/// A sixteenth above the quota is kept for small overwrites of keys that are there: whoever must write a
/// little before it can compact is not locked out.
const HEAD_ROOM_SHARE: u64 = 16;

/// An alarm lifts by itself when no more than this share of the quota, in percent, is used.
const WELL_BELOW_PERCENT: u64 = 80;

/// The bytes that history may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpaceQuota {
    /// `None`: without bound.
    limit: Option<u64>,
}

impl SpaceQuota {
    pub(crate) fn new(quota: Quota) -> SpaceQuota {
        match quota {
            Quota::Bytes(bytes) => SpaceQuota { limit: Some(bytes) },
            Quota::Unlimited => SpaceQuota { limit: None },
        }
    }

    /// The quota in bytes as Status shows it; 0 for none.
    pub(crate) fn bytes(self) -> u64 {
        self.limit.unwrap_or(0)
    }

    /// Whether a write fits on top of what is used.
    pub(crate) fn fits(self, op: &Op, used: u64) -> bool {
        match (self.limit, cost(op)) {
            (Some(limit), Some(cost)) => used.saturating_add(cost) < limit,
            _ => true,
        }
    }

    /// Whether a write that doesn't fit is small enough for the head-room; that it overwrites what is
    /// there is tested by the caller, key by key.
    pub(crate) fn fits_head_room(self, op: &Op, used: u64) -> bool {
        let Some(limit) = self.limit else { return true };
        let small = |put: &PutRequest| put.key.len() + put.value.len() <= SMALL_OVERWRITE_BYTES;
        let all_small = match op {
            Op::Put(put) => small(put),
            Op::Txn(txn) => all_puts(txn, &small),
            _ => false,
        };
        all_small && used.saturating_add(cost(op).unwrap_or(0)) < limit.saturating_add(limit / HEAD_ROOM_SHARE)
    }

    /// Whether so little is used that an alarm can be lifted.
    pub(crate) fn is_well_above(self, used: u64) -> bool {
        self.limit.is_none_or(|limit| used <= limit / 100 * WELL_BELOW_PERCENT)
    }
}

/// Whether every put of a transaction, in any branch, satisfies `which`.
pub(crate) fn all_puts(txn: &TxnRequest, which: &impl Fn(&PutRequest) -> bool) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match &op.request {
        Some(Request::RequestPut(put)) => which(put),
        Some(Request::RequestTxn(nested)) => all_puts(nested, which),
        _ => true,
    })
}

/// What a write may take; `None` for one that takes nothing.
fn cost(op: &Op) -> Option<u64> {
    match op {
        Op::Put(put) => Some(put_cost(put)),
        Op::Txn(txn) => Some(txn_cost(txn)).filter(|cost| *cost > 0),
        Op::LeaseGrant(_) => Some(LEASE_OVERHEAD),
        _ => None,
    }
}

fn put_cost(put: &PutRequest) -> u64 {
    PAIR_OVERHEAD + (put.key.len() + put.value.len()) as u64
}

/// The dearer branch, nested transactions included.
fn txn_cost(txn: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| {
        let cost = |op: &RequestOp| match &op.request {
            Some(Request::RequestPut(put)) => put_cost(put),
            Some(Request::RequestTxn(nested)) => txn_cost(nested),
            _ => 0,
        };
        ops.iter().map(cost).fold(0, u64::saturating_add)
    };
    branch(&txn.success).max(branch(&txn.failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: usize) -> PutRequest {
        PutRequest { key: "k".into(), value: vec![0; bytes].into(), ..Default::default() }
    }

    fn txn(success: Vec<Request>, failure: Vec<Request>) -> TxnRequest {
        let ops = |requests: Vec<Request>| requests.into_iter().map(|r| RequestOp { request: Some(r) }).collect();
        TxnRequest { compare: vec![], success: ops(success), failure: ops(failure) }
    }

    /// etcd 22139: puts in nested transactions cost nothing there.
    #[test]
    fn nested_puts_cost_what_others_do() {
        let quota = SpaceQuota::new(Quota::Bytes(10_000));
        let inner = txn(vec![Request::RequestPut(put(9_800))], vec![]);
        let outer = Op::Txn(txn(vec![], vec![Request::RequestTxn(inner)]));
        assert!(!quota.fits(&outer, 0));
        assert!(quota.fits(&Op::Put(put(9_000)), 0));
        assert!(!quota.fits(&Op::Put(put(9_000)), 1_000));
        let both = txn(vec![Request::RequestPut(put(5_000))], vec![Request::RequestPut(put(5_000))]);
        assert!(quota.fits(&Op::Txn(both), 0));
    }

    #[test]
    fn what_frees_space_always_fits() {
        let quota = SpaceQuota::new(Quota::Bytes(1));
        assert!(quota.fits(&Op::Txn(txn(vec![], vec![])), 100));
        assert!(quota.fits(&Op::DeleteRange(Default::default()), 100));
        assert!(quota.fits(&Op::Compact(Default::default()), 100));
        assert!(!quota.fits(&Op::LeaseGrant(Default::default()), 100));
        assert!(SpaceQuota::new(Quota::Unlimited).fits(&Op::Put(put(1 << 20)), u64::MAX));
    }

    #[test]
    fn head_room_is_for_small_overwrites_and_ends() {
        let quota = SpaceQuota::new(Quota::Bytes(16_000));
        assert!(quota.fits_head_room(&Op::Put(put(100)), 16_000));
        assert!(!quota.fits_head_room(&Op::Put(put(2_000)), 16_000));
        assert!(!quota.fits_head_room(&Op::Put(put(100)), 17_000));
        assert!(quota.is_well_above(12_000) && !quota.is_well_above(13_000));
    }
}
