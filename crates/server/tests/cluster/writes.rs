//! What is written comes out the same on every member.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::request_op::Request as Op;
use stentor_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, RangeRequest, RequestOp, TxnRequest};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::transport::Channel;

use super::rig::Cluster;
use crate::harness::{get, put, refused, until};

/// Waits until these have applied the same; then they must have the same.
async fn are_one(cluster: &Cluster, members: &[u16]) {
    let view = |number: u16| cluster.member(number).node.store.view();
    until(|| members.iter().all(|number| view(*number).applied() == view(members[0]).applied())).await;
    let hashes: Vec<_> = members.iter().map(|number| view(*number).hash_kv(0).unwrap()).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

/// A put, and a read at an old revision.
fn put_and_look_back(key: &str, revision: i64) -> TxnRequest {
    let ops = [Op::RequestPut(put(key, "v")), Op::RequestRange(RangeRequest { revision, ..get("k1") })];
    let success = ops.into_iter().map(|op| RequestOp { request: Some(op) }).collect();
    TxnRequest { success, ..TxnRequest::default() }
}

/// etcd 18667: a transaction that reads a compacted revision was done in part, and not by all members alike.
#[tokio::test(start_paused = true)]
async fn a_transaction_that_reads_a_compacted_revision_leaves_no_trace_on_any_member() {
    let cluster = Cluster::start(3, &[]).await;
    for n in 0..10 {
        cluster.put(1, &format!("k{n}"), "v").await.unwrap();
    }
    let compact = CompactionRequest { revision: 5, physical: false };
    cluster.kv(2).compact(compact).await.unwrap();
    for number in [1, 2, 3] {
        let key = format!("k-refused-{number}");
        refused(cluster.kv(number).txn(put_and_look_back(&key, 4)).await, EtcdError::Compacted);
        assert_eq!((cluster.get(number, &key).await.unwrap(), cluster.list(number, false).await.kvs.len()), (None, 10));
    }
    // While history is compacted, each is done as a whole or not at all, by all.
    let (mut done, mut refusals) = (0, 0);
    for round in 0..20 {
        let newest = cluster.put(1, "k1", "v").await.unwrap();
        let mut calls = JoinSet::new();
        for number in [1, 2, 3] {
            let (key, mut kv) = (format!("k-{round}-{number}"), cluster.kv(number));
            calls.spawn(async move { (number, kv.txn(put_and_look_back(&key, newest - 1)).await.is_ok()) });
        }
        let (mut kv, compact) = (cluster.kv(round % 3 + 1), CompactionRequest { revision: newest, physical: false });
        kv.compact(compact).await.unwrap();
        while let Some(call) = calls.join_next().await {
            let (number, is_done) = call.unwrap();
            *if is_done { &mut done } else { &mut refusals } += 1;
            let found = cluster.get(number % 3 + 1, &format!("k-{round}-{number}")).await.unwrap();
            assert_eq!(found.is_some(), is_done);
        }
    }
    assert!(done > 0 && refusals > 0, "{done} done, {refusals} refused");
    are_one(&cluster, &[1, 2, 3]).await;
}

/// Writes whatever comes, until it is stopped or its member is gone.
async fn write(mut kv: KvClient<Channel>, mut random: StdRng, acknowledged: Arc<AtomicU64>) {
    loop {
        let key = format!("k{}", random.random_range(0..20));
        let is_done = match random.random_range(0..4) {
            0 => {
                let delete = DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() };
                kv.delete_range(delete).await.is_ok()
            }
            1 => kv.txn(put_and_look_back(&key, 0)).await.is_ok(),
            _ => kv.put(put(&key, vec![b'v'; random.random_range(0..2_000)])).await.is_ok(),
        };
        acknowledged.fetch_add(is_done.into(), Ordering::Relaxed);
        // A clock that is paused goes on only when nobody has anything to do.
        sleep(Duration::from_millis(1)).await;
    }
}

/// etcd 13766: after a crash under load a member's position and its data disagreed, so that it did again, or not at all,
/// what the others had done once.
#[tokio::test(start_paused = true)]
async fn members_that_are_killed_under_load_have_the_same_history() {
    let mut cluster = Cluster::start(3, &["--snapshot-count=30", "--snapshot-catchup-entries=200"]).await;
    let mut random = StdRng::seed_from_u64(13766);
    let acknowledged = Arc::new(AtomicU64::new(0));
    for _ in 0..25 {
        let mut writers = JoinSet::new();
        for number in [1, 2, 3] {
            for _ in 0..3 {
                let seed = StdRng::seed_from_u64(random.random());
                writers.spawn(write(cluster.kv(number), seed, acknowledged.clone()));
            }
        }
        sleep(Duration::from_millis(random.random_range(20..300))).await;
        let mut victims = vec![1, 2, 3];
        victims.retain(|_| random.random_bool(0.5));
        for victim in &victims {
            // Some of what was not synced may be on the disk all the same.
            if random.random_bool(0.5) {
                cluster.disks(*victim).engine().write_back();
            }
            cluster.kill(*victim).await;
            sleep(Duration::from_millis(random.random_range(0..50))).await;
        }
        for victim in &victims {
            cluster.again(*victim).await;
        }
        cluster.until_led(&[1, 2, 3]).await;
        writers.shutdown().await;
        are_one(&cluster, &[1, 2, 3]).await;
    }
    let acknowledged = acknowledged.load(Ordering::Relaxed);
    assert!(acknowledged > 500, "{acknowledged} writes");
}
