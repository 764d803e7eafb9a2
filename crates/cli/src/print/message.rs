//! Wire messages as JSON.

use stentor_proto::etcdserverpb::response_op::Response;
use stentor_proto::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse,
};
use stentor_proto::mvccpb::{Event, KeyValue};

use crate::json::{Json, Object};

/// The header's own fields.
pub(super) fn header_fields(header: Option<&ResponseHeader>) -> Object {
    let header = header.copied().unwrap_or_default();
    Object::default()
        .with_some("cluster_id", Json::Uint(header.cluster_id))
        .with_some("member_id", Json::Uint(header.member_id))
        .with_some("revision", Json::Int(header.revision))
        .with_some("raft_term", Json::Uint(header.raft_term))
}

/// An answer that begins with its header, if it has one.
pub(super) fn answer(header: Option<&ResponseHeader>) -> Object {
    match header {
        None => Object::default(),
        Some(header) => Object::default().with("header", header_fields(Some(header)).into()),
    }
}

pub(super) fn pair(kv: &KeyValue) -> Json {
    Object::default()
        .with_some("key", Json::base64(&kv.key))
        .with_some("create_revision", Json::Int(kv.create_revision))
        .with_some("mod_revision", Json::Int(kv.mod_revision))
        .with_some("version", Json::Int(kv.version))
        .with_some("value", Json::base64(&kv.value))
        .with_some("lease", Json::Int(kv.lease))
        .into()
}

fn maybe(kv: Option<&KeyValue>) -> Json {
    kv.map_or(Json::Null, pair)
}

pub(super) fn range(response: &RangeResponse) -> Json {
    answer(response.header.as_ref())
        .with_some("kvs", Json::List(response.kvs.iter().map(pair).collect()))
        .with_some("more", Json::Bool(response.more))
        .with_some("count", Json::Int(response.count))
        .into()
}

pub(super) fn put(response: &PutResponse) -> Json {
    answer(response.header.as_ref()).with_some("prev_kv", maybe(response.prev_kv.as_ref())).into()
}

pub(super) fn delete(response: &DeleteRangeResponse) -> Json {
    answer(response.header.as_ref())
        .with_some("deleted", Json::Int(response.deleted))
        .with_some("prev_kvs", Json::List(response.prev_kvs.iter().map(pair).collect()))
        .into()
}

pub(super) fn txn(response: &TxnResponse) -> Json {
    answer(response.header.as_ref())
        .with_some("succeeded", Json::Bool(response.succeeded))
        .with_some("responses", Json::List(response.responses.iter().map(operation).collect()))
        .into()
}

fn operation(op: &ResponseOp) -> Json {
    let inner: Json = match &op.response {
        None => Json::Null,
        Some(Response::ResponseRange(r)) => Object::default().with("response_range", range(r)).into(),
        Some(Response::ResponsePut(r)) => Object::default().with("response_put", put(r)).into(),
        Some(Response::ResponseDeleteRange(r)) => Object::default().with("response_delete_range", delete(r)).into(),
        Some(Response::ResponseTxn(r)) => Object::default().with("response_txn", txn(r)).into(),
    };
    Object::default().with("Response", inner).into()
}

pub(super) fn event(event: &Event) -> Json {
    Object::default()
        .with_some("type", Json::Int(event.r#type.into()))
        .with_some("kv", maybe(event.kv.as_ref()))
        .with_some("prev_kv", maybe(event.prev_kv.as_ref()))
        .into()
}
