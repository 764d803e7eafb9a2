//! What is wrong with a request by itself, whatever the store holds. Order and texts are etcd's.
//!
//! ```
//! use stentor_mvcc::check;
//! use stentor_proto::EtcdError;
//! use stentor_proto::etcdserverpb::{PutRequest, RangeRequest};
//! assert_eq!(check::put(&PutRequest::default()), Err(EtcdError::EmptyKey));
//! let sorted = RangeRequest { key: "k".into(), sort_target: 9, ..Default::default() };
//! assert_eq!(check::range(&sorted), Err(EtcdError::InvalidSortOption));
//! ```

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use stentor_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use stentor_proto::{EtcdError, KeyRange, RangeEnd};

/// How many compares, or operations of one branch, a transaction may have unless configured otherwise.
///
/// ```
/// use stentor_mvcc::check;
/// use stentor_proto::EtcdError;
/// use stentor_proto::etcdserverpb::{Compare, TxnRequest};
/// let compare = Compare { key: "k".into(), ..Default::default() };
/// let most = TxnRequest { compare: vec![compare; check::MAX_TXN_OPS], ..Default::default() };
/// assert_eq!(check::txn(&most, check::MAX_TXN_OPS), Ok(()));
/// assert_eq!(check::txn(&most, check::MAX_TXN_OPS - 1), Err(EtcdError::TooManyOps));
/// ```
pub const MAX_TXN_OPS: usize = 128;

/// Checks a range request.
///
/// ```
/// use stentor_mvcc::check;
/// use stentor_proto::EtcdError;
/// use stentor_proto::etcdserverpb::RangeRequest;
/// assert_eq!(check::range(&RangeRequest { key: "k".into(), ..Default::default() }), Ok(()));
/// assert_eq!(check::range(&RangeRequest::default()), Err(EtcdError::EmptyKey));
/// ```
///
/// # Errors
/// `EmptyKey`; `InvalidSortOption`.
pub fn range(request: &RangeRequest) -> Result<(), EtcdError> {
    if request.key.is_empty() {
        return Err(EtcdError::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err() {
        return Err(EtcdError::InvalidSortOption);
    }
    Ok(())
}

/// Checks a put.
///
/// ```
/// use stentor_mvcc::check;
/// use stentor_proto::EtcdError;
/// use stentor_proto::etcdserverpb::PutRequest;
/// let put = PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
/// assert_eq!(check::put(&put), Ok(()));
/// assert_eq!(check::put(&PutRequest { ignore_value: true, ..put }), Err(EtcdError::ValueProvided));
/// ```
///
/// # Errors
/// `EmptyKey`; `ValueProvided` or `LeaseProvided` beside what is to be ignored.
pub fn put(request: &PutRequest) -> Result<(), EtcdError> {
    if request.key.is_empty() {
        Err(EtcdError::EmptyKey)
    } else if request.ignore_value && !request.value.is_empty() {
        Err(EtcdError::ValueProvided)
    } else if request.ignore_lease && request.lease != 0 {
        Err(EtcdError::LeaseProvided)
    } else {
        Ok(())
    }
}

/// Checks a delete.
///
/// ```
/// use stentor_mvcc::check;
/// use stentor_proto::EtcdError;
/// use stentor_proto::etcdserverpb::DeleteRangeRequest;
/// assert_eq!(check::delete_range(&DeleteRangeRequest { key: "k".into(), ..Default::default() }), Ok(()));
/// assert_eq!(check::delete_range(&DeleteRangeRequest::default()), Err(EtcdError::EmptyKey));
/// ```
///
/// # Errors
/// `EmptyKey`.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), EtcdError> {
    if request.key.is_empty() { Err(EtcdError::EmptyKey) } else { Ok(()) }
}

/// Checks a transaction: its size, each operation, and that no key is written twice.
///
/// etcd overlooks two kinds of double change, a delete from a key onwards beside a put, and a put in a
/// nested transaction before a delete in a later one; so does this. The store bears both.
///
/// ```
/// use stentor_mvcc::check;
/// use stentor_proto::EtcdError;
/// use stentor_proto::etcdserverpb::request_op::Request;
/// use stentor_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};
/// let put = PutRequest { key: "k".into(), ..Default::default() };
/// let put = RequestOp { request: Some(Request::RequestPut(put)) };
/// let twice = TxnRequest { success: vec![put.clone(), put], ..Default::default() };
/// assert_eq!(check::txn(&twice, check::MAX_TXN_OPS), Err(EtcdError::DuplicateKey));
/// ```
///
/// # Errors
/// `TooManyOps`; those of its operations; `KeyNotFound` for an operation with nothing set; `DuplicateKey`.
pub fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), EtcdError> {
    ops(request, max_ops)?;
    writes(&request.success)?;
    writes(&request.failure)?;
    Ok(())
}

fn ops(request: &TxnRequest, max_ops: usize) -> Result<(), EtcdError> {
    let most = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = max_ops.checked_sub(most).ok_or(EtcdError::TooManyOps)?;
    if request.compare.iter().any(|c| c.key.is_empty()) {
        return Err(EtcdError::EmptyKey);
    }
    request.success.iter().chain(&request.failure).try_for_each(|op| match &op.request {
        Some(Request::RequestRange(r)) => range(r),
        Some(Request::RequestPut(r)) => put(r),
        Some(Request::RequestDeleteRange(r)) => delete_range(r),
        // What the outer level did not use is shared by each nested one.
        Some(Request::RequestTxn(r)) => ops(r, left),
        None => Err(EtcdError::KeyNotFound),
    })
}

/// The writes of one branch, or the first double change in it.
fn writes(branch: &[RequestOp]) -> Result<Writes, EtcdError> {
    let mut all = Writes::default();
    let requests = || branch.iter().filter_map(|op| op.request.as_ref());
    for request in requests() {
        if let Request::RequestDeleteRange(delete) = request {
            all.deletes.insert(delete);
        }
    }
    for request in requests() {
        let Request::RequestTxn(nested) = request else { continue };
        let then = writes(&nested.success)?;
        let otherwise = writes(&nested.failure)?;
        all.add_puts(then.puts.iter())?;
        // Only one arm runs: the same put in both is no double change.
        all.add_puts(otherwise.puts.iter().filter(|&key| !then.puts.contains(key)))?;
        all.deletes.merge(then.deletes);
        all.deletes.merge(otherwise.deletes);
    }
    for request in requests() {
        if let Request::RequestPut(put) = request {
            all.add_puts(std::iter::once(&put.key))?;
        }
    }
    Ok(all)
}

#[derive(Default)]
struct Writes {
    puts: HashSet<Bytes>,
    deletes: Intervals,
}

impl Writes {
    fn add_puts<'a>(&mut self, keys: impl Iterator<Item = &'a Bytes>) -> Result<(), EtcdError> {
        for key in keys {
            if self.deletes.contains(key) || !self.puts.insert(key.clone()) {
                return Err(EtcdError::DuplicateKey);
            }
        }
        Ok(())
    }
}

/// A union of intervals, so that a request full of deletes and puts is checked in n log n.
#[derive(Default)]
struct Intervals {
    /// Start to end, apart from each other.
    by_start: BTreeMap<Bytes, Bytes>,
}

impl Intervals {
    fn insert(&mut self, delete: &DeleteRangeRequest) {
        let range = KeyRange::from_wire(delete.key.clone(), delete.range_end.clone());
        match range.end() {
            RangeEnd::Single => {
                let mut end = range.start().to_vec();
                end.push(0);
                self.add(range.start().clone(), end.into());
            }
            RangeEnd::Before(end) => self.add(range.start().clone(), end.clone()),
            // The case that etcd overlooks.
            RangeEnd::Unbounded => {}
        }
    }

    fn add(&mut self, mut start: Bytes, mut end: Bytes) {
        if start >= end {
            return;
        }
        // Swallow every interval that touches this one, from the last that begins at or below its end.
        while let Some((s, e)) = self.by_start.range(..=end.clone()).next_back().map(|(s, e)| (s.clone(), e.clone())) {
            if e < start {
                break;
            }
            self.by_start.remove(&s);
            start = start.min(s);
            end = end.max(e);
        }
        self.by_start.insert(start, end);
    }

    fn contains(&self, key: &Bytes) -> bool {
        self.by_start.range(..=key.clone()).next_back().is_some_and(|(_, end)| key < end)
    }

    fn merge(&mut self, other: Intervals) {
        other.by_start.into_iter().for_each(|(start, end)| self.add(start, end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_op(key: &'static str) -> RequestOp {
        let put = PutRequest { key: key.into(), ..Default::default() };
        RequestOp { request: Some(Request::RequestPut(put)) }
    }

    fn delete_op(key: &'static str, end: &'static str) -> RequestOp {
        let delete = DeleteRangeRequest { key: key.into(), range_end: end.into(), ..Default::default() };
        RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        let txn = TxnRequest { compare: vec![], success, failure };
        RequestOp { request: Some(Request::RequestTxn(txn)) }
    }

    fn check(success: Vec<RequestOp>) -> Result<(), EtcdError> {
        txn(&TxnRequest { compare: vec![], success, failure: vec![] }, 4)
    }

    #[test]
    fn double_changes_are_refused() {
        let dup = Err(EtcdError::DuplicateKey);
        assert_eq!(check(vec![put_op("a"), put_op("b")]), Ok(()));
        assert_eq!(check(vec![put_op("a"), put_op("a")]), dup);
        assert_eq!(check(vec![put_op("a"), delete_op("a", "")]), dup);
        assert_eq!(check(vec![delete_op("a", "c"), put_op("b")]), dup);
        assert_eq!(check(vec![delete_op("a", "c"), put_op("c")]), Ok(()));
        assert_eq!(check(vec![delete_op("a", "c"), delete_op("b", "d")]), Ok(()));
        assert_eq!(check(vec![put_op("a"), nested(vec![put_op("a")], vec![])]), dup);
        assert_eq!(check(vec![nested(vec![put_op("a")], vec![put_op("a")])]), Ok(()));
        assert_eq!(check(vec![delete_op("a", ""), nested(vec![], vec![put_op("a")])]), dup);
        assert_eq!(check(vec![delete_op("a", ""), nested(vec![put_op("a")], vec![put_op("a")])]), dup);
        assert_eq!(check(vec![nested(vec![delete_op("a", "")], vec![]), nested(vec![put_op("a")], vec![])]), dup);
    }

    #[test]
    fn what_etcd_overlooks_passes() {
        assert_eq!(check(vec![delete_op("a", "\0"), put_op("b")]), Ok(()));
        assert_eq!(check(vec![nested(vec![put_op("a")], vec![]), nested(vec![delete_op("a", "")], vec![])]), Ok(()));
    }

    #[test]
    fn sizes_come_first_and_are_shared_by_nested_levels() {
        let five = || (0..5).map(|_| put_op("")).collect::<Vec<_>>();
        assert_eq!(check(five()), Err(EtcdError::TooManyOps));
        assert_eq!(check(vec![put_op("")]), Err(EtcdError::EmptyKey));
        let deep = nested(vec![nested(vec![nested(vec![put_op("a")], vec![])], vec![])], vec![]);
        assert_eq!(check(vec![deep]), Ok(()));
        let deeper =
            nested(vec![nested(vec![nested(vec![nested(vec![], vec![put_op("a")])], vec![])], vec![])], vec![]);
        assert_eq!(check(vec![deeper]), Err(EtcdError::TooManyOps));
        assert_eq!(check(vec![RequestOp { request: None }]), Err(EtcdError::KeyNotFound));
    }

    #[test]
    fn intervals_are_a_union() {
        let mut set = Intervals::default();
        for (start, end) in [("a", "c"), ("x", "z"), ("c", "d"), ("b", "y"), ("p", "o")] {
            set.add(start.into(), end.into());
        }
        assert_eq!(set.by_start.len(), 1);
        assert!(set.contains(&"a".into()) && set.contains(&"yy".into()) && !set.contains(&"z".into()));
    }
}
