//! Introspection: which watchers are how far behind.

use std::sync::Arc;

use bytes::Bytes;
use stentor_proto::KeyRange;
use stentor_proto::introspectionpb::introspection_server::Introspection;
use stentor_proto::introspectionpb::watchers_request::Order as WireOrder;
use stentor_proto::introspectionpb::{self as pb, WatchersRequest, WatchersResponse};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use super::status::of_stopping;
use crate::node::Node;
use crate::watchers::{
    Order, Query, States, StreamLabel, StreamRow, Streams, Survey, WatcherRow, WatcherState, survey,
};

/// Rows when none are asked for.
const DEFAULT_ROWS: u32 = 100;

/// Rows at most.
const MAX_ROWS: u32 = 10_000;

/// Of a key so many bytes are told: keys may be as large as requests, and there may be many rows.
const KEY_BYTES: usize = 1 << 10;

/// The service Introspection.
pub struct IntrospectionService<S> {
    node: Arc<Node>,
    streams: Arc<S>,
    /// One look at a time: several would take the processor from deliveries and hold several lists.
    turn: Mutex<()>,
}

impl<S: Streams> IntrospectionService<S> {
    /// Tells of `streams`, which follow the node's store.
    pub fn new(node: Arc<Node>, streams: Arc<S>) -> IntrospectionService<S> {
        IntrospectionService { node, streams, turn: Mutex::default() }
    }
}

#[tonic::async_trait]
impl<S: Streams + 'static> Introspection for IntrospectionService<S> {
    async fn watchers(&self, request: Request<WatchersRequest>) -> Result<Response<WatchersResponse>, Status> {
        let query = query(request.into_inner())?;
        let now_unix_ms = (self.node.environment.wall_unix_ms)();
        let streams = self.streams.clone();
        let _turn = self.turn.lock().await;
        let look = move || survey(&*streams, &query, now_unix_ms);
        let survey = self.node.environment.workers.blocking(look).await.map_err(of_stopping)?;
        let header = Some(self.node.header(survey.revision));
        Ok(Response::new(WatchersResponse { header, now_unix_ms, ..answer(survey) }))
    }
}

fn query(request: WatchersRequest) -> Result<Query, Status> {
    let mut states = States { synced: false, unsynced: false, victims: false };
    for &state in &request.states {
        match pb::WatcherState::try_from(state) {
            Ok(pb::WatcherState::Synced) => states.synced = true,
            Ok(pb::WatcherState::Unsynced) => states.unsynced = true,
            Ok(pb::WatcherState::Victim) => states.victims = true,
            Ok(pb::WatcherState::Unspecified) | Err(_) => {
                return Err(Status::invalid_argument(format!("{state} is no state that this server knows")));
            }
        }
    }
    let order = match request.order() {
        WireOrder::LagRevisions => Order::Revisions,
        WireOrder::LagTime => Order::Time,
    };
    let rows = if request.limit == 0 { DEFAULT_ROWS } else { request.limit.min(MAX_ROWS) };
    Ok(Query {
        states: if request.states.is_empty() { States::ALL } else { states },
        keys: (!request.key_prefix.is_empty()).then(|| KeyRange::prefix(request.key_prefix)),
        limit: rows as usize,
        order,
        streams_only: request.streams_only,
    })
}

fn answer(survey: Survey) -> WatchersResponse {
    let totals = survey.totals;
    WatchersResponse {
        totals: Some(pb::Totals {
            streams: totals.streams,
            synced: totals.synced,
            unsynced: totals.unsynced,
            victims: totals.victims,
            matching: totals.matching,
            slowest_lag_revisions: totals.slowest.revisions,
            slowest_lag_ms: totals.slowest.ms,
            held_bytes: totals.held_bytes,
            compact_revision: totals.compacted.map_or(-1, |r| r.get()),
        }),
        watchers: survey.watchers.into_iter().map(watcher).collect(),
        streams: survey.streams.into_iter().map(stream).collect(),
        ..WatchersResponse::default()
    }
}

fn watcher(row: WatcherRow) -> pb::Watcher {
    let WatcherRow { stream_id, report, lag } = row;
    let (key, range_end) = report.range.to_wire();
    let state = match report.state {
        WatcherState::Synced => pb::WatcherState::Synced,
        WatcherState::Unsynced => pb::WatcherState::Unsynced,
        WatcherState::Victim => pb::WatcherState::Victim,
    };
    pb::Watcher {
        stream_id,
        watch_id: report.id,
        key: beginning(key),
        range_end: beginning(range_end),
        state: state.into(),
        next_revision: report.cursor.get(),
        lag_revisions: lag.revisions,
        lag_ms: lag.ms,
        behind_since_unix_ms: report.behind_since_unix_ms.unwrap_or(0),
        events: report.events,
        bytes: report.bytes,
        prev_kv: report.prev_kv,
        progress_notify: report.progress_notify,
        fragment: report.fragment,
    }
}

fn stream(row: StreamRow) -> pb::Stream {
    let StreamRow { report, lag, matching } = row;
    let label = report.label.as_deref().map(StreamLabel::parse).unwrap_or_default();
    pb::Stream {
        id: report.id,
        peer: label.peer_text(),
        user_agent: label.user_agent,
        opened_unix_ms: label.opened_unix_ms,
        watchers: report.watchers,
        synced: report.synced,
        unsynced: report.unsynced,
        victims: report.victims,
        next_revision: if report.watchers == 0 { 0 } else { report.cursor.get() },
        lag_revisions: lag.revisions,
        lag_ms: lag.ms,
        behind_since_unix_ms: report.behind_since_unix_ms.unwrap_or(0),
        events: report.events,
        bytes: report.bytes,
        held_bytes: report.held_bytes,
        matching,
    }
}

/// A key, or its beginning: a copy, so that what it is a part of is not held.
fn beginning(key: Bytes) -> Bytes {
    if key.len() <= KEY_BYTES { key } else { Bytes::copy_from_slice(&key[..KEY_BYTES]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_and_read_with_care() {
        let rows = |limit| query(WatchersRequest { limit, ..Default::default() }).unwrap().limit;
        assert_eq!([rows(0), rows(7), rows(u32::MAX)], [100, 7, 10_000]);
        let asked = query(WatchersRequest { states: vec![3], key_prefix: "a".into(), ..Default::default() }).unwrap();
        assert_eq!(asked.states, States { synced: false, unsynced: false, victims: true });
        assert_eq!(asked.keys, Some(KeyRange::prefix("a")));
        let all = query(WatchersRequest::default()).unwrap();
        assert_eq!((all.states, all.keys), (States::ALL, None));
        for unknown in [0, 9] {
            let refused = query(WatchersRequest { states: vec![unknown], ..Default::default() }).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        }
    }

    #[test]
    fn a_long_key_is_cut() {
        assert_eq!(beginning(vec![7; 5_000].into()), [7; KEY_BYTES].as_slice());
        assert_eq!(beginning("short".into()), "short");
    }
}
