use std::fmt;

use bytes::Bytes;
use stentor_proto::KeyRange as Interval;
use stentor_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp};

use crate::error::{Error, ErrorKind, Result};
use crate::namespace::Namespace;
use crate::txn::Nested;
use crate::{KeyRange, LeaseId, Revision};

/// One step of a [`Txn`](crate::txn::Txn): made from what [`get`], [`list`], [`put`], [`delete`] and
/// [`nested`](crate::txn::nested) give.
#[derive(Clone, Debug)]
pub struct Op(pub(super) Kind);

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Get(GetOp),
    List(ListOp),
    Put(PutOp),
    Delete(DeleteOp),
    Nested(Nested),
}

/// A read of one key in a transaction; see [`get`].
#[derive(Clone)]
pub struct GetOp(RangeRequest);

/// A read of a range in a transaction; see [`list`].
#[derive(Clone)]
pub struct ListOp {
    range: KeyRange,
    pub(super) limit: Option<usize>,
    options: RangeRequest,
}

/// A write in a transaction; see [`put`].
#[derive(Clone)]
pub struct PutOp(pub(crate) PutRequest);

/// A deletion in a transaction; see [`delete`].
#[derive(Clone)]
pub struct DeleteOp {
    range: KeyRange,
    prev_kv: bool,
}

/// Reads one key; the result is [`OpResult::Get`](crate::txn::OpResult::Get).
pub fn get(key: impl Into<Bytes>) -> GetOp {
    GetOp(RangeRequest { key: key.into(), ..RangeRequest::default() })
}

/// Reads a range, all of it in one message; the result is [`OpResult::List`](crate::txn::OpResult::List).
pub fn list(range: impl Into<KeyRange>) -> ListOp {
    ListOp { range: range.into(), limit: None, options: RangeRequest::default() }
}

/// Creates or changes a key; the result is [`OpResult::Put`](crate::txn::OpResult::Put).
pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> PutOp {
    PutOp(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() })
}

/// Deletes a key or a range; the result is [`OpResult::Delete`](crate::txn::OpResult::Delete).
pub fn delete(range: impl Into<KeyRange>) -> DeleteOp {
    DeleteOp { range: range.into(), prev_kv: false }
}

impl GetOp {
    /// As it was at a revision, not as the steps before have left it.
    pub fn at(mut self, revision: Revision) -> Self {
        self.0.revision = revision.get();
        self
    }
}

impl ListOp {
    /// As it was at a revision, not as the steps before have left it.
    pub fn at(mut self, revision: Revision) -> Self {
        self.options.revision = revision.get();
        self
    }

    /// At most this many pairs, the first in the order of their keys; at least one.
    pub fn limit(mut self, pairs: usize) -> Self {
        self.limit = Some(pairs.max(1));
        self
    }

    /// Leaves the values out.
    pub fn keys_only(mut self) -> Self {
        self.options.keys_only = true;
        self
    }

    /// Only keys that were created before this revision.
    pub fn created_before(mut self, revision: Revision) -> Self {
        // Zero would mean no bound to the server; no key is created at a revision below it.
        self.options.max_create_revision = revision.get().saturating_sub(1).max(1);
        self
    }

    /// In the order in which the keys were created instead of their own; a [`limit`](Self::limit) then keeps
    /// the oldest. Not for a [segment](KeyRange::segment), which is two ranges.
    pub fn oldest_first(self) -> Self {
        self.by_creation(SortOrder::Ascend)
    }

    /// As [`oldest_first`](Self::oldest_first), the other way round: a limit keeps the newest.
    pub fn newest_first(self) -> Self {
        self.by_creation(SortOrder::Descend)
    }

    fn by_creation(mut self, order: SortOrder) -> Self {
        self.options.sort_order = order as i32;
        self.options.sort_target = SortTarget::Create as i32;
        self
    }
}

impl PutOp {
    /// Deletes the key when this lease ends.
    pub fn lease(mut self, lease: impl Into<LeaseId>) -> Self {
        self.0.lease = lease.into().get();
        self
    }

    /// Also gives the pair before.
    pub fn prev_kv(mut self) -> Self {
        self.0.prev_kv = true;
        self
    }

    /// Keeps the key's value, whatever value was given: as [`Put::ignore_value`](crate::Put::ignore_value).
    pub fn ignore_value(mut self) -> Self {
        ignore_value(&mut self.0);
        self
    }

    /// Keeps the key's lease: as [`Put::ignore_lease`](crate::Put::ignore_lease).
    pub fn ignore_lease(mut self) -> Self {
        ignore_lease(&mut self.0);
        self
    }
}

/// The server refuses a value beside it.
pub(crate) fn ignore_value(request: &mut PutRequest) {
    request.ignore_value = true;
    request.value = Bytes::new();
}

/// The server refuses a lease beside it.
pub(crate) fn ignore_lease(request: &mut PutRequest) {
    request.ignore_lease = true;
    request.lease = 0;
}

impl DeleteOp {
    /// Also gives the pairs that were there.
    pub fn prev_kv(mut self) -> Self {
        self.prev_kv = true;
        self
    }
}

impl Op {
    /// Whether it can change anything.
    pub(super) fn writes(&self) -> bool {
        match &self.0 {
            Kind::Get(_) | Kind::List(_) => false,
            Kind::Put(_) | Kind::Delete(_) => true,
            Kind::Nested(nested) => nested.writes(),
        }
    }

    /// How many steps of the protocol it is: a segment is two ranges.
    pub(super) fn steps(&self) -> usize {
        match &self.0 {
            Kind::List(list) => list.range.parts().len(),
            Kind::Delete(delete) => delete.range.parts().len(),
            Kind::Get(_) | Kind::Put(_) | Kind::Nested(_) => 1,
        }
    }

    pub(super) fn to_wire(&self, namespace: &Namespace, steps: &mut Vec<RequestOp>) -> Result<()> {
        let mut add = |request| steps.push(RequestOp { request: Some(request) });
        match &self.0 {
            Kind::Get(GetOp(request)) => {
                add(Request::RequestRange(RangeRequest { key: namespace.key(request.key.clone())?, ..request.clone() }))
            }
            Kind::List(list) => {
                let parts = list.range.parts();
                if parts.len() > 1 && list.options.sort_order != SortOrder::None as i32 {
                    let text = "a segment is two ranges: each would be in an order of its own";
                    return Err(Error::with(ErrorKind::InvalidArgument, text));
                }
                for part in parts {
                    add(Request::RequestRange(list.part(&part, namespace)?));
                }
            }
            Kind::Put(PutOp(request)) => {
                add(Request::RequestPut(PutRequest { key: namespace.key(request.key.clone())?, ..request.clone() }));
            }
            Kind::Delete(delete) => {
                for part in delete.range.parts() {
                    let (key, range_end) = namespace.to_wire(&part)?;
                    let prev_kv = delete.prev_kv;
                    add(Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv }));
                }
            }
            Kind::Nested(nested) => add(Request::RequestTxn(nested.to_wire(namespace)?)),
        }
        Ok(())
    }
}

impl ListOp {
    fn part(&self, part: &Interval, namespace: &Namespace) -> Result<RangeRequest> {
        let (key, range_end) = namespace.to_wire(part)?;
        let limit = self.limit.map_or(0, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        Ok(RangeRequest { key, range_end, limit, ..self.options.clone() })
    }
}

macro_rules! op_from {
    ($($op:ident => $kind:ident),*) => {
        $(impl From<$op> for Op {
            fn from(op: $op) -> Op {
                Op(Kind::$kind(op))
            }
        })*
    };
}

op_from!(GetOp => Get, ListOp => List, PutOp => Put, DeleteOp => Delete, Nested => Nested);

impl fmt::Debug for GetOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetOp").field("key", &self.0.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for ListOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListOp").field("range", &self.range).finish_non_exhaustive()
    }
}

impl fmt::Debug for PutOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A value may be a secret.
        f.debug_struct("PutOp").field("key", &self.0.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for DeleteOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeleteOp").field("range", &self.range).finish_non_exhaustive()
    }
}
