//! Leases are ended by the leader alone, and last over its changes.

use std::time::Duration;

use stentor_mvcc::LeaseId;
use stentor_proto::etcdserverpb::lease_client::LeaseClient;
use stentor_proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, PutRequest};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use super::rig::Cluster;
use crate::harness::{put, until};

const TTL: i64 = 5;

fn leases(cluster: &Cluster, number: u16) -> LeaseClient<Channel> {
    LeaseClient::new(cluster.channel(number))
}

async fn keep_alive(cluster: &Cluster, number: u16, id: i64) -> i64 {
    let requests = tokio_stream::once(LeaseKeepAliveRequest { id });
    let mut answers = leases(cluster, number).lease_keep_alive(requests).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap().ttl
}

async fn time_to_live(cluster: &Cluster, number: u16, id: i64) -> i64 {
    let request = LeaseTimeToLiveRequest { id, keys: false };
    leases(cluster, number).lease_time_to_live(request).await.unwrap().into_inner().ttl
}

async fn with_key(cluster: &Cluster, number: u16, id: i64) {
    leases(cluster, number).lease_grant(LeaseGrantRequest { id, ttl: TTL }).await.unwrap();
    cluster.kv(number).put(PutRequest { lease: id, ..put("k", "v") }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_granted_by_one_member_is_kept_alive_by_any() {
    let cluster = Cluster::start(3, &[]).await;
    for number in [1, 2, 3] {
        let id = i64::from(number);
        leases(&cluster, number).lease_grant(LeaseGrantRequest { id, ttl: TTL }).await.unwrap();
        for by in [1, 2, 3] {
            assert_eq!(keep_alive(&cluster, by, id).await, TTL);
            assert_eq!(time_to_live(&cluster, by, id).await, TTL);
        }
        assert_eq!((keep_alive(&cluster, number, 99).await, time_to_live(&cluster, number, 99).await), (0, -1));
    }
}

/// etcd 13932: right after the grant a keep-alive through another member said that there is no such lease. That member
/// has not heard of it here.
#[tokio::test(start_paused = true)]
async fn a_lease_just_granted_is_found_through_a_member_that_has_not_heard_of_it() {
    let cluster = Cluster::start(3, &[]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let deaf = leader % 3 + 1;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != deaf).collect();
    cluster.net.set_hears(deaf, &others, false);
    leases(&cluster, leader).lease_grant(LeaseGrantRequest { id: 7, ttl: TTL }).await.unwrap();
    assert!(cluster.member(deaf).node.store.view().leases().get(LeaseId::new(7).unwrap()).is_none());
    assert_eq!(keep_alive(&cluster, deaf, 7).await, TTL);
}

#[tokio::test(start_paused = true)]
async fn a_lease_has_its_full_time_after_a_change_of_the_leader_and_then_it_ends() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    with_key(&cluster, leader, 7).await;
    // Little of it is left.
    sleep(Duration::from_millis(4_500)).await;
    let killed = Instant::now();
    cluster.kill(leader).await;
    let left: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != leader).collect();
    cluster.until_led(&left).await;
    let led = Instant::now();
    let has_key = |number: u16| cluster.member(number).node.store.view().keys() == 1;
    until(|| !has_key(left[0])).await;
    let (since_kill, since_led) = (killed.elapsed(), led.elapsed());
    assert!(since_kill >= Duration::from_secs(5), "{since_kill:?}");
    assert!(since_led < Duration::from_secs(7), "{since_led:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_has_lost_its_office_ends_nothing() {
    let cluster = Cluster::start(3, &[]).await;
    let old = cluster.until_led(&[1, 2, 3]).await;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != old).collect();
    with_key(&cluster, old, 7).await;
    sleep(Duration::from_secs(4)).await;
    cluster.net.set_reachable(old, &others, false);
    // Its time is over by the clock of the old one, and kept alive by the new one.
    let new = cluster.until_led(&others).await;
    for _ in 0..4 {
        assert_eq!(keep_alive(&cluster, others[0], 7).await, TTL);
        sleep(Duration::from_secs(2)).await;
    }
    cluster.net.set_reachable(old, &others, true);
    cluster.until_led(&[1, 2, 3]).await;
    cluster.put(old, "k2", "v").await.unwrap();
    cluster.until_level(old, new).await;
    assert_eq!(cluster.get(old, "k").await.unwrap().as_deref(), Some("v"), "it lives");
    // Nobody keeps it any more.
    until(|| cluster.member(new).node.store.view().keys() == 1).await;
}

/// etcd 15247: a leader stuck on its disk, already replaced, ended leases that others had kept alive. Its lessor runs
/// on while its log does not, and by its clock the lease is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_is_stuck_on_its_disk_ends_and_renews_nothing() {
    let cluster = Cluster::start(3, &[]).await;
    let old = cluster.until_led(&[1, 2, 3]).await;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != old).collect();
    with_key(&cluster, old, 7).await;
    let granted = Instant::now();
    cluster.stall(old).set(true);
    let mut kv = cluster.kv(old);
    let stuck = tokio::spawn(async move { kv.put(put("k-stuck", "v")).await });
    until(|| cluster.stall(old).is_felt()).await;
    let new = cluster.until_led(&others).await;
    let renewal = timeout(Duration::from_millis(500), keep_alive(&cluster, old, 7)).await;
    assert!(renewal.is_err(), "it says {renewal:?} without asking anybody");
    while granted.elapsed() < Duration::from_secs(TTL as u64 + 2) {
        assert_eq!(keep_alive(&cluster, others[0], 7).await, TTL);
        sleep(Duration::from_millis(100)).await;
    }
    cluster.stall(old).set(false);
    // Whether that was written is left open.
    let _ = stuck.await.unwrap();
    cluster.until_led(&[1, 2, 3]).await;
    cluster.put(old, "k2", "v").await.unwrap();
    cluster.until_level(new, old).await;
    assert_eq!(cluster.get(old, "k").await.unwrap().as_deref(), Some("v"));
    assert!(time_to_live(&cluster, new, 7).await >= 0);
}
