//! Watches on members that are behind.

use stentor_proto::etcdserverpb::WatchCreateRequest;

use super::rig::Cluster;
use crate::harness::until;
use crate::watch::client::{self, Watching};

fn from(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest { start_revision, progress_notify: true, ..client::range("k", "l") }
}

/// etcd 15271: after a partition a watch went back in time, since it was resumed on a member that lagged.
#[tokio::test(start_paused = true)]
async fn one_that_is_resumed_on_a_member_behind_waits_for_what_it_has_not_seen() {
    let cluster = Cluster::start(3, &["--watch-progress-notify-interval=100ms"]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let behind = leader % 3 + 1;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != behind).collect();
    let mut watching = Watching::open(cluster.channel(leader)).await;
    let id = watching.watch(from(1)).await;
    cluster.put(leader, "k", "both").await.unwrap();
    cluster.until_level(behind, leader).await;
    cluster.net.set_reachable(behind, &others, false);
    let mut last = 0;
    for n in 0..20 {
        last = cluster.put(leader, "k", &n.to_string()).await.unwrap();
    }
    watching.until_revision(id, last).await;
    drop(watching);

    // What comes below its start, events or notes, is more than the ledger bears.
    let mut resumed = Watching::open(cluster.channel(behind)).await;
    let id = resumed.watch(from(last + 1)).await;
    assert!(resumed.seen(id).created_at < last, "it is behind");
    resumed.progress();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    cluster.net.set_reachable(behind, &others, true);
    cluster.until_level(behind, leader).await;
    let next = cluster.put(leader, "k", "next").await.unwrap();
    resumed.until_revision(id, next).await;
    assert_eq!(resumed.revisions(id), [last + 1]);
}

/// etcd 20221: a watch of the future got what was before its start once its member had received a snapshot.
#[tokio::test(start_paused = true)]
async fn one_of_the_future_gets_nothing_from_before_with_a_store_received() {
    let flags = ["--snapshot-count=10", "--snapshot-catchup-entries=10", "--watch-progress-notify-interval=100ms"];
    let cluster = Cluster::start(3, &flags).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let lagging = leader % 3 + 1;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != lagging).collect();
    let mut watching = Watching::open(cluster.channel(lagging)).await;
    let id = watching.watch(from(200)).await;
    cluster.net.set_reachable(lagging, &others, false);
    for n in 0..100 {
        cluster.put(leader, &format!("k{n}"), "v").await.unwrap();
    }
    let has = cluster.member(lagging).node.store.view().applied().index;
    until(|| cluster.member(leader).node.log_start() > has).await;
    cluster.net.set_reachable(lagging, &others, true);
    cluster.until_level(lagging, leader).await;
    assert!(cluster.member(lagging).node.log_start() > has, "it came by the log");
    watching.progress();
    let mut last = 0;
    while last < 210 {
        last = cluster.put(lagging, "k", "v").await.unwrap();
    }
    watching.until_revision(id, last).await;
    assert_eq!(watching.revisions(id), (200..=210).collect::<Vec<_>>());
}
