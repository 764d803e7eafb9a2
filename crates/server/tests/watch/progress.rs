//! Progress: what notes say, and when they come.

use std::time::Duration;

use stentor_proto::etcdserverpb::{CompactionRequest, WatchResponse};
use tokio::time::{Instant, timeout};

use super::client::{Watching, everything, from, key, with_notes};
use super::ledger::NOBODY;
use super::writes::Writer;
use crate::harness::Rig;

/// As long as nothing comes by itself, this is over at once.
const WHILE: Duration = Duration::from_secs(50);
/// So that no periodic note comes.
const NO_TICKS: &str = "--watch-progress-notify-interval=100h";

/// A note's watcher and revision; nothing else may be in it.
fn note(response: &WatchResponse) -> (i64, i64) {
    let revision = response.header.unwrap().revision;
    let bare = WatchResponse { header: response.header, watch_id: response.watch_id, ..WatchResponse::default() };
    assert_eq!(*response, bare);
    (response.watch_id, revision)
}

async fn silent(watching: &mut Watching) {
    let came = timeout(WHILE, watching.next()).await;
    assert!(came.is_err(), "{came:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_once_for_all() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let mut watching = Watching::open(rig.channel()).await;
    for name in ["a", "b", "c"] {
        watching.watch(key(name)).await;
    }
    let revision = rig.put("other", "v").await;
    watching.progress();
    assert_eq!(note(&watching.response().await), (NOBODY, revision));
    assert!(watching.ledger.watchers.values().all(|seen| seen.noted == revision));
    silent(&mut watching).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_watcher_nothing_is_told() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let mut watching = Watching::open(rig.channel()).await;
    watching.progress();
    silent(&mut watching).await;
    let id = watching.watch(key("a")).await;
    watching.cancel(id);
    assert!(watching.response().await.canceled);
    watching.progress();
    silent(&mut watching).await;
}

/// However often it is asked meanwhile.
#[tokio::test(start_paused = true)]
async fn with_one_unsynced_it_is_answered_as_soon_as_that_has_caught_up() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let newest = Writer::new(&rig).bulk("a", 240, 100_000).await;
    let mut watching = Watching::open(rig.channel()).await;
    let live = watching.watch(key("b")).await;
    let behind = watching.watch(from(1, key("a"))).await;
    (0..5).for_each(|_| watching.progress());
    let mut notes = Vec::new();
    while notes.is_empty() {
        let response = watching.response().await;
        if response.events.is_empty() {
            notes.push(note(&response));
        }
    }
    assert_eq!(notes, [(NOBODY, newest)]);
    assert_eq!((watching.seen(behind).events.len(), watching.seen(live).events.len()), (240, 0));
    silent(&mut watching).await;
}

/// etcd 20221: none below the start. What is owed is told by the very revision that reaches it.
#[tokio::test(start_paused = true)]
async fn with_a_start_in_the_future_it_is_answered_when_that_is_reached() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let mut watching = Watching::open(rig.channel()).await;
    let now = rig.put("a", "v").await;
    watching.watch(with_notes(from(now + 3, key("quiet")))).await;
    watching.watch(key("quiet")).await;
    watching.progress();
    for revision in now + 1..now + 3 {
        assert_eq!(rig.put("a", "v").await, revision);
        silent(&mut watching).await;
    }
    rig.put("a", "v").await;
    assert_eq!(note(&watching.response().await), (NOBODY, now + 3));
    silent(&mut watching).await;
}

/// etcd 15220: a note overtook events. The ledger bears none that does.
#[tokio::test(start_paused = true)]
async fn a_note_comes_after_the_events_that_it_tells_of() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let mut watching = Watching::open(rig.channel()).await;
    for _ in 0..50 {
        watching.watch(key("a")).await;
    }
    let mut writer = Writer::new(&rig);
    let mut last = 0;
    for n in 0..200 {
        last = writer.put("a", format!("{n}")).await;
        watching.progress();
    }
    let mut notes = 0;
    while watching.seen(0).noted < last {
        notes += usize::from(watching.response().await.watch_id == NOBODY);
    }
    assert!(notes > 0 && watching.ledger.watchers.values().all(|seen| seen.events.len() == 200));
}

#[tokio::test(start_paused = true)]
async fn one_that_compaction_has_cancelled_does_not_count() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let mut writer = Writer::new(&rig);
    let newest = writer.bulk("a", 10, 10).await;
    writer.compact(newest).await;
    let mut watching = Watching::open(rig.channel()).await;
    let live = watching.watch(key("b")).await;
    let gone = watching.watch(from(2, key("a"))).await;
    assert_eq!(watching.until_compacted(gone).await, newest);
    assert_eq!(watching.settle().await, newest);
    assert_eq!(watching.seen(live).noted, newest);
    // Alone it is as good as no watcher.
    watching.cancel(live);
    assert!(watching.response().await.canceled);
    watching.progress();
    silent(&mut watching).await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watcher_gets_periodic_notes_and_a_busy_one_none() {
    let rig = Rig::start(&["--watch-progress-notify-interval=10s"]).await;
    let mut watching = Watching::open(rig.channel()).await;
    let quiet = watching.watch(with_notes(key("quiet"))).await;
    let busy = watching.watch(with_notes(key("busy"))).await;
    let future = watching.watch(with_notes(from(1_000, key("quiet")))).await;
    let mute = watching.watch(key("quiet")).await;
    let begun = Instant::now();
    let mut notes = Vec::new();
    while begun.elapsed() < Duration::from_secs(120) {
        // Something for the busy one between any two ticks.
        rig.put("busy", "v").await;
        let until = Instant::now() + Duration::from_secs(5);
        while let Ok(response) = tokio::time::timeout_at(until, watching.next()).await {
            let response = response.unwrap();
            if response.events.is_empty() {
                notes.push(note(&response));
            }
        }
    }
    // Every 10 s, with up to a tenth more, and each tells the store's revision.
    assert!((10..=12).contains(&notes.len()), "{notes:?}");
    assert!(notes.iter().all(|(id, _)| *id == quiet), "{notes:?}");
    assert!(notes.is_sorted_by(|a, b| a.1 < b.1), "{notes:?}");
    let told = |id| watching.seen(id).noted;
    assert_eq!((told(busy), told(future), told(mute)), (0, 0, 0));
}

/// etcd 20262: what a quiet watcher would resume at was compacted away by others' writes.
#[tokio::test(start_paused = true)]
async fn a_compaction_brings_a_note_to_who_is_quiet() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let mut watching = Watching::open(rig.channel()).await;
    let quiet = watching.watch(with_notes(key("quiet"))).await;
    watching.watch(key("quiet")).await;
    let mut writer = Writer::new(&rig);
    let newest = writer.bulk("busy", 50, 10).await;
    rig.kv().compact(CompactionRequest { revision: newest - 5, physical: false }).await.unwrap();
    let (id, revision) = note(&watching.response().await);
    assert_eq!(id, quiet);
    assert!(revision >= newest - 5, "{revision}");
    // From there it can go on.
    let mut resumed = Watching::open(rig.channel()).await;
    let id = resumed.watch(from(revision + 1, key("quiet"))).await;
    let live = rig.put("quiet", "v").await;
    resumed.until_revision(id, live).await;
    assert_eq!(resumed.revisions(id), [live]);
}

/// Notes are told of the whole store, and asked for by a client that then writes no more.
#[tokio::test(start_paused = true)]
async fn under_full_write_load_it_is_answered_all_the_same() {
    let rig = Rig::start(&[NO_TICKS]).await;
    let mut watching = Watching::open(rig.channel()).await;
    watching.watch(everything()).await;
    watching.watch(key("quiet")).await;
    let writers: Vec<_> = (0..8)
        .map(|name| {
            let mut writer = Writer::new(&rig);
            tokio::spawn(async move {
                for n in 0.. {
                    writer.put(format!("k{name}"), format!("{n}")).await;
                }
            })
        })
        .collect();
    let mut most = 0;
    for _ in 0..50 {
        let asked_at = rig.revision();
        watching.progress();
        loop {
            let response = watching.response().await;
            if response.events.is_empty() {
                let (id, revision) = note(&response);
                assert!(id == NOBODY && revision >= asked_at, "{revision} after {asked_at}");
                most = most.max(revision - asked_at);
                break;
            }
        }
    }
    writers.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(most < 2_000, "{most} writes were made before an answer");
}
