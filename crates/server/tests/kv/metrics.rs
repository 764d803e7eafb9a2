//! What /metrics says once something has happened.

use stentor_proto::etcdserverpb::{CompactionRequest, DefragmentRequest, HashKvRequest, HashRequest, SnapshotRequest};

use crate::harness::Rig;

/// The value of a series without labels.
async fn value(rig: &Rig, name: &str) -> f64 {
    let text = rig.http("/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing in {text}")).parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_metric_of_the_disk_and_the_store_moves() {
    let rig = Rig::start(&[]).await;
    // An election writes to the log and to the store too.
    let groups = ["etcd_disk_wal_fsync_duration_seconds_count", "etcd_disk_backend_commit_duration_seconds_count"];
    let moved = [
        "etcd_disk_backend_snapshot_duration_seconds_count",
        "etcd_disk_backend_defrag_duration_seconds_count",
        "etcd_mvcc_hash_duration_seconds_count",
        "etcd_mvcc_hash_rev_duration_seconds_count",
        "etcd_debugging_mvcc_db_compaction_last",
        "etcd_debugging_mvcc_total_put_size_in_bytes",
    ];
    for name in moved {
        assert_eq!(value(&rig, name).await, 0.0, "{name}");
    }
    let before = [value(&rig, groups[0]).await, value(&rig, groups[1]).await];
    rig.put("k", vec![b'v'; 1000]).await;
    for (name, before) in groups.into_iter().zip(before) {
        assert_eq!(value(&rig, name).await, before + 1.0, "{name}: one a group");
    }
    let put = value(&rig, "etcd_debugging_mvcc_total_put_size_in_bytes").await;
    assert!((1001.0..1100.0).contains(&put), "{put}");
    rig.kv().compact(CompactionRequest { revision: 2, physical: true }).await.unwrap();
    let mut maintenance = rig.maintenance();
    maintenance.hash(HashRequest {}).await.unwrap();
    maintenance.hash_kv(HashKvRequest { revision: 0 }).await.unwrap();
    maintenance.defragment(DefragmentRequest {}).await.unwrap();
    let mut snapshot = maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    while snapshot.message().await.unwrap().is_some() {}
    for name in moved {
        assert!(value(&rig, name).await > 0.0, "{name}");
    }
    assert!(value(&rig, "etcd_debugging_mvcc_db_compaction_last").await >= 1_700_000_000.0);
    for idle in ["etcd_disk_defrag_inflight", "etcd_mvcc_db_open_read_transactions"] {
        assert_eq!(value(&rig, idle).await, 0.0, "{idle}");
    }
}
