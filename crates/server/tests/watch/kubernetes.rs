//! Watches as kube-apiserver and its client have them.

use std::time::Duration;

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{LeaseGrantRequest, PutRequest, WatchCreateRequest, WatchResponse};
use tokio::time::{Instant, sleep, timeout};

use super::client::{Watching, from, key, range, with_notes, with_prev_kv};
use super::ledger::{NOBODY, is_put};
use super::writes::{Writer, put_of};
use crate::harness::{Rig, prefixed, revision, until};

const NO_TICKS: &str = "--watch-progress-notify-interval=100h";
const PODS: &str = "/registry/pods/";
const PODS_END: &str = "/registry/pods0";

/// What the watch cache asks for after a list.
fn pods(start: i64) -> WatchCreateRequest {
    with_notes(with_prev_kv(from(start, range(PODS, PODS_END))))
}

/// A stream as the watch cache opens it.
async fn cache(rig: &Rig) -> Watching {
    let prepare = |request: &mut tonic::Request<_>| {
        for (name, value) in [("hasleader", "true"), ("source", "cache"), ("client-api-version", "3.7.3")] {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
    };
    Watching::open_with(rig.channel(), prepare).await.unwrap()
}

async fn list(rig: &Rig) -> i64 {
    revision(rig.kv().range(prefixed(PODS)).await.unwrap().into_inner().header)
}

/// As the API server reads a response: progress only if it is nothing else.
fn is_progress(response: &WatchResponse) -> bool {
    response.events.is_empty()
        && !response.created
        && !response.canceled
        && response.compact_revision == 0
        && response.header.unwrap().revision != 0
}

#[tokio::test(start_paused = true)]
async fn a_list_and_the_watch_from_its_revision_miss_nothing() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let mut writer = Writer::new(&rig);
    writer.put(format!("{PODS}default/a"), "1").await;
    writer.put("/registry/leases/node", "1").await;
    let listed = list(&rig).await;
    let mut cache = cache(&rig).await;
    writer.put(format!("{PODS}default/b"), "1").await;
    let id = cache.watch(pods(listed + 1)).await;
    writer.put(format!("{PODS}default/a"), "2").await;
    writer.delete(&format!("{PODS}default/a"), "").await;
    cache.settle().await;
    let seen = cache.seen(id);
    assert_eq!(seen.revisions(), [listed + 1, listed + 2, listed + 3]);
    // A delete is read from the value before it.
    let deleted = seen.events.last().unwrap();
    assert!(!is_put(deleted) && deleted.prev_kv.as_ref().unwrap().value == "2");
}

/// Each 100 ms while a read waits: each is answered before the next, by a revision that the read may use.
#[tokio::test(start_paused = true)]
async fn progress_asked_for_every_100_ms_is_answered_each_time() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let mut cache = cache(&rig).await;
    let started = rig.put("/registry/pods/default/a", "1").await;
    let id = cache.watch(pods(started)).await;
    let mut writer = Writer::new(&rig);
    for n in 0..50 {
        let newest = writer.put(if n % 2 == 0 { "/registry/leases/node" } else { "/registry/pods/x" }, "v").await;
        let asked = Instant::now();
        cache.progress();
        loop {
            let response = cache.response().await;
            if is_progress(&response) {
                assert_eq!((response.watch_id, response.header.unwrap().revision), (NOBODY, newest));
                break;
            }
        }
        assert_eq!(asked.elapsed(), Duration::ZERO, "it waited for a timer");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(cache.seen(id).events.len(), 26);
}

/// Right after a list nothing is newer than it: silence is right, and the very next revision is told.
#[tokio::test(start_paused = true)]
async fn progress_right_after_a_list_comes_with_the_next_revision() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let listed = list(&rig).await;
    let mut cache = cache(&rig).await;
    cache.watch(pods(listed + 1)).await;
    (0..3).for_each(|_| cache.progress());
    assert!(timeout(Duration::from_secs(3), cache.next()).await.is_err());
    let next = rig.put("/registry/leases/node", "v").await;
    let told = cache.response().await;
    assert!(is_progress(&told) && told.header.unwrap().revision == next);
}

/// An idle resource's notes move with the whole store.
#[tokio::test(start_paused = true)]
async fn notes_of_an_idle_resource_move_with_the_store() {
    let rig = Rig::start(&["--watch-progress-notify-interval=5s"]).await;
    let mut cache = cache(&rig).await;
    let id = cache.watch(pods(0)).await;
    for _ in 0..5 {
        let newest = rig.put("/registry/leases/node", "v").await;
        let note = cache.response().await;
        assert!(is_progress(&note) && note.watch_id == id && note.header.unwrap().revision == newest, "{note:?}");
    }
}

/// A cancel by compaction has its revision and no reason; every refusal has a reason, without which it would
/// be read as "future revision".
#[tokio::test(start_paused = true)]
async fn what_ends_a_watch_says_why() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let mut writer = Writer::new(&rig);
    let newest = writer.bulk("/registry/pods/a", 10, 10).await;
    writer.compact(newest).await;
    let mut cache = cache(&rig).await;
    let old = cache.watch(pods(2)).await;
    assert_eq!(cache.until_compacted(old).await, newest);
    let negative = from(-1, range(PODS, PODS_END));
    for refused in [negative, range("b", "a")] {
        cache.create(refused);
        let answer = cache.response().await;
        assert!(answer.created && answer.canceled && answer.watch_id == NOBODY && !answer.cancel_reason.is_empty());
        assert_eq!(answer.compact_revision, 0);
    }
    assert_eq!(EtcdError::Compacted.text(), "etcdserver: mvcc: required revision has been compacted");
}

/// clientv3 resumes at the created header's revision when it started at 0.
#[tokio::test(start_paused = true)]
async fn the_created_header_is_the_newest_revision() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let mut cache = cache(&rig).await;
    for n in 0..10 {
        let newest = rig.put("/registry/leases/node", "v").await;
        let id = cache.watch(pods(0)).await;
        assert_eq!((id, cache.seen(id).created_at), (n, newest));
    }
}

/// The compaction watch: from a key's revision on, without previous values.
#[tokio::test(start_paused = true)]
async fn the_watch_on_compact_rev_key() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let first = rig.put("compact_rev_key", "0").await;
    let mut watching = cache(&rig).await;
    let id = watching.watch(from(first, key("compact_rev_key"))).await;
    let mut writer = Writer::new(&rig);
    for n in 1..=5 {
        let now = writer.put("/registry/leases/node", "v").await;
        writer.put("compact_rev_key", format!("{now}")).await;
        writer.compact(now).await;
        watching.settle().await;
        let last = watching.seen(id).events.last().unwrap().kv.as_ref().unwrap();
        assert_eq!((last.value.clone(), last.version), (format!("{now}").into(), n + 1));
    }
}

/// Events share leases: their end is one revision of deletes, each with what it deleted.
#[tokio::test(start_paused = true)]
async fn expiring_events_are_deletes_with_their_values_in_one_revision() {
    const EVENTS: i64 = 1_000;
    let rig = Rig::start(&[NO_TICKS]).await;
    rig.lease().lease_grant(LeaseGrantRequest { id: 1, ttl: 3600 }).await.unwrap();
    let mut writer = Writer::new(&rig);
    let mut watching = cache(&rig).await;
    let id = watching.watch(with_notes(with_prev_kv(range("/registry/events/", "/registry/events0")))).await;
    for chunk in 0..EVENTS / 100 {
        let puts = (chunk * 100..(chunk + 1) * 100).map(|n| {
            let put = put_of(format!("/registry/events/default/{n:04}"), format!("{n}"));
            Request::RequestPut(PutRequest { lease: 1, ..put })
        });
        writer.txn(puts).await;
    }
    let written = rig.revision();
    until_expired(&rig, written).await;
    watching.settle().await;
    let deletes: Vec<_> = watching.seen(id).events.iter().filter(|event| !is_put(event)).collect();
    assert_eq!(deletes.len() as i64, EVENTS);
    for (n, event) in deletes.iter().enumerate() {
        assert_eq!(event.kv.as_ref().unwrap().mod_revision, written + 1);
        assert_eq!(event.prev_kv.as_ref().unwrap().value, format!("{n}"));
    }
}

/// Longer than a test's usual patience, by a clock that costs nothing.
async fn until_expired(rig: &Rig, written: i64) {
    sleep(Duration::from_secs(3590)).await;
    until(|| rig.revision() == written + 1).await;
}

/// Two kinds of metadata are two streams of one connection, with ids of their own.
#[tokio::test(start_paused = true)]
async fn streams_of_different_metadata_are_apart() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let (mut with_cache, mut plain) = (cache(&rig).await, Watching::open(rig.channel()).await);
    assert_eq!((with_cache.watch(pods(0)).await, plain.watch(with_prev_kv(range(PODS, PODS_END))).await), (0, 0));
    let revision = rig.put("/registry/pods/a", "v").await;
    with_cache.until_revision(0, revision).await;
    plain.until_revision(0, revision).await;
    with_cache.cancel(0);
    assert!(with_cache.response().await.canceled);
    let revision = rig.put("/registry/pods/a", "v").await;
    plain.until_revision(0, revision).await;
}
