//! Transactions.

use std::cmp::Ordering;

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::response_op::Response;
use stentor_proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use stentor_proto::mvccpb::KeyValue;

use super::{Change, Model, header, in_range, range};

/// A transaction with its branches chosen: whether the compares held, and the operations.
struct Chosen<'a> {
    succeeded: bool,
    ops: Vec<ChosenOp<'a>>,
}

enum ChosenOp<'a> {
    Plain(&'a Request),
    Nested(Chosen<'a>),
}

/// Every put of a transaction, in any branch.
pub(crate) fn puts(request: &TxnRequest) -> Vec<&PutRequest> {
    let ops = request.success.iter().chain(&request.failure);
    ops.flat_map(|op| match &op.request {
        Some(Request::RequestPut(put)) => vec![put],
        Some(Request::RequestTxn(nested)) => puts(nested),
        _ => Vec::new(),
    })
    .collect()
}

impl Model {
    /// A transaction that is served as a read.
    pub(crate) fn read_only_txn(&self, request: &TxnRequest) -> Result<TxnResponse, EtcdError> {
        let mut change =
            Change { state: self.newest().clone(), events: Vec::new(), revision: self.revision() + 1, time_unix_ms: 0 };
        self.txn(&mut change, request)
    }

    pub(super) fn txn(&self, change: &mut Change, request: &TxnRequest) -> Result<TxnResponse, EtcdError> {
        let chosen = self.choose(request);
        let mut ops = Vec::new();
        flatten(&chosen, &mut ops);
        for op in &ops {
            if let Request::RequestPut(put) = op {
                self.lease_exists(put.lease)?;
                if (put.ignore_value || put.ignore_lease) && !self.newest().contains_key(&put.key) {
                    return Err(EtcdError::KeyNotFound);
                }
            }
        }
        for op in &ops {
            if let Request::RequestRange(range) = op {
                self.check_range(range)?;
            }
        }
        let responses = self.run(change, &chosen).inspect_err(|_| self.taken_back.set(self.taken_back.get() + 1))?;
        Ok(TxnResponse { header: header(change.current()), succeeded: chosen.succeeded, responses })
    }

    fn check_range(&self, range: &RangeRequest) -> Result<(), EtcdError> {
        if range.revision == 0 {
            Ok(())
        } else if range.revision > self.revision() {
            Err(EtcdError::FutureRev)
        } else if range.revision < self.compacted {
            Err(EtcdError::Compacted)
        } else {
            Ok(())
        }
    }

    fn run(&self, change: &mut Change, chosen: &Chosen<'_>) -> Result<Vec<ResponseOp>, EtcdError> {
        let mut responses = Vec::new();
        for op in &chosen.ops {
            let response = match op {
                ChosenOp::Plain(Request::RequestRange(request)) => {
                    let found = match request.revision {
                        r if r > 0 && r < change.revision => range(self.state(r), request),
                        _ => range(&change.state, request),
                    };
                    Response::ResponseRange(RangeResponse {
                        header: header(change.current()),
                        kvs: found.kvs,
                        more: found.more,
                        count: found.count,
                    })
                }
                ChosenOp::Plain(Request::RequestPut(put)) => Response::ResponsePut(change.put(put)?),
                ChosenOp::Plain(Request::RequestDeleteRange(delete)) => {
                    Response::ResponseDeleteRange(change.delete_range(delete))
                }
                ChosenOp::Plain(Request::RequestTxn(_)) => unreachable!("nested ones are chosen too"),
                ChosenOp::Nested(nested) => Response::ResponseTxn(TxnResponse {
                    header: Some(ResponseHeader::default()),
                    succeeded: nested.succeeded,
                    responses: self.run(change, nested)?,
                }),
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        Ok(responses)
    }

    fn choose<'a>(&self, request: &'a TxnRequest) -> Chosen<'a> {
        let succeeded = request.compare.iter().all(|c| self.holds(c));
        let branch: &[RequestOp] = if succeeded { &request.success } else { &request.failure };
        let ops = branch
            .iter()
            .filter_map(|op| op.request.as_ref())
            .map(|op| match op {
                Request::RequestTxn(nested) => ChosenOp::Nested(self.choose(nested)),
                plain => ChosenOp::Plain(plain),
            })
            .collect();
        Chosen { succeeded, ops }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let pairs: Vec<&KeyValue> =
            self.newest().values().filter(|p| in_range(&p.key, &compare.key, &compare.range_end)).collect();
        if pairs.is_empty() {
            return compare.target() != CompareTarget::Value && holds_for(compare, &KeyValue::default());
        }
        pairs.into_iter().all(|pair| holds_for(compare, pair))
    }
}

fn flatten<'a>(chosen: &Chosen<'a>, into: &mut Vec<&'a Request>) {
    for op in &chosen.ops {
        match op {
            ChosenOp::Plain(request) => into.push(request),
            ChosenOp::Nested(nested) => flatten(nested, into),
        }
    }
}

fn holds_for(compare: &Compare, pair: &KeyValue) -> bool {
    let ordering = match (compare.target(), &compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(n))) => pair.version.cmp(n),
        (CompareTarget::Version, _) => pair.version.cmp(&0),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(n))) => pair.create_revision.cmp(n),
        (CompareTarget::Create, _) => pair.create_revision.cmp(&0),
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(n))) => pair.mod_revision.cmp(n),
        (CompareTarget::Mod, _) => pair.mod_revision.cmp(&0),
        (CompareTarget::Lease, Some(TargetUnion::Lease(n))) => pair.lease.cmp(n),
        (CompareTarget::Lease, _) => pair.lease.cmp(&0),
        (CompareTarget::Value, Some(TargetUnion::Value(value))) => pair.value.cmp(value),
        (CompareTarget::Value, _) => pair.value[..].cmp(&[]),
    };
    match compare.result() {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
        CompareResult::NotEqual => ordering != Ordering::Equal,
    }
}
