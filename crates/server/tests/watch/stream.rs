//! A stream by itself: requests and their answers, half-closing, its end, its metadata.

use std::time::Duration;

use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{WatchCancelRequest, WatchProgressRequest};
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request};

use super::client::{Watching, from, key};
use super::raw::Connection;
use crate::harness::Rig;
use crate::serving::{PATIENCE, Serving};

#[tokio::test]
async fn history_comes_first_and_then_what_happens() {
    let server = Serving::start(&[]).await;
    server.put("hello", "world1").await;
    server.put("hello", "world2").await;
    let mut watching = Watching::open(server.connect().await).await;
    watching.create(from(1, key("hello")));
    let created = watching.next().await.unwrap();
    assert!(created.created && created.watch_id == 0);
    let header = created.header.unwrap();
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0 && header.revision == 3);
    assert_eq!(watching.events(2).await, [(0, 2), (0, 3)]);
    server.put("hello", "world3").await;
    assert_eq!(watching.events(1).await, [(0, 4)]);
    server.stop().await;
}

#[tokio::test]
async fn a_half_closed_stream_goes_on() {
    let server = Serving::start(&[]).await;
    let mut watching = Watching::open(server.connect().await).await;
    watching.create(key("a"));
    watching.requests = None;
    assert!(watching.next().await.unwrap().created);
    for revision in 2..5 {
        server.put("a", "x").await;
        assert_eq!(watching.events(1).await, [(0, revision)]);
    }
    server.stop().await;
}

#[tokio::test]
async fn requests_are_answered_in_order() {
    let server = Serving::start(&[]).await;
    let mut watching = Watching::open(server.connect().await).await;
    for _ in 0..500 {
        watching.create(key("a"));
    }
    watching.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7 }));
    watching.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    for id in 0..500 {
        let created = watching.next().await.unwrap();
        assert!(created.created);
        assert_eq!(created.watch_id, id);
    }
    let cancelled = watching.next().await.unwrap();
    assert!(cancelled.canceled && cancelled.watch_id == 7);
    let note = watching.next().await.unwrap();
    assert_eq!((note.watch_id, note.header.unwrap().revision, note.events.len()), (-1, 1, 0));
    server.stop().await;
}

/// By a clock that stands still while there is anything to do: a stopping server gives its streams little
/// time for what is due.
#[tokio::test(start_paused = true)]
async fn the_end_of_the_server_is_unavailable_after_a_last_note() {
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    watching.create(WatchCreateRequest { progress_notify: true, ..key("quiet") });
    assert!(watching.next().await.unwrap().created);
    let revision = rig.put("other", "x").await;
    let stopping = tokio::spawn(rig.stop());
    let note = watching.next().await.unwrap();
    assert_eq!((note.watch_id, note.header.unwrap().revision), (0, revision));
    let end = watching.next().await.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "etcdserver: server stopped"));
    stopping.await.unwrap();
}

#[tokio::test]
async fn quiet_watchers_get_notes_at_the_configured_interval() {
    let server = Serving::start(&["--watch-progress-notify-interval=100ms"]).await;
    let mut watching = Watching::open(server.connect().await).await;
    watching.create(WatchCreateRequest { progress_notify: true, ..key("quiet") });
    watching.create(key("mute"));
    assert!(watching.next().await.unwrap().created && watching.next().await.unwrap().created);
    let revision = server.put("other", "x").await;
    let mut notes = Vec::new();
    while notes.last() != Some(&revision) {
        let note = watching.next().await.unwrap();
        assert!(note.watch_id == 0 && note.events.is_empty());
        notes.push(note.header.unwrap().revision);
    }
    assert!(notes.is_sorted());
    server.stop().await;
}

#[tokio::test]
async fn metadata_is_looked_at() {
    let server = Serving::start(&[]).await;
    let with = |name: &'static str, value: &'static [u8]| {
        move |request: &mut Request<UnboundedReceiverStream<WatchRequest>>| {
            request.metadata_mut().insert(name, AsciiMetadataValue::try_from(value).unwrap());
        }
    };
    let channel = server.connect().await;
    let refused = Watching::open_with(channel.clone(), with("client-api-version", b"\xff\xfe")).await.err().unwrap();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "etcdserver: invalid client api version"));
    for (name, value) in
        [("client-api-version", &b"3.7.0"[..]), ("hasleader", b"true"), ("source", b"cache"), ("unknown", b"x")]
    {
        let mut watching = Watching::open_with(channel.clone(), with(name, value)).await.unwrap();
        watching.create(key("a"));
        assert!(watching.next().await.unwrap().created, "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_misses_nothing() {
    let server = Serving::start(&[]).await;
    let mut stalled = Watching::open(server.connect().await).await;
    let mut reading = Watching::open(server.connect().await).await;
    for watching in [&mut stalled, &mut reading] {
        watching.create(key("a"));
        assert!(watching.next().await.unwrap().created);
    }
    // Far more than what the connection holds.
    for revision in 2..62 {
        server.put("a", vec![b'v'; 200_000]).await;
        assert_eq!(reading.events(1).await, [(0, revision)]);
    }
    let expected: Vec<(i64, i64)> = (2..62).map(|revision| (0, revision)).collect();
    assert_eq!(stalled.events(60).await, expected);
    server.stop().await;
}

#[tokio::test]
async fn etcd_18879_a_client_that_vanishes_takes_its_watchers_along() {
    let server = Serving::start(&[]).await;
    let mut watching = Watching::open(server.connect().await).await;
    for _ in 0..2_000 {
        watching.create(key("a"));
    }
    for _ in 0..2_000 {
        assert!(watching.next().await.unwrap().created);
    }
    drop(watching);
    let mut other = Watching::open(server.connect().await).await;
    other.create(key("b"));
    assert!(other.next().await.unwrap().created);
    let gone = async {
        while server.metrics.mvcc.watcher.get() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("its watchers stay");
    server.stop().await;
}

/// Nothing, an empty message, and a kind of request that does not exist.
#[tokio::test(start_paused = true)]
async fn requests_that_say_nothing_are_ignored() {
    let rig = Rig::start(&[]).await;
    let mut connection = Connection::open(&rig, 1 << 20).await;
    let mut watching = connection.watch().await;
    watching.send(&[]);
    watching.send(&[0x7a, 1, b'x']);
    let id = watching.watch(key("a")).await;
    watching.send(&[]);
    let revision = rig.put("a", "v").await;
    watching.until(|ledger| ledger.watchers[&id].last() == revision).await;
}
