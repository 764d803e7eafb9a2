//! Creating watchers.

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use super::client::{Watching, everything, from, key, range};
use super::ledger::NOBODY;
use super::writes::Writer;
use crate::harness::Rig;

const NO_PUT: i32 = 0;
const NO_DELETE: i32 = 1;

fn with_id(watch_id: i64, request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest { watch_id, ..request }
}

/// The next response is a refusal with this reason.
async fn refused(watching: &mut Watching, request: WatchCreateRequest, reason: &str) {
    watching.create(request);
    let answer = watching.response().await;
    let expected = WatchResponse {
        header: answer.header,
        watch_id: NOBODY,
        created: true,
        canceled: true,
        cancel_reason: reason.to_owned(),
        ..WatchResponse::default()
    };
    assert_eq!(answer, expected);
}

/// The keys that a range's watcher gets, of all that are put.
async fn keys_seen(rig: &Rig, request: WatchCreateRequest, keys: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut watching = Watching::open(rig.channel()).await;
    let id = watching.watch(request).await;
    let mut writer = Writer::new(rig);
    for key in keys {
        writer.put(*key, "v").await;
    }
    watching.settle().await;
    watching.seen(id).events.iter().map(|event| event.kv.as_ref().unwrap().key.to_vec()).collect()
}

#[tokio::test(start_paused = true)]
async fn ranges_are_one_key_from_key_on_and_half_open() {
    let rig = Rig::start(&[]).await;
    let keys: [&[u8]; 7] = [&[0], b"a", b"ab", b"b", b"c", &[0xff], &[0xff, 0xff]];
    for (request, seen) in [
        (key("a"), &keys[1..2]),
        (range("a", "c"), &keys[1..4]),
        (range("a", "b"), &keys[1..3]),
        (range("b", [0]), &keys[3..]),
        // No key is the least one.
        (key(""), &keys[..1]),
        (range("", [0]), &keys[..]),
        (range("", "b"), &keys[..3]),
        (key([0xff]), &keys[5..6]),
        (key([0xff, 0xff]), &keys[6..]),
        // A prefix of nothing but 0xff has no end above it: from the key on.
        (range([0xff], [0]), &keys[5..]),
        (range([0xff], [0xff, 0xff]), &keys[5..6]),
        (range("a", "aa"), &keys[1..2]),
    ] {
        assert_eq!(keys_seen(&rig, request.clone(), &keys).await, seen, "{request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_of_a_mebibyte() {
    let rig = Rig::start(&[]).await;
    let long = vec![b'k'; 1 << 20];
    let longer = [&long[..], b"k"].concat();
    let keys: [&[u8]; 3] = [&long, &longer, b"k"];
    assert_eq!(keys_seen(&rig, key(long.clone()), &keys).await, [&long[..]]);
    assert_eq!(keys_seen(&rig, range(long.clone(), [0]), &keys).await, [&long[..], &longer]);
    assert_eq!(keys_seen(&rig, range("k", long.clone()), &keys).await, [b"k"]);
}

/// etcd 14296: a refusal carried the id 0, and clients closed the watcher that had it.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused_with_nobodys_id_and_the_stream_goes_on() {
    const EMPTY: &str = "mvcc: watcher range is empty";
    const DUPLICATE: &str = "mvcc: duplicate watch ID provided on the WatchStream";
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    assert_eq!(watching.watch(with_id(7, key("a"))).await, 7);
    for nothing in [range("b", "b"), range("b", "a"), range("b", ""), range("", [0])] {
        match &nothing.range_end[..] {
            b"" | b"\0" => drop(watching.watch(nothing).await),
            _ => refused(&mut watching, nothing, EMPTY).await,
        }
    }
    let compacted = EtcdError::Compacted.text();
    for start in [-1, i64::MIN] {
        refused(&mut watching, from(start, key("a")), compacted).await;
    }
    refused(&mut watching, with_id(7, key("b")), DUPLICATE).await;
    // The revision is looked at first, then the range, then the id.
    refused(&mut watching, with_id(7, from(-1, range("b", "a"))), compacted).await;
    refused(&mut watching, with_id(7, range("b", "a")), EMPTY).await;
    let revision = rig.put("a", "v").await;
    watching.until_revision(7, revision).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_of_zero_is_after_the_created_revision() {
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    let before = rig.put("a", "old").await;
    let id = watching.watch(key("a")).await;
    assert_eq!(watching.seen(id).created_at, before);
    let after = rig.put("a", "new").await;
    watching.settle().await;
    assert_eq!(watching.revisions(id), [after]);
}

#[tokio::test(start_paused = true)]
async fn a_start_at_the_next_revision_gets_it() {
    let rig = Rig::start(&[]).await;
    let now = rig.put("a", "old").await;
    let mut watching = Watching::open(rig.channel()).await;
    let id = watching.watch(from(now + 1, key("a"))).await;
    assert_eq!(watching.seen(id).created_at, now);
    rig.put("a", "next").await;
    rig.put("a", "last").await;
    watching.settle().await;
    assert_eq!(watching.revisions(id), [now + 1, now + 2]);
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_future_waits_while_writes_pass_it() {
    let rig = Rig::start(&[]).await;
    let now = rig.put("a", "old").await;
    let mut watching = Watching::open(rig.channel()).await;
    let id = watching.watch(from(now + 10, key("a"))).await;
    assert_eq!(watching.seen(id).created_at, now);
    for _ in 0..15 {
        rig.put("a", "v").await;
    }
    watching.settle().await;
    let due: Vec<i64> = (now + 10..=now + 15).collect();
    assert_eq!(watching.revisions(id), due);
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_past_replays_and_goes_on() {
    let rig = Rig::start(&[]).await;
    for _ in 0..5 {
        rig.put("a", "v").await;
    }
    let mut watching = Watching::open(rig.channel()).await;
    let id = watching.watch(from(3, key("a"))).await;
    rig.put("a", "live").await;
    watching.settle().await;
    assert_eq!(watching.revisions(id), [3, 4, 5, 6, 7]);
}

#[tokio::test(start_paused = true)]
async fn ids_go_upwards_and_are_never_given_again() {
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    assert_eq!(watching.watch(key("a")).await, 0);
    for chosen in [2, -5, i64::MAX, 3] {
        assert_eq!(watching.watch(with_id(chosen, key("a"))).await, chosen);
    }
    // It skips those in use, and those that were cancelled.
    assert_eq!(watching.watch(key("a")).await, 1);
    assert_eq!(watching.watch(key("a")).await, 4);
    for id in [4, 2, 0] {
        watching.cancel(id);
        assert!(watching.response().await.canceled);
    }
    assert_eq!(watching.watch(key("a")).await, 5);
    assert_eq!(watching.watch(key("a")).await, 6);
    // Nor does it give one that was chosen and cancelled before it came there.
    assert_eq!(watching.watch(with_id(8, key("a"))).await, 8);
    watching.cancel(8);
    assert!(watching.response().await.canceled);
    assert_eq!(watching.watch(key("a")).await, 7);
    assert_eq!(watching.watch(key("a")).await, 9);
    // Chosen, an id that was cancelled may be taken again.
    assert_eq!(watching.watch(with_id(2, key("a"))).await, 2);
    let revision = rig.put("a", "v").await;
    watching.settle().await;
    for (id, seen) in &watching.ledger.watchers {
        let live = ![4, 0, 8].contains(id);
        assert_eq!(seen.revisions(), if live { vec![revision] } else { vec![] }, "watcher {id}");
    }
}

#[tokio::test(start_paused = true)]
async fn filters_leave_the_rest() {
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    for filters in [vec![], vec![NO_PUT], vec![NO_DELETE], vec![NO_PUT, NO_DELETE], vec![99]] {
        watching.watch(WatchCreateRequest { filters, ..key("a") }).await;
    }
    let mut writer = Writer::new(&rig);
    for _ in 0..3 {
        writer.put("a", "v").await;
        writer.delete("a", "").await;
    }
    // Progress is told to those as well to whom nothing came.
    assert_eq!(watching.settle().await, 7);
    let revisions: Vec<_> = (0..5).map(|id| watching.revisions(id)).collect();
    let all = vec![2, 3, 4, 5, 6, 7];
    assert_eq!(revisions, [all.clone(), vec![3, 5, 7], vec![2, 4, 6], vec![], all]);
}

#[tokio::test(start_paused = true)]
async fn two_creates_in_one_flight_are_answered_in_order() {
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    watching.create(key("a"));
    watching.create(key("b"));
    for id in 0..2 {
        let created = watching.response().await;
        assert_eq!((created.created, created.watch_id), (true, id));
    }
    let (a, b) = (rig.put("a", "v").await, rig.put("b", "v").await);
    watching.settle().await;
    assert_eq!((watching.revisions(0), watching.revisions(1)), (vec![a], vec![b]));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_creates_on_one_stream() {
    const CREATES: i64 = 10_000;
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    for n in 0..CREATES {
        watching.create(key(format!("k{n:05}")));
    }
    for id in 0..CREATES {
        let created = watching.response().await;
        assert!(created.created && !created.canceled && created.watch_id == id, "{created:?}");
    }
    let mut writer = Writer::new(&rig);
    writer.fill((0..CREATES).map(|n| (format!("k{n:05}"), "v".into()))).await;
    watching.settle().await;
    assert!(watching.ledger.watchers.values().all(|seen| seen.events.len() == 1));
}

/// What is written around the create is either below the created revision or delivered.
#[tokio::test(start_paused = true)]
async fn a_create_at_zero_during_heavy_writes_leaves_no_gap() {
    const ROUNDS: usize = 50;
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    let writer = Writer::new(&rig);
    let writes: Vec<_> = (0..4)
        .map(|name| {
            let mut writer = writer.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    writer.put(format!("k{name}"), format!("{n}")).await;
                }
            })
        })
        .collect();
    let mut amid = 0;
    for _ in 0..ROUNDS {
        // Its answer comes after what was due to the one before.
        watching.create(everything());
        let id = watching.ledger.watchers.len() as i64;
        watching.until(|ledger| ledger.watchers.contains_key(&id)).await;
        let created_at = watching.seen(id).created_at;
        watching.until_revision(id, created_at + 5).await;
        let revisions = watching.revisions(id);
        assert!(revisions.iter().copied().eq(created_at + 1..=created_at + revisions.len() as i64), "{revisions:?}");
        amid += i64::from(created_at > 1);
        watching.cancel(id);
    }
    writes.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(amid > 10, "the writes were not heavy: {amid}");
}
