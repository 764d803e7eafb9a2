//! Requests for tests by example.

use stentor_proto::etcdserverpb::WatchCreateRequest;

pub(crate) fn key(key: &str) -> WatchCreateRequest {
    WatchCreateRequest { key: key.to_owned().into(), ..WatchCreateRequest::default() }
}

pub(crate) fn range(start: &str, end: &str) -> WatchCreateRequest {
    WatchCreateRequest { range_end: end.to_owned().into(), ..key(start) }
}

pub(crate) fn from(start_revision: i64, request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest { start_revision, ..request }
}
