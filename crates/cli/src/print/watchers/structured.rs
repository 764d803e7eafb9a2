//! Watchers and streams for programs.

use stentor_proto::introspectionpb::{Stream, Watcher, WatchersResponse};

use super::super::fields::Fields;
use super::super::message;
use super::{options, state_name};
use crate::json::{Json, Object};

pub(super) fn json(r: &WatchersResponse) -> Object {
    let t = r.totals.unwrap_or_default();
    let totals = Object::default()
        .with("streams", Json::Uint(t.streams))
        .with("synced", Json::Uint(t.synced))
        .with("unsynced", Json::Uint(t.unsynced))
        .with("victims", Json::Uint(t.victims))
        .with("matching", Json::Uint(t.matching))
        .with("slowest_lag_revisions", Json::Uint(t.slowest_lag_revisions))
        .with("slowest_lag_ms", Json::Uint(t.slowest_lag_ms))
        .with("held_bytes", Json::Uint(t.held_bytes))
        .with("compact_revision", Json::Int(t.compact_revision));
    let watchers = r.watchers.iter().map(watcher_json).collect();
    message::answer(r.header.as_ref())
        .with("now_unix_ms", Json::Uint(r.now_unix_ms))
        .with("totals", totals.into())
        .with("watchers", Json::List(watchers))
        .with("streams", Json::List(r.streams.iter().map(stream_json).collect()))
}

fn watcher_json(w: &Watcher) -> Json {
    Object::default()
        .with("stream_id", Json::Uint(w.stream_id))
        .with("watch_id", Json::Int(w.watch_id))
        .with("key", Json::base64(&w.key))
        .with_some("range_end", Json::base64(&w.range_end))
        .with("state", Json::str(state_name(w.state())))
        .with("next_revision", Json::Int(w.next_revision))
        .with("lag_revisions", Json::Uint(w.lag_revisions))
        .with("lag_ms", Json::Uint(w.lag_ms))
        .with("behind_since_unix_ms", Json::Uint(w.behind_since_unix_ms))
        .with("events", Json::Uint(w.events))
        .with("bytes", Json::Uint(w.bytes))
        .with_some("prev_kv", Json::Bool(w.prev_kv))
        .with_some("progress_notify", Json::Bool(w.progress_notify))
        .with_some("fragment", Json::Bool(w.fragment))
        .into()
}

fn stream_json(s: &Stream) -> Json {
    Object::default()
        .with("id", Json::Uint(s.id))
        .with("peer", Json::str(&s.peer))
        .with("user_agent", Json::str(&s.user_agent))
        .with("opened_unix_ms", Json::Uint(s.opened_unix_ms))
        .with("watchers", Json::Uint(s.watchers))
        .with("synced", Json::Uint(s.synced))
        .with("unsynced", Json::Uint(s.unsynced))
        .with("victims", Json::Uint(s.victims))
        .with("next_revision", Json::Int(s.next_revision))
        .with("lag_revisions", Json::Uint(s.lag_revisions))
        .with("lag_ms", Json::Uint(s.lag_ms))
        .with("behind_since_unix_ms", Json::Uint(s.behind_since_unix_ms))
        .with("events", Json::Uint(s.events))
        .with("bytes", Json::Uint(s.bytes))
        .with("held_bytes", Json::Uint(s.held_bytes))
        .with_some("matching", Json::Uint(s.matching))
        .into()
}

pub(super) fn fields(r: &WatchersResponse, f: &mut Fields) {
    f.header(r.header.as_ref());
    let t = r.totals.unwrap_or_default();
    f.field("Streams", t.streams);
    f.field("Synced", t.synced);
    f.field("Unsynced", t.unsynced);
    f.field("Victims", t.victims);
    f.field("Matching", t.matching);
    f.field("SlowestLagRevisions", t.slowest_lag_revisions);
    f.field("SlowestLagMs", t.slowest_lag_ms);
    f.field("HeldBytes", t.held_bytes);
    f.field("CompactRevision", t.compact_revision);
    for w in &r.watchers {
        f.blank();
        f.field("StreamID", w.stream_id);
        f.field("WatchID", w.watch_id);
        f.quoted("Key", &w.key);
        f.quoted("RangeEnd", &w.range_end);
        f.quoted("State", state_name(w.state()));
        f.field("NextRevision", w.next_revision);
        f.field("LagRevisions", w.lag_revisions);
        f.field("LagMs", w.lag_ms);
        f.field("BehindSinceUnixMs", w.behind_since_unix_ms);
        f.field("Events", w.events);
        f.field("Bytes", w.bytes);
        f.quoted("Options", options(w).join(","));
    }
    for s in &r.streams {
        f.blank();
        f.field("StreamID", s.id);
        f.quoted("Peer", &s.peer);
        f.quoted("UserAgent", &s.user_agent);
        f.field("OpenedUnixMs", s.opened_unix_ms);
        f.field("Watchers", s.watchers);
        f.field("NextRevision", s.next_revision);
        f.field("LagRevisions", s.lag_revisions);
        f.field("LagMs", s.lag_ms);
        f.field("BehindSinceUnixMs", s.behind_since_unix_ms);
        f.field("Events", s.events);
        f.field("Bytes", s.bytes);
        f.field("HeldBytes", s.held_bytes);
    }
}
