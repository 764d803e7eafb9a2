//! Who leads, and what clients notice of it.

use stentor_mvcc::engine::memory::Fault;
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use stentor_proto::etcdserverpb::{MoveLeaderRequest, StatusRequest};
use tokio::time::{Duration, Instant, sleep_until};
use tonic::Request;

use super::rig::Cluster;
use crate::harness::{put, refused, until};
use crate::watch::client::{self, Watching};

/// As a client that asks for a member with a leader.
fn with_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    request
}

#[tokio::test(start_paused = true)]
async fn the_office_is_moved_on_request() {
    let cluster = Cluster::start(3, &[]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let next = leader % 3 + 1;
    let move_to = |target_id| MoveLeaderRequest { target_id };
    let maintenance = |number| MaintenanceClient::new(cluster.channel(number));
    refused(maintenance(next).move_leader(move_to(cluster.id(next))).await, EtcdError::NotLeader);
    refused(maintenance(leader).move_leader(move_to(7)).await, EtcdError::BadLeaderTransferee);
    maintenance(leader).move_leader(move_to(cluster.id(leader))).await.unwrap();
    maintenance(leader).move_leader(move_to(cluster.id(next))).await.unwrap();
    assert_eq!(cluster.until_led(&[1, 2, 3]).await, next);
    let status = maintenance(leader).status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.leader, status.errors.len()), (cluster.id(next), 0));
    cluster.put(leader, "k", "v").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_hands_over_first() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != leader).collect();
    let before = tokio::time::Instant::now();
    let term = cluster.member(leader).node.term();
    cluster.stop(leader).await;
    cluster.until_led(&others).await;
    cluster.put(others[0], "k", "v").await.unwrap();
    // Nobody had to notice its end.
    assert!(before.elapsed() < std::time::Duration::from_millis(271), "{:?}", before.elapsed());
    assert_eq!(cluster.member(others[0]).node.term(), term + 1);
}

#[tokio::test(start_paused = true)]
async fn clients_that_ask_for_a_leader_are_told_when_there_is_none() {
    let cluster = Cluster::start(3, &[]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let alone = leader % 3 + 1;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != alone).collect();
    let ask = |request: &mut Request<_>| drop(request.metadata_mut().insert("hasleader", "true".parse().unwrap()));
    let mut asks = Watching::open_with(cluster.channel(alone), ask).await.unwrap();
    let mut stays = Watching::open(cluster.channel(alone)).await;
    let asking = asks.watch(client::range("k", "l")).await;
    let staying = stays.watch(client::range("k", "l")).await;

    // A planned change of the leader is no loss.
    let mut maintenance = MaintenanceClient::new(cluster.channel(leader));
    let next = others.iter().copied().find(|number| *number != leader).unwrap();
    maintenance.move_leader(MoveLeaderRequest { target_id: cluster.id(next) }).await.unwrap();
    cluster.until_led(&[1, 2, 3]).await;
    cluster.put(next, "k", "v").await.unwrap();
    asks.until_revision(asking, 2).await;
    stays.until_revision(staying, 2).await;

    cluster.net.set_reachable(alone, &others, false);
    let begun = tokio::time::Instant::now();
    let end = asks.next().await.unwrap_err();
    assert_eq!((end.code(), end.message()), (tonic::Code::Unavailable, EtcdError::NoLeader.text()));
    let took = begun.elapsed();
    assert!(took >= 3 * std::time::Duration::from_millis(271) && took < std::time::Duration::from_secs(3), "{took:?}");
    refused(cluster.kv(alone).put(with_leader(put("k", "v"))).await, EtcdError::NoLeader);
    let status = MaintenanceClient::new(cluster.channel(alone)).status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.leader, &status.errors[..]), (0, &[EtcdError::NoLeader.text().to_owned()][..]));

    // Who does not ask goes on when the leader is back.
    cluster.put(next, "k2", "v").await.unwrap();
    cluster.net.set_reachable(alone, &others, true);
    stays.until_revision(staying, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_disk_fails_is_replaced() {
    for fails_store in [false, true] {
        let cluster = Cluster::start(3, &[]).await;
        let leader = cluster.until_led(&[1, 2, 3]).await;
        let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != leader).collect();
        cluster.put(leader, "k", "v").await.unwrap();
        if fails_store {
            cluster.disks(leader).engine().fail_next_write(Fault::Io);
        } else {
            cluster.disks(leader).log.fail_sync(0, std::io::ErrorKind::Other);
        }
        let lost = cluster.put(leader, "k", "w").await.unwrap_err();
        assert_eq!(lost.code(), tonic::Code::Internal, "{lost:?}");
        cluster.until_led(&others).await;
        cluster.put(others[0], "k2", "v").await.unwrap();
        until(|| cluster.member(leader).node.leader().is_none()).await;
        refused(cluster.kv(leader).put(with_leader(put("k", "v"))).await, EtcdError::NoLeader);
    }
}

/// A leader that is cut off when it should have compacted leaves that to the next one, which does it soon.
#[tokio::test(start_paused = true)]
async fn auto_compaction_goes_on_under_another_leader() {
    let begun = Instant::now();
    let cluster = Cluster::start(3, &["--auto-compaction-retention=100s"]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != leader).collect();
    for n in 0..5 {
        cluster.put(leader, &format!("k{n}"), "v").await.unwrap();
    }
    let compacted = |number| cluster.member(number).node.store.view().compacted();
    // Looks are ten seconds apart, and the first is at the start.
    sleep_until(begun + Duration::from_millis(99_900)).await;
    cluster.net.set_reachable(leader, &others, false);
    sleep_until(begun + Duration::from_secs(105)).await;
    assert_eq!(others.iter().filter_map(|number| compacted(*number)).next(), None, "nobody could");
    sleep_until(begun + Duration::from_secs(125)).await;
    assert!(others.iter().all(|number| compacted(*number).is_some()));
}
