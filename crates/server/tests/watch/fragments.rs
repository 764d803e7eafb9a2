//! Responses in fragments: their parts follow each other, whatever else the stream has to say.

use bytes::Bytes;
use prost::Message as _;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchResponse};

use super::client::{Watching, from, key, range, with_notes, with_prev_kv};
use super::writes::{Writer, put_of};
use crate::harness::Rig;

/// A response is split below this: 512 KiB more than a request may have.
const LIMIT: usize = (512 << 10) + 100_000;
const MAX_REQUEST: &str = "--max-request-bytes=100000";
/// One put of a transaction that is far larger than that only by previous values and by number.
const PUTS: usize = 100;

fn fragmented(request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest { fragment: true, ..request }
}

/// A member, and the revision of a transaction of 100 puts: its events take over a megabyte with previous
/// values, though no request may have as much.
async fn with_large_revision() -> (Rig, i64) {
    let rig = Rig::start(&[MAX_REQUEST]).await;
    let mut writer = Writer::new(&rig);
    let value = Bytes::from(vec![b'v'; 20_000]);
    writer.fill((0..PUTS).map(|n| (format!("k{n:03}"), value.clone()))).await;
    let revision = large_revision(&mut writer).await;
    (rig, revision)
}

/// A new one of those.
async fn large_revision(writer: &mut Writer) -> i64 {
    writer.txn((0..PUTS).map(|n| Request::RequestPut(put_of(format!("k{n:03}"), "new")))).await
}

/// The responses until one with the end of this revision's events.
async fn to_the_end_of(watching: &mut Watching, id: i64, revision: i64, events: usize) -> Vec<WatchResponse> {
    let mut responses = Vec::new();
    loop {
        let response = watching.response().await;
        let of_it = response.watch_id == id;
        responses.push(response);
        let seen = watching.seen(id);
        if of_it && seen.revisions().iter().filter(|r| **r == revision).count() == events {
            return responses;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_revision_larger_than_the_limit_comes_whole_or_in_parts_below_it() {
    let (rig, revision) = with_large_revision().await;
    for start in [0, revision] {
        let mut watching = Watching::open(rig.channel()).await;
        let plain = watching.watch(with_prev_kv(from(start, range("k", "l")))).await;
        let mut parts_of = Watching::open(rig.channel()).await;
        let split = parts_of.watch(fragmented(with_prev_kv(from(start, range("k", "l"))))).await;
        let due = if start == 0 {
            // The same again, live; what was before it is as large.
            let value = Bytes::from(vec![b'v'; 20_000]);
            let mut writer = Writer::new(&rig);
            let filled = writer.fill((0..PUTS).map(|n| (format!("k{n:03}"), value.clone()))).await;
            watching.until_revision(plain, filled).await;
            parts_of.until_revision(split, filled).await;
            large_revision(&mut writer).await
        } else {
            revision
        };
        let whole = to_the_end_of(&mut watching, plain, due, PUTS).await;
        let whole = whole.iter().filter(|response| !response.events.is_empty()).collect::<Vec<_>>();
        assert_eq!(whole.len(), 1, "in one response");
        assert!(whole[0].encoded_len() > LIMIT);
        let parts = to_the_end_of(&mut parts_of, split, due, PUTS).await;
        assert!(parts.len() > 1);
        let (last, first) = parts.split_last().unwrap();
        assert!(first.iter().all(|part| part.fragment) && !last.fragment);
        for part in &parts {
            assert!(!part.events.is_empty() && part.encoded_len() < LIMIT, "{} bytes", part.encoded_len());
            assert_eq!(part.header, last.header);
        }
    }
}

/// An event that is larger than the limit by itself goes alone.
#[tokio::test(start_paused = true)]
async fn one_event_cannot_be_split() {
    let rig = Rig::start(&["--max-request-bytes=1000000"]).await;
    let mut watching = Watching::open(rig.channel()).await;
    let id = watching.watch(fragmented(with_prev_kv(key("a")))).await;
    let mut writer = Writer::new(&rig);
    for _ in 0..2 {
        let revision = writer.put("a", vec![b'v'; 900_000]).await;
        watching.until_revision(id, revision).await;
    }
    assert_eq!((watching.ledger.fragments, watching.seen(id).headers.len()), (0, 2));
}

/// The ledger bears nothing of the whole stream between two parts.
#[tokio::test(start_paused = true)]
async fn nothing_comes_between_the_parts_while_the_stream_is_busy() {
    const ROUNDS: usize = 6;
    const FLAGS: [&str; 2] = [MAX_REQUEST, "--watch-progress-notify-interval=100ms"];
    let rig = Rig::start(&FLAGS).await;
    let mut writer = Writer::new(&rig);
    let value = Bytes::from(vec![b'v'; 20_000]);
    let mut watching = Watching::open(rig.channel()).await;
    let split = watching.watch(fragmented(with_prev_kv(range("k", "l")))).await;
    let replaying = watching.watch(fragmented(with_prev_kv(from(1, range("k", "l"))))).await;
    let one = watching.watch(with_notes(key("k050"))).await;
    let quiet = watching.watch(with_notes(key("quiet"))).await;
    for round in 0..ROUNDS {
        writer.fill((0..PUTS).map(|n| (format!("k{n:03}"), value.clone()))).await;
        large_revision(&mut writer).await;
        // None of it is read yet; requests of every kind queue up behind it.
        let created = watching.ledger.watchers.len() as i64;
        watching.create(fragmented(with_prev_kv(from(1, range("k", "l")))));
        watching.create(key("k050"));
        watching.create(range("b", "a"));
        watching.progress();
        if round % 2 == 1 {
            watching.cancel(created - 1);
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        for _ in 0..10 {
            watching.response().await;
            watching.progress();
        }
        watching.until(|ledger| ledger.watchers.len() as i64 == created + 2).await;
    }
    let newest = rig.revision();
    watching.until(|ledger| [split, replaying, one].iter().all(|id| ledger.watchers[id].last() == newest)).await;
    assert_eq!(watching.settle().await, newest);
    assert!(watching.ledger.fragments > ROUNDS, "{} fragments", watching.ledger.fragments);
    assert!(watching.seen(quiet).noted == newest);
    let all = super::client::history(&rig, 1).await;
    for (id, seen) in watching.ledger.watchers.iter().filter(|(_, seen)| seen.cancel.is_none()) {
        assert_eq!(seen.events.len(), seen.owed(&all).len(), "watcher {id}");
        assert!(seen.events == seen.owed(&all), "watcher {id}");
    }
}

/// A put above the limit of a request is none; this is the largest that a client can make.
#[tokio::test(start_paused = true)]
async fn the_default_limit_is_two_mebibytes() {
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    let puts = |value: usize| {
        (0..PUTS).map(move |n| {
            let value = Bytes::from(vec![b'v'; value]);
            Request::RequestPut(PutRequest { key: format!("k{n:03}").into(), value, ..PutRequest::default() })
        })
    };
    let mut watching = Watching::open(rig.channel()).await;
    let id = watching.watch(fragmented(with_prev_kv(range("k", "l")))).await;
    // Just below it whole, and above it split.
    let first = writer.txn(puts(15_000)).await;
    watching.until_revision(id, first).await;
    assert_eq!(watching.ledger.fragments, 0);
    let second = writer.txn(puts(15_000)).await;
    let parts = to_the_end_of(&mut watching, id, second, PUTS).await;
    assert!(parts.len() > 1, "it is above the limit");
    assert!(parts.iter().all(|part| part.encoded_len() < 2 << 20));
}
