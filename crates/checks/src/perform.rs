//! Operations as calls to a member.

use bytes::Bytes;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::response_op::Response;
use stentor_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse, compare,
};
use stentor_proto::mvccpb::KeyValue;
use tonic::Status;
use tonic::transport::Channel;

use crate::history::{Answer, Ask, Keys, Pairs};
use crate::log::Pair;

/// Does one operation by one call; returns its revision and its answer.
///
/// # Errors
/// The call's: then the operation may have happened, or may happen yet. So it is when this is cancelled.
pub async fn perform(mut kv: KvClient<Channel>, ask: &Ask) -> Result<(i64, Answer), Status> {
    let (header, done) = match ask.clone() {
        Ask::Put { key, value, lease } => {
            let put = PutRequest { key: key.into(), value, lease, ..PutRequest::default() };
            (kv.put(put).await?.into_inner().header, Answer::Done)
        }
        Ask::Delete(keys) => {
            let (key, range_end) = range(keys);
            let request = DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() };
            let response = kv.delete_range(request).await?.into_inner();
            (response.header, Answer::Deleted(response.deleted))
        }
        Ask::Read { keys, serializable } => {
            let (key, range_end) = range(keys);
            let request = RangeRequest { key, range_end, serializable, ..RangeRequest::default() };
            let response = kv.range(request).await?.into_inner();
            (response.header, Answer::Read(pairs(&response.kvs)?))
        }
        Ask::Txn { key, unless_changed_after, writes } => {
            let response = kv.txn(txn(key, unless_changed_after, writes)).await?.into_inner();
            (response.header, outcome(response)?)
        }
        Ask::Revoke(_) => return Err(Status::internal("that is no call of KV")),
    };
    Ok((header.unwrap_or_default().revision, done))
}

fn txn(key: String, modified: i64, writes: Vec<(String, Option<Bytes>)>) -> TxnRequest {
    let compare = Compare {
        key: key.clone().into(),
        target: compare::CompareTarget::Mod.into(),
        result: compare::CompareResult::Equal.into(),
        target_union: Some(compare::TargetUnion::ModRevision(modified)),
        ..Compare::default()
    };
    let write = |(key, value): (String, Option<Bytes>)| match value {
        Some(value) => Request::RequestPut(PutRequest { key: key.into(), value, ..PutRequest::default() }),
        None => Request::RequestDeleteRange(DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() }),
    };
    let op = |request| RequestOp { request: Some(request) };
    TxnRequest {
        compare: vec![compare],
        success: writes.into_iter().map(write).map(op).collect(),
        failure: vec![op(Request::RequestRange(RangeRequest { key: key.into(), ..RangeRequest::default() }))],
    }
}

fn outcome(response: TxnResponse) -> Result<Answer, Status> {
    let responses = response.responses.into_iter().filter_map(|one| one.response);
    if response.succeeded {
        let mut responses = responses;
        let did = |one| match one {
            Response::ResponsePut(_) => true,
            Response::ResponseDeleteRange(deleted) => deleted.deleted > 0,
            _ => false,
        };
        return Ok(Answer::Txn(Ok(responses.any(did))));
    }
    let read =
        responses.filter_map(|one| if let Response::ResponseRange(range) = one { Some(range.kvs) } else { None });
    let read: Vec<_> = read.flatten().collect();
    Ok(Answer::Txn(Err(pairs(&read)?)))
}

/// First key and end of a range, as requests have them.
pub fn range(keys: Keys) -> (Bytes, Bytes) {
    match keys {
        Keys::One(key) => (key.into(), Bytes::new()),
        // No key holds a character this high.
        Keys::Prefix(prefix) if prefix.is_empty() => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        Keys::Prefix(prefix) => (prefix.clone().into(), format!("{prefix}\u{7f}").into()),
    }
}

/// What was read, by key.
///
/// # Errors
/// A key that is no text.
pub fn pairs(read: &[KeyValue]) -> Result<Pairs, Status> {
    let pair = |kv: &KeyValue| {
        let key = String::from_utf8(kv.key.to_vec()).map_err(|error| Status::internal(error.to_string()))?;
        Ok((key, Pair::from(kv)))
    };
    read.iter().map(pair).collect()
}
