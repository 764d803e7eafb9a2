//! KV over gRPC: what the store's own tests can't see.

mod compaction;
mod errors;
mod headers;
mod limits;
mod metrics;
mod queue;
mod stream;

use stentor_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{Compare, DeleteRangeRequest, RequestOp, TxnRequest};

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// A transaction without compares.
fn always(success: Vec<Request>) -> TxnRequest {
    TxnRequest { success: success.into_iter().map(op).collect(), ..TxnRequest::default() }
}

/// Tests that a key is there or, by 0, not.
fn version_is(key: &str, version: i64) -> Compare {
    Compare {
        key: key.to_owned().into(),
        target: CompareTarget::Version.into(),
        result: CompareResult::Equal.into(),
        target_union: Some(TargetUnion::Version(version)),
        ..Compare::default()
    }
}

fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() }
}
