//! From choices of revisions to revisions.

use stentor_proto::etcdserverpb::compare::TargetUnion;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{RangeRequest, TxnRequest};
use stentor_proto::storagepb::log_entry::Op;

use crate::model::Model;

/// The revision that a choice stands for: one of the newest, one around the compacted revision, or any.
pub(crate) fn revision(choice: i64, model: &Model) -> i64 {
    let (current, compacted) = (model.revision(), model.compacted);
    match choice {
        0 => 0,
        1 => -1,
        2 => -2,
        3..=10 => current - (choice - 3),
        11 => current + 1,
        12 => current + 5,
        13..=15 => compacted + choice - 14,
        16..=20 => (compacted + current) / 2,
        _ => choice % (current + 1),
    }
}

pub(crate) fn op(op: &mut Op, model: &Model) {
    match op {
        Op::Txn(request) => txn(request, model),
        Op::Compact(request) => request.revision = revision(request.revision, model),
        _ => {}
    }
}

pub(crate) fn range(request: &mut RangeRequest, model: &Model) {
    let r = request;
    for field in [
        &mut r.revision,
        &mut r.min_mod_revision,
        &mut r.max_mod_revision,
        &mut r.min_create_revision,
        &mut r.max_create_revision,
    ] {
        *field = revision(*field, model);
    }
}

pub(crate) fn txn(request: &mut TxnRequest, model: &Model) {
    for compare in &mut request.compare {
        if let Some(TargetUnion::CreateRevision(n) | TargetUnion::ModRevision(n)) = &mut compare.target_union {
            *n = revision(*n, model);
        }
    }
    for op in request.success.iter_mut().chain(&mut request.failure) {
        match &mut op.request {
            Some(Request::RequestRange(inner)) => range(inner, model),
            Some(Request::RequestTxn(inner)) => txn(inner, model),
            _ => {}
        }
    }
}
