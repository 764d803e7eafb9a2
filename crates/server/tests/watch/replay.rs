//! History, before what happens now.

use bytes::Bytes;
use stentor_proto::etcdserverpb::WatchCreateRequest;
use stentor_proto::etcdserverpb::request_op::Request;

use super::client::{Watching, everything, from, history, key, range, with_prev_kv};
use super::ledger::{NOBODY, is_put, revision_of};
use super::writes::{Writer, put_of};
use crate::harness::Rig;

/// More than the engine keeps in memory of recent changes.
const BEYOND_MEMORY: (usize, usize) = (240, 100_000);

#[tokio::test(start_paused = true)]
async fn from_the_first_with_deletes_and_re_creations() {
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    for round in 0..3 {
        writer.put("a", format!("{round}")).await;
        writer.put("b", format!("{round}")).await;
        writer.delete("a", "").await;
    }
    let mut watching = Watching::open(rig.channel()).await;
    let id = watching.watch(with_prev_kv(from(1, key("a")))).await;
    watching.settle().await;
    let seen = watching.seen(id);
    assert_eq!(seen.revisions(), [2, 4, 5, 7, 8, 10]);
    let versions: Vec<i64> = seen.events.iter().map(|event| event.kv.as_ref().unwrap().version).collect();
    assert_eq!(versions, [1, 0, 1, 0, 1, 0]);
    let created: Vec<i64> = seen.events.iter().map(|event| event.kv.as_ref().unwrap().create_revision).collect();
    assert_eq!(created, [2, 0, 5, 0, 8, 0]);
    let before: Vec<_> = seen.events.iter().map(|event| event.prev_kv.as_ref().map(|kv| kv.value.clone())).collect();
    let (none, value) = (None, |text: &'static str| Some(Bytes::from(text)));
    assert_eq!(before, [none.clone(), value("0"), none.clone(), value("1"), none, value("2")]);
}

/// etcd 18089 and 19179 lost the delete at the compacted revision.
#[tokio::test(start_paused = true)]
async fn across_the_compacted_revision() {
    for delete_at_it in [false, true] {
        let rig = Rig::start(&[]).await;
        let mut writer = Writer::new(&rig);
        for n in 0..4 {
            writer.put("a", format!("{n}")).await;
        }
        let at = if delete_at_it { writer.delete("a", "").await.0 } else { writer.put("a", "4").await };
        for n in 0..3 {
            writer.put("a", format!("later {n}")).await;
        }
        let all = history(&rig, 1).await;
        writer.compact(at).await;
        let mut watching = Watching::open(rig.channel()).await;
        let below = watching.watch(from(at - 1, key("a"))).await;
        assert_eq!(watching.until_compacted(below).await, at);
        assert_eq!(watching.revisions(below), [] as [i64; 0], "not skipped ahead");
        for start in [at, at + 1] {
            for request in [key("a"), with_prev_kv(key("a"))] {
                let id = watching.watch(from(start, request)).await;
                watching.until_revision(id, at + 3).await;
                let seen = watching.seen(id);
                assert_eq!(seen.events, seen.owed(&all), "from {start}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ten_watchers_at_ten_revisions() {
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    for _ in 0..100 {
        writer.put("a", "v").await;
    }
    let mut watching = Watching::open(rig.channel()).await;
    for n in 0..10 {
        watching.create(from(2 + 10 * n, key("a")));
    }
    watching.until(|ledger| ledger.watchers.len() == 10).await;
    writer.put("a", "live").await;
    watching.settle().await;
    for n in 0..10 {
        assert!(watching.revisions(n).into_iter().eq(2 + 10 * n..=102));
    }
}

/// etcd 17557: such a watcher never counted as caught up.
#[tokio::test(start_paused = true)]
async fn where_nothing_matches_it_is_soon_through() {
    let rig = Rig::start(&[]).await;
    let (values, bytes) = BEYOND_MEMORY;
    let mut writer = Writer::new(&rig);
    let newest = writer.bulk("busy", values, bytes).await;
    let mut watching = Watching::open(rig.channel()).await;
    let quiet = watching.watch(from(1, range("quiet", "quiet~"))).await;
    assert_eq!(watching.settle().await, newest);
    let deletes = WatchCreateRequest { filters: vec![0], ..from(1, key("busy")) };
    let deletes = watching.watch(deletes).await;
    assert_eq!(watching.settle().await, newest);
    assert!(watching.seen(quiet).events.is_empty() && watching.seen(deletes).events.is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_nothing_but_deletes_without_deletes_tells_progress() {
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    for n in 0..50 {
        writer.put(format!("k{n:02}"), "v").await;
    }
    let first = rig.revision() + 1;
    for n in 0..50 {
        writer.delete(&format!("k{n:02}"), "").await;
    }
    let mut watching = Watching::open(rig.channel()).await;
    let id = watching.watch(WatchCreateRequest { filters: vec![1], ..from(first, everything()) }).await;
    assert_eq!(watching.settle().await, rig.revision());
    assert!(watching.seen(id).events.is_empty());
    let live = writer.put("k", "v").await;
    watching.settle().await;
    assert_eq!(watching.revisions(id), [live]);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_it_is_what_was_seen_live() {
    for crash in [false, true] {
        let rig = Rig::start(&[]).await;
        let mut watching = Watching::open(rig.channel()).await;
        let id = watching.watch(with_prev_kv(everything())).await;
        let mut writer = Writer::new(&rig);
        for n in 0..20 {
            let puts = (0..5).map(|k| Request::RequestPut(put_of(format!("k{k}"), format!("{n}"))));
            writer.txn(puts).await;
            writer.delete("k1", "k3").await;
        }
        watching.settle().await;
        let live = watching.ledger.watchers.remove(&id).unwrap().events;
        assert_eq!(live.len(), 20 * 7);
        let rig = if crash { rig.crash().await } else { rig.restart().await };
        assert_eq!(history(&rig, 1).await, live);
        let mut watching = Watching::open(rig.channel()).await;
        let id = watching.watch(from(30, everything())).await;
        let next = rig.put("after", "v").await;
        watching.settle().await;
        assert_eq!(watching.seen(id).events.len(), live.iter().filter(|e| revision_of(e) >= 30).count() + 1);
        assert_eq!(watching.seen(id).last(), next);
    }
}

/// 50,000 revisions, or a million with `STENTOR_TEST_CHECK_PERF`.
#[tokio::test(start_paused = true)]
async fn a_long_one_while_writes_go_on() {
    let all = std::env::var_os("STENTOR_TEST_CHECK_PERF").is_some();
    let revisions: i64 = if all { 1_000_000 } else { 50_000 };
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    let value = Bytes::from_static(&[b'v'; 200]);
    let newest = writer.fill((0..revisions).map(|n| (format!("k{}", n % 100), value.clone()))).await;
    assert_eq!(newest, revisions + 1);
    let mut watching = Watching::open(rig.channel()).await;
    let id = watching.watch(from(2, everything())).await;
    // One write for each response, until it has caught up with them.
    let mut writes = 0;
    while watching.seen(id).events.len() as i64 != revisions + writes {
        let response = watching.response().await;
        assert!(!response.events.is_empty(), "{response:?}");
        if watching.seen(id).last() < newest {
            writer.put("k0", "amid").await;
            writes += 1;
        }
        // All are there, so none is missing, in order and once.
        assert_eq!(watching.seen(id).last(), watching.seen(id).events.len() as i64 + 1);
    }
    assert!(writes > 0, "the replay came in one response");
}

/// Responses to a watcher that catches up stay far below the 4 MiB that most clients bear (etcd 18965 and
/// 19441), and each says no more in its header than it must.
/// gazette/core 337: who takes a header for its cursor loses what comes in the next response.
#[tokio::test(start_paused = true)]
async fn it_is_packed_and_its_headers_are_no_promise() {
    const MOST: usize = 1 << 20;
    let rig = Rig::start(&[]).await;
    let (values, bytes) = BEYOND_MEMORY;
    let newest = Writer::new(&rig).bulk("a", values, bytes).await;
    for request in [key("a"), with_prev_kv(key("a"))] {
        let mut watching = Watching::open(rig.channel()).await;
        let id = watching.watch(from(1, request.clone())).await;
        while watching.seen(id).last() < newest {
            let response = watching.response().await;
            let size = prost::Message::encoded_len(&response);
            assert!(size < MOST + 2 * bytes + 4096, "{size} bytes in one response");
        }
        let seen = watching.seen(id);
        assert_eq!(seen.events.len(), values);
        assert!(seen.headers.len() > values * bytes / (2 * MOST), "{} responses", seen.headers.len());
        // The header of a response stays below what is still to come.
        assert!(seen.headers.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", seen.headers);
        assert_eq!(seen.headers.last(), Some(&newest));
    }
}

/// etcd 21174: told again and again, and never off the list.
#[tokio::test(start_paused = true)]
async fn two_thousand_overtaken_by_one_compaction_are_told_once_each() {
    const WATCHERS: i64 = 2_000;
    let rig = Rig::start(&[]).await;
    let (values, bytes) = BEYOND_MEMORY;
    let mut writer = Writer::new(&rig);
    let newest = writer.bulk("a", values, bytes).await;
    let mut watching = Watching::open(rig.channel()).await;
    // None is read, so that they stay behind.
    for _ in 0..WATCHERS {
        watching.create(from(2, key("a")));
    }
    writer.compact(newest).await;
    // The ledger bears no second cancel of one.
    watching
        .until(|ledger| {
            let told = ledger.watchers.values().filter(|seen| seen.cancel.is_some()).count();
            told as i64 == WATCHERS
        })
        .await;
    assert!(watching.ledger.watchers.values().all(|s| s.cancel.as_ref().unwrap().compact_revision == newest));
    let live = watching.watch(key("a")).await;
    let revision = rig.put("a", "live").await;
    assert_eq!(watching.settle().await, revision, "cancelled ones silence nobody");
    assert_eq!(watching.revisions(live), [revision]);
    // A late cancel of one that is gone hits nobody else.
    watching.cancel(5);
    watching.cancel(NOBODY);
    let revision = rig.put("a", "more").await;
    watching.until_revision(live, revision).await;
    assert!(is_put(watching.seen(live).events.last().unwrap()));
}
