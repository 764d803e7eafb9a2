//! Whole stores, for members that lag too far, one after the other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stentor_mvcc::{Commit, Observer};
use tokio::time::sleep;

use super::rig::Cluster;
use crate::harness::until;

/// Counts the stores that take the place of one.
#[derive(Default)]
struct Received(AtomicU64);

impl Observer for Received {
    fn committed(&self, commit: &Commit) {
        // Nothing is compacted here.
        self.0.fetch_add(commit.records.is_empty().into(), Ordering::Relaxed);
    }
}

/// etcd 18055: two snapshots within a short time crashed a member. Here it is cut off from the one that sends while that
/// does, and gets the next one at once.
#[tokio::test(start_paused = true)]
async fn one_after_the_other_are_borne() {
    let cluster = Cluster::start(3, &["--snapshot-count=5", "--snapshot-catchup-entries=5"]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let lagging = leader % 3 + 1;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != lagging).collect();
    let received = Arc::new(Received::default());
    cluster.member(lagging).node.store.observe(&received);
    for round in 0..20 {
        cluster.net.set_reachable(lagging, &others, false);
        for n in 0..30 {
            cluster.put(leader, &format!("k{n}"), &"v".repeat(round * 1_000)).await.unwrap();
        }
        let has = cluster.member(lagging).node.store.view().applied().index;
        until(|| cluster.member(leader).node.log_start() > has).await;
        cluster.net.set_reachable(lagging, &others, true);
        if round % 3 != 2 {
            // Before, amid or after the transfer.
            sleep(Duration::from_millis(10 + 13 * round as u64)).await;
            continue;
        }
        cluster.until_level(lagging, leader).await;
    }
    cluster.until_level(lagging, leader).await;
    let received = received.0.load(Ordering::Relaxed);
    assert!(received >= 10, "{received} stores were received");
    assert!(cluster.hash(lagging) == cluster.hash(leader));
    cluster.put(lagging, "k", "v").await.unwrap();
}

/// A sync that fails may have written all the same: then the log has been reset to the store that has come, and the next
/// start needs it, however often the leader sends it again meanwhile.
#[tokio::test(start_paused = true)]
async fn one_that_the_log_may_have_been_reset_to_is_kept_for_the_next_start() {
    let mut cluster = Cluster::start(3, &["--snapshot-count=5", "--snapshot-catchup-entries=5"]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let lagging = leader % 3 + 1;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != lagging).collect();
    cluster.net.set_reachable(lagging, &others, false);
    for n in 0..30 {
        cluster.put(leader, &format!("k{n}"), "v").await.unwrap();
    }
    let has = cluster.member(lagging).node.store.view().applied().index;
    until(|| cluster.member(leader).node.log_start() > has).await;
    let log = cluster.disks(lagging).log.clone();
    log.fail_sync(0, io::ErrorKind::Other);
    cluster.net.set_reachable(lagging, &others, true);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(log.clear_faults(), 0, "the sync has failed");
    assert_eq!(cluster.member(lagging).node.store.view().applied().index, has, "the store is not in use");
    cluster.stop(lagging).await;
    cluster.again(lagging).await;
    cluster.until_level(lagging, leader).await;
    assert!(cluster.hash(lagging) == cluster.hash(leader));
}
