//! Several members, as their clients and their operators meet them. What one member's log and many messages
//! can do to each other is shown in the Raft crate and by simulation; here each way is gone once.

mod net;
mod rig;
mod stall;

mod corruption;
mod leader;
mod leases;
mod members;
mod reads;
mod stores;
mod watches;
mod writes;

use rig::Cluster;
use stentor_proto::EtcdError;

use crate::harness::{put, refused, until};
use crate::watch::client::{self, Watching};

#[tokio::test(start_paused = true)]
async fn three_members_agree_on_all_that_is_written_by_any() {
    let cluster = Cluster::start(3, &[]).await;
    for number in [1, 2, 3] {
        cluster.put(number, &format!("k{number}"), "v").await.unwrap();
    }
    for number in [1, 2, 3] {
        let list = cluster.list(number, false).await;
        let keys: Vec<_> = list.kvs.iter().map(|pair| (&pair.key[..], pair.mod_revision)).collect();
        assert_eq!(keys, [(&b"k1"[..], 2), (b"k2", 3), (b"k3", 4)]);
        assert_eq!(list.header.unwrap().member_id, cluster.id(number));
    }
    assert!(cluster.hash(1) == cluster.hash(2) && cluster.hash(2) == cluster.hash(3));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_acknowledges_nothing_and_learns_what_was_decided_without_it() {
    let cluster = Cluster::start(3, &[]).await;
    let old = cluster.until_led(&[1, 2, 3]).await;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != old).collect();
    cluster.put(old, "k", "before").await.unwrap();
    cluster.net.set_reachable(old, &others, false);
    let lost = cluster.kv(old).put(put("k", "lost")).await;
    refused(lost, EtcdError::Timeout);
    let new = cluster.until_led(&others).await;
    cluster.put(others[0], "k", "after").await.unwrap();
    assert_eq!(cluster.get(others[1], "k").await.unwrap().as_deref(), Some("after"));
    let stale = cluster.kv(old).range(crate::harness::get("k")).await;
    refused(stale, EtcdError::Timeout);

    cluster.net.set_reachable(old, &others, true);
    cluster.until_level(old, new).await;
    assert_eq!(cluster.get(old, "k").await.unwrap().as_deref(), Some("after"));
    assert!(cluster.hash(old) == cluster.hash(new));
}

#[tokio::test(start_paused = true)]
async fn whoever_loses_its_power_comes_back_with_all_that_was_acknowledged() {
    let mut cluster = Cluster::start(3, &[]).await;
    for round in 0..6 {
        let leader = cluster.until_led(&[1, 2, 3]).await;
        let victim = if round % 2 == 0 { leader } else { leader % 3 + 1 };
        cluster.put(victim, &format!("k{round}"), "v").await.unwrap();
        cluster.kill(victim).await;
        let left: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != victim).collect();
        cluster.until_led(&left).await;
        cluster.put(left[0], &format!("k{round}"), "w").await.unwrap();
        cluster.again(victim).await;
    }
    // All at once.
    for number in [1, 2, 3] {
        cluster.kill(number).await;
    }
    for number in [1, 2, 3] {
        cluster.again(number).await;
    }
    cluster.until_led(&[1, 2, 3]).await;
    for number in [1, 2, 3] {
        assert_eq!(cluster.list(number, false).await.kvs.len(), 6);
    }
    assert!(cluster.hash(1) == cluster.hash(2) && cluster.hash(2) == cluster.hash(3));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_lags_too_far_gets_the_store_and_its_watchers_miss_nothing() {
    let cluster = Cluster::start(3, &["--snapshot-count=10", "--snapshot-catchup-entries=10"]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let lagging = leader % 3 + 1;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != lagging).collect();
    let mut watching = Watching::open(cluster.channel(lagging)).await;
    let id = watching.watch(client::range("k", "l")).await;
    cluster.net.set_reachable(lagging, &others, false);
    for n in 0..100 {
        cluster.put(leader, &format!("k{n}"), "v").await.unwrap();
    }
    // What it lacks is forgotten by the log.
    let first = || cluster.member(leader).node.log_start();
    let has = cluster.member(lagging).node.store.view().applied().index;
    until(|| first() > has).await;
    cluster.net.set_reachable(lagging, &others, true);
    cluster.put(leader, "k-last", "v").await.unwrap();
    watching.until_revision(id, 102).await;
    assert_eq!(watching.revisions(id), (2..=102).collect::<Vec<_>>());
    cluster.until_level(lagging, leader).await;
    assert!(cluster.hash(lagging) == cluster.hash(leader));
}
