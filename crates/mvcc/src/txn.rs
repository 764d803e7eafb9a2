//! Transactions: compares, the choice of branches, and the checks before anything runs.

use std::cmp::Ordering;

use stentor_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::response_op::Response;
use stentor_proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use stentor_proto::{EtcdError, KeyRange, Revision};

use crate::Error;
use crate::lease::LeaseId;
use crate::read::{self, RangeResult};
use crate::source::Source;

/// The branches that a transaction takes, its nested ones too, all decided on the state before it.
pub(crate) struct Path {
    /// The compares of this level held.
    pub(crate) succeeded: bool,
    /// One for each nested transaction of the chosen branch, in order.
    pub(crate) nested: Vec<Path>,
}

/// Whether the transaction is served as a read: only ranges at its top level.
///
/// ```
/// use stentor_mvcc::txn::{is_read_only, is_serializable};
/// use stentor_proto::etcdserverpb::TxnRequest;
/// // One without any operation reads, and reads the newest.
/// assert!(is_read_only(&TxnRequest::default()) && !is_serializable(&TxnRequest::default()));
/// ```
pub fn is_read_only(request: &TxnRequest) -> bool {
    let is_range = |op: &RequestOp| matches!(op.request, Some(Request::RequestRange(_)));
    request.success.iter().chain(&request.failure).all(is_range)
}

/// Whether a read-only transaction may be served from this member's own state: it has ranges, and all
/// are serializable. (etcd takes one without any operation for serializable too, so that its compares
/// may be stale; ours reads the newest.)
///
/// ```
/// use stentor_mvcc::txn::is_serializable;
/// use stentor_proto::etcdserverpb::request_op::Request;
/// use stentor_proto::etcdserverpb::{RangeRequest, RequestOp, TxnRequest};
/// let read = |serializable| {
///     let range = RangeRequest { key: "k".into(), serializable, ..Default::default() };
///     RequestOp { request: Some(Request::RequestRange(range)) }
/// };
/// let txn = |success| TxnRequest { success, ..Default::default() };
/// assert!(is_serializable(&txn(vec![read(true)])));
/// assert!(!is_serializable(&txn(vec![read(true), read(false)])));
/// ```
pub fn is_serializable(request: &TxnRequest) -> bool {
    let serializable = |op: &RequestOp| matches!(&op.request, Some(Request::RequestRange(r)) if r.serializable);
    let mut ops = request.success.iter().chain(&request.failure).peekable();
    ops.peek().is_some() && ops.all(serializable)
}

pub(crate) fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

/// Tests the compares and chooses the branches.
pub(crate) fn choose(source: &impl Source, request: &TxnRequest) -> Result<Path, Error> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(source, compare)? {
            succeeded = false;
            break;
        }
    }
    let mut nested = Vec::new();
    for op in branch(request, succeeded) {
        if let Some(Request::RequestTxn(inner)) = &op.request {
            nested.push(choose(source, inner)?);
        }
    }
    Ok(Path { succeeded, nested })
}

/// Tests a compare on the state as it is.
fn holds(source: &impl Source, compare: &Compare) -> Result<bool, Error> {
    let range = KeyRange::from_wire(compare.key.clone(), compare.range_end.clone());
    let target = CompareTarget::try_from(compare.target);
    let by_value = target == Ok(CompareTarget::Value);
    let mut keys = source.index().range(&range, Revision::MAX).peekable();
    if keys.peek().is_none() {
        // A missing value is not an empty one: no compare of values holds. The rest is zero.
        return Ok(!by_value && matches(compare, 0.cmp(&expected(compare))));
    }
    for (key, found) in keys {
        let ordering = match target {
            Ok(CompareTarget::Value) => {
                let pair = source.record(found.change)?.pair().map_err(|e| Error::unreadable(found.change, e))?;
                let expected = match &compare.target_union {
                    Some(TargetUnion::Value(value)) => &value[..],
                    _ => &[],
                };
                pair.value[..].cmp(expected)
            }
            Ok(CompareTarget::Mod) => found.change.revision.get().cmp(&expected(compare)),
            Ok(CompareTarget::Lease) => source.leases().of_key(key).map_or(0, LeaseId::get).cmp(&expected(compare)),
            // At the newest revision the index knows both.
            Ok(CompareTarget::Create) => found.newest.map_or(0, |g| g.create.get()).cmp(&expected(compare)),
            Ok(CompareTarget::Version) => found.newest.map_or(0, |g| g.version).cmp(&expected(compare)),
            Err(_) => Ordering::Equal,
        };
        if !matches(compare, ordering) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The number compared with: that of the target, or 0 where another or none is given, as etcd does.
fn expected(compare: &Compare) -> i64 {
    use CompareTarget as T;
    match (CompareTarget::try_from(compare.target), &compare.target_union) {
        (Ok(T::Version), Some(TargetUnion::Version(n)))
        | (Ok(T::Create), Some(TargetUnion::CreateRevision(n)))
        | (Ok(T::Mod), Some(TargetUnion::ModRevision(n)))
        | (Ok(T::Lease), Some(TargetUnion::Lease(n))) => *n,
        _ => 0,
    }
}

fn matches(compare: &Compare, ordering: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering == Ordering::Equal,
        Ok(CompareResult::Greater) => ordering == Ordering::Greater,
        Ok(CompareResult::Less) => ordering == Ordering::Less,
        Ok(CompareResult::NotEqual) => ordering != Ordering::Equal,
        Err(_) => true,
    }
}

/// Visits the operations of the chosen branches in order, nested ones in their place.
fn visit<'a>(
    request: &'a TxnRequest,
    path: &Path,
    check: &mut impl FnMut(&'a Request) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut nested = path.nested.iter();
    for op in branch(request, path.succeeded) {
        match &op.request {
            Some(Request::RequestTxn(inner)) => {
                if let Some(path) = nested.next() {
                    visit(inner, path, check)?;
                }
            }
            Some(other) => check(other)?,
            None => {}
        }
    }
    Ok(())
}

/// Tests the puts, then the ranges, of the chosen branches against the state before: one failing
/// leaves no trace of the transaction.
pub(crate) fn check(source: &impl Source, request: &TxnRequest, path: &Path) -> Result<(), Error> {
    visit(request, path, &mut |op| match op {
        Request::RequestPut(put) => check_put(source, put),
        _ => Ok(()),
    })?;
    visit(request, path, &mut |op| match op {
        Request::RequestRange(range) => check_range(source, range),
        _ => Ok(()),
    })
}

fn check_put(source: &impl Source, put: &PutRequest) -> Result<(), Error> {
    check_lease(source, put.lease)?;
    if (put.ignore_value || put.ignore_lease) && source.index().get(&put.key, Revision::MAX).is_none() {
        return Err(EtcdError::KeyNotFound.into());
    }
    Ok(())
}

/// A lease that is named must be there.
pub(crate) fn check_lease(source: &impl Source, lease: i64) -> Result<(), Error> {
    match LeaseId::new(lease) {
        Some(id) if source.leases().get(id).is_none() => Err(EtcdError::LeaseNotFound.into()),
        _ => Ok(()),
    }
}

fn check_range(source: &impl Source, range: &RangeRequest) -> Result<(), Error> {
    let compacted = source.compacted().map_or(-1, Revision::get);
    match range.revision {
        0 => Ok(()),
        revision if revision > source.current().get() => Err(EtcdError::FutureRev.into()),
        // Here a negative revision counts as compacted too.
        revision if revision < compacted => Err(EtcdError::Compacted.into()),
        _ => Ok(()),
    }
}

/// Runs a transaction that only reads.
pub(crate) fn run_read_only(source: &impl Source, request: &TxnRequest) -> Result<TxnResponse, Error> {
    let path = choose(source, request)?;
    check(source, request, &path)?;
    let mut responses = Vec::new();
    for op in branch(request, path.succeeded) {
        if let Some(Request::RequestRange(range)) = &op.request {
            responses.push(ResponseOp { response: Some(Response::ResponseRange(inner_range(source, range)?)) });
        }
    }
    Ok(TxnResponse { header: Some(revision_header(source.current())), succeeded: path.succeeded, responses })
}

/// A range inside a transaction, with the header that etcd gives it: the revision alone.
pub(crate) fn inner_range(source: &impl Source, range: &RangeRequest) -> Result<RangeResponse, Error> {
    Ok(read::range(source, range)?.into())
}

/// A header with nothing but a revision.
pub(crate) fn revision_header(revision: Revision) -> ResponseHeader {
    ResponseHeader { revision: revision.get(), ..ResponseHeader::default() }
}

impl From<RangeResult> for RangeResponse {
    /// The header has the revision alone; who answers fills in the rest.
    fn from(result: RangeResult) -> RangeResponse {
        RangeResponse {
            header: Some(revision_header(result.revision)),
            kvs: result.kvs,
            more: result.more,
            count: result.count,
        }
    }
}
