//! Compact and HashKV.

use std::time::Duration;

use stentor_proto::etcdserverpb::{CompactionRequest, DefragmentRequest, HashKvRequest, HashKvResponse, StatusRequest};

use super::delete;
use crate::harness::{Rig, put, until};

const HOUR: Duration = Duration::from_secs(3600);

async fn hash(rig: &Rig, revision: i64) -> HashKvResponse {
    rig.maintenance().hash_kv(HashKvRequest { revision }).await.unwrap().into_inner()
}

async fn in_use(rig: &Rig) -> i64 {
    rig.maintenance().status(StatusRequest {}).await.unwrap().into_inner().db_size_in_use
}

#[tokio::test(start_paused = true)]
async fn a_physical_one_is_answered_when_the_space_is_free() {
    let rig = Rig::start(&["--compaction-batch-limit=10"]).await;
    for _ in 0..50 {
        for n in 0..10 {
            rig.put(&format!("k{n}"), vec![b'v'; 1000]).await;
        }
    }
    let before = in_use(&rig).await;
    assert!(before > 500 * 1000);
    let mut kv = rig.kv();
    let half = rig.revision() / 2;
    kv.compact(CompactionRequest { revision: half, physical: false }).await.unwrap();
    let finished = rig.member.node.store.compaction_finished().get();
    assert!(finished < half, "answered before the space work: {finished}");
    let all = rig.revision();
    let answer = kv.compact(CompactionRequest { revision: all, physical: true }).await.unwrap().into_inner();
    assert_eq!(answer.header.unwrap().revision, all);
    assert_eq!(rig.member.node.store.compaction_finished().get(), all);
    let after = in_use(&rig).await;
    assert!(after < 12 * 1100, "{after} bytes left of {before}");
}

#[tokio::test(start_paused = true)]
async fn one_that_was_interrupted_goes_on_after_a_crash() {
    let rig = Rig::start(&["--compaction-batch-limit=10"]).await;
    for _ in 0..200 {
        rig.put("k", vec![b'v'; 1000]).await;
    }
    let now = rig.revision();
    rig.kv().compact(CompactionRequest { revision: now, physical: false }).await.unwrap();
    assert!(rig.member.node.store.compaction_finished().get() < now);
    let rig = rig.crash().await;
    assert_eq!(rig.revision(), now);
    until(|| rig.member.node.store.compaction_finished().get() == now).await;
    let left = in_use(&rig).await;
    // One that a watch from the compacted revision owes as the previous pair is kept.
    assert!(left < 2100, "{left} bytes left");
}

#[tokio::test(start_paused = true)]
async fn hashes_do_not_show_how_far_the_space_work_is() {
    let rig = Rig::start(&["--compaction-batch-limit=10"]).await;
    assert_eq!(hash(&rig, 0).await.compact_revision, -1);
    for n in 0..100 {
        rig.put(&format!("k{}", n % 7), format!("{n}")).await;
    }
    rig.kv().delete_range(delete("k3")).await.unwrap();
    let at = rig.revision();
    rig.put("k4", "after").await;
    let before = hash(&rig, at).await;
    assert_eq!((before.hash_revision, before.header.unwrap().revision), (at, at));
    assert_ne!(hash(&rig, 0).await.hash, before.hash);
    assert_ne!(hash(&rig, at - 1).await.hash, before.hash);

    // etcd hashes what is kept: the same before the space work, after it, and after a defragmentation.
    rig.kv().compact(CompactionRequest { revision: at, physical: false }).await.unwrap();
    let compacted = hash(&rig, at).await;
    assert_eq!(compacted.compact_revision, at);
    assert!(rig.member.node.store.compaction_finished().get() < at);
    until(|| rig.member.node.store.compaction_finished().get() == at).await;
    assert_eq!(hash(&rig, at).await, compacted);
    rig.maintenance().defragment(DefragmentRequest {}).await.unwrap();
    assert_eq!(hash(&rig, at).await, compacted);
    let rig = rig.crash().await;
    assert_eq!(hash(&rig, at).await.hash, compacted.hash);

    // Another member with the same history has the same hash.
    let other = Rig::start(&[]).await;
    for n in 0..100 {
        other.put(&format!("k{}", n % 7), format!("{n}")).await;
    }
    other.kv().delete_range(delete("k3")).await.unwrap();
    other.kv().put(put("k4", "after")).await.unwrap();
    assert_eq!(hash(&other, at).await.hash, before.hash);
    other.kv().compact(CompactionRequest { revision: at, physical: true }).await.unwrap();
    assert_eq!(hash(&other, at).await.hash, compacted.hash);
}

#[tokio::test(start_paused = true)]
async fn its_steps_are_as_far_apart_as_configured() {
    let rig = Rig::start(&["--compaction-batch-limit=10", "--compaction-sleep-interval=1h"]).await;
    for _ in 0..101 {
        rig.put("k", "v").await;
    }
    let (begun, all) = (tokio::time::Instant::now(), rig.revision());
    rig.kv().compact(CompactionRequest { revision: all, physical: false }).await.unwrap();
    while rig.member.node.store.compaction_finished().get() < all {
        assert!(begun.elapsed() < HOUR * 100);
        tokio::time::sleep(HOUR / 10).await;
    }
    let took = begun.elapsed();
    assert!((HOUR * 9..HOUR * 13).contains(&took), "{took:?} for a hundred records");
}

#[tokio::test(start_paused = true)]
async fn history_is_kept_for_as_long_as_configured() {
    let rig = Rig::start(&["--auto-compaction-retention=2h"]).await;
    let begun = tokio::time::Instant::now();
    for minute in 0..300 {
        assert_eq!(rig.put("k", "v").await, i64::from(minute) + 2, "one a minute");
        let compacted = hash(&rig, 0).await.compact_revision;
        if minute < 120 {
            assert_eq!(compacted, -1, "minute {minute}");
        } else if minute > 126 {
            // What is two hours old goes every hour, and is up to a look of six minutes older.
            let age = i64::from(minute) + 2 - compacted;
            assert!((120..=192).contains(&age), "minute {minute}: {age} minutes are kept");
        }
        tokio::time::sleep_until(begun + Duration::from_secs(60) * (minute + 1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_revisions_are_kept_as_configured() {
    let rig = Rig::start(&["--auto-compaction-mode=revision", "--auto-compaction-retention=100"]).await;
    for _ in 0..250 {
        rig.put("k", "v").await;
    }
    assert_eq!(hash(&rig, 0).await.compact_revision, -1);
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(hash(&rig, 0).await.compact_revision, rig.revision() - 100);
}
