//! One request of a run, and the lease ids in it.

use stentor_proto::etcdserverpb::compare::TargetUnion;
use stentor_proto::etcdserverpb::request_op::Request as Op;
use stentor_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest,
    TxnRequest, WatchCreateRequest,
};

/// What is sent to both servers before the next request.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub(crate) enum Request {
    Range(RangeRequest),
    RangeStream(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(i64),
    TimeToLive(LeaseTimeToLiveRequest),
    Leases,
    KeepAlive(i64),
    HashKv(i64),
    /// Waits until a lease of the smallest TTL and its keys are gone.
    Expire(i64),
    /// A create on the stream of this number.
    Watch(usize, WatchCreateRequest),
    /// A cancel of this id on the stream of this number.
    Cancel(usize, i64),
    /// A progress request on the stream of this number.
    Progress(usize),
    /// A request with nothing set, on the stream of this number.
    Nothing(usize),
}

impl Request {
    /// What the coverage counts it as.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Request::Range(_) => "Range",
            Request::RangeStream(_) => "RangeStream",
            Request::Put(_) => "Put",
            Request::DeleteRange(_) => "DeleteRange",
            Request::Txn(_) => "Txn",
            Request::Compact(_) => "Compact",
            Request::Grant(_) => "LeaseGrant",
            Request::Revoke(_) => "LeaseRevoke",
            Request::TimeToLive(_) => "LeaseTimeToLive",
            Request::Leases => "LeaseLeases",
            Request::KeepAlive(_) => "LeaseKeepAlive",
            Request::HashKv(_) => "HashKV",
            Request::Expire(_) => "expiry",
            Request::Watch(..) => "Watch create",
            Request::Cancel(..) => "Watch cancel",
            Request::Progress(_) => "Watch progress",
            Request::Nothing(_) => "Watch nothing",
        }
    }

    /// The same request with every lease id replaced.
    pub(crate) fn with_leases(&self, id: impl Fn(i64) -> i64) -> Request {
        let mut request = self.clone();
        match &mut request {
            Request::Put(put) => put.lease = id(put.lease),
            Request::Txn(txn) => map_txn(txn, &id),
            Request::Grant(grant) => grant.id = id(grant.id),
            Request::TimeToLive(ask) => ask.id = id(ask.id),
            Request::Revoke(lease) | Request::KeepAlive(lease) | Request::Expire(lease) => *lease = id(*lease),
            _ => {}
        }
        request
    }
}

fn map_txn(txn: &mut TxnRequest, id: &impl Fn(i64) -> i64) {
    for compare in &mut txn.compare {
        if let Some(TargetUnion::Lease(lease)) = &mut compare.target_union {
            *lease = id(*lease);
        }
    }
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Op::RequestPut(put)) => put.lease = id(put.lease),
            Some(Op::RequestTxn(txn)) => map_txn(txn, id),
            _ => {}
        }
    }
}
