//! Members come, go, and change.

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use stentor_proto::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, StatusRequest,
};

use super::rig::Cluster;
use crate::harness::{get, refused, until};

#[tokio::test(start_paused = true)]
async fn a_single_member_grows_to_three_while_it_is_written_to() {
    let mut cluster = Cluster::start(1, &[]).await;
    for n in 0..20 {
        cluster.put(1, &format!("k{n}"), "v").await.unwrap();
    }
    for _ in 0..2 {
        let number = cluster.grow(false).await.unwrap();
        cluster.put(1, &format!("k-{number}"), "v").await.unwrap();
        cluster.until_level(number, 1).await;
        // It counts as started once it has said its name.
        until(|| cluster.member(1).node.store.view().members().iter().all(|member| !member.name.is_empty())).await;
        cluster.put(number, &format!("k-by-{number}"), "v").await.unwrap();
    }
    assert_eq!(cluster.list(3, false).await.kvs.len(), 24);
    let list = cluster.members(2).member_list(MemberListRequest { linearizable: true }).await.unwrap().into_inner();
    let mut names: Vec<_> = list.members.iter().map(|m| (&m.name[..], &m.client_ur_ls[0][..])).collect();
    names.sort_unstable();
    assert_eq!(names, [("m1", "http://client1:1"), ("m2", "http://client2:1"), ("m3", "http://client3:1")]);
    // Any two go on without the third.
    cluster.kill(1).await;
    cluster.until_led(&[2, 3]).await;
    cluster.put(2, "k-without", "v").await.unwrap();
    cluster.again(1).await;
    cluster.until_led(&[1, 2, 3]).await;
    assert_eq!(cluster.list(1, false).await.kvs.len(), 25);
}

#[tokio::test(start_paused = true)]
async fn changes_that_endanger_the_majority_are_refused() {
    let mut cluster = Cluster::start(1, &[]).await;
    let add = |url: &str, is_learner| MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner };
    refused(cluster.members(1).member_add(add("no url", false)).await, EtcdError::MemberBadURLs);
    refused(cluster.members(1).member_add(add("http://m1:1", false)).await, EtcdError::PeerURLExist);
    let remove = MemberRemoveRequest { id: cluster.id(1) };
    refused(cluster.members(1).member_remove(remove).await, EtcdError::MemberNotEnoughStarted);
    refused(cluster.members(1).member_remove(MemberRemoveRequest { id: 7 }).await, EtcdError::MemberNotFound);
    refused(cluster.members(1).member_promote(MemberPromoteRequest { id: 7 }).await, EtcdError::MemberNotFound);
    let promote = MemberPromoteRequest { id: cluster.id(1) };
    refused(cluster.members(1).member_promote(promote).await, EtcdError::MemberNotLearner);
    cluster.grow(true).await.unwrap();
    refused(cluster.members(1).member_add(add("http://m9:9", true)).await, EtcdError::TooManyLearners);
}

#[tokio::test(start_paused = true)]
async fn a_learner_serves_little_until_it_is_promoted() {
    let mut cluster = Cluster::start(1, &[]).await;
    cluster.put(1, "k", "v").await.unwrap();
    let learner = cluster.grow(true).await.unwrap();
    // Before it has anything.
    let promote = MemberPromoteRequest { id: cluster.id(learner) };
    cluster.until_level(learner, 1).await;
    refused(cluster.kv(learner).range(get("k")).await, EtcdError::NotSupportedForLearner);
    refused(
        cluster.members(learner).member_list(MemberListRequest { linearizable: false }).await,
        EtcdError::NotSupportedForLearner,
    );
    assert_eq!(cluster.list(learner, true).await.kvs.len(), 1);
    let mut status = MaintenanceClient::new(cluster.channel(learner));
    assert!(status.status(StatusRequest {}).await.unwrap().into_inner().is_learner);
    cluster.put(1, "k2", "v").await.unwrap();
    // The leader has to hear of it first.
    let mut promoted = cluster.members(1).member_promote(promote).await;
    for _ in 0..100 {
        let Err(not_yet) = &promoted else { break };
        assert_eq!(not_yet.message(), EtcdError::LearnerNotReady.text());
        cluster.put(1, "k2", "v").await.unwrap();
        promoted = cluster.members(1).member_promote(promote).await;
    }
    assert!(promoted.unwrap().into_inner().members.iter().all(|member| !member.is_learner));
    until(|| cluster.member(learner).node.store.view().members().learners().count() == 0).await;
    assert_eq!(cluster.list(learner, false).await.kvs.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_removed_member_ends_itself_and_is_not_heard_any_more() {
    for removes_leader in [false, true] {
        let mut cluster = Cluster::start(3, &[]).await;
        let leader = cluster.until_led(&[1, 2, 3]).await;
        let victim = if removes_leader { leader } else { leader % 3 + 1 };
        let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != victim).collect();
        let id = cluster.id(victim);
        until(|| cluster.member(others[0]).node.store.view().members().iter().all(|m| !m.client_urls.is_empty())).await;
        cluster.members(others[0]).member_remove(MemberRemoveRequest { id }).await.unwrap();
        cluster.member(victim).node.removed().await;
        cluster.stop(victim).await;
        cluster.until_led(&others).await;
        cluster.put(others[1], "k", "v").await.unwrap();
        // With its old data it is none of them, and learns that even if it slept through its removal.
        cluster.again(victim).await;
        cluster.member(victim).node.removed().await;
        assert_eq!(cluster.list(others[0], false).await.kvs.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_slept_through_its_removal_is_told_by_the_others() {
    let mut cluster = Cluster::start(3, &["--strict-reconfig-check=false"]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let victim = leader % 3 + 1;
    let id = cluster.id(victim);
    cluster.kill(victim).await;
    cluster.members(leader).member_remove(MemberRemoveRequest { id }).await.unwrap();
    cluster.again(victim).await;
    cluster.member(victim).node.removed().await;
}

#[tokio::test(start_paused = true)]
async fn a_member_is_found_by_other_peer_urls() {
    let cluster = Cluster::start(3, &[]).await;
    let id = cluster.id(2);
    // The same place by another name.
    let update = MemberUpdateRequest { id, peer_ur_ls: vec!["http://other:2".to_owned()] };
    let answer = cluster.members(3).member_update(update).await.unwrap().into_inner();
    let urls = answer.members.iter().find(|member| member.id == id).map(|member| &member.peer_ur_ls[..]);
    assert_eq!(urls, Some(&["http://other:2".to_owned()][..]));
    let taken = MemberUpdateRequest { id, peer_ur_ls: vec!["http://m1:1".to_owned()] };
    refused(cluster.members(1).member_update(taken).await, EtcdError::PeerURLExist);
    cluster.put(2, "k", "v").await.unwrap();
    for number in [1, 2, 3] {
        assert_eq!(cluster.get(number, "k").await.unwrap().as_deref(), Some("v"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_one_is_made_a_cluster_of_its_own_with_all_it_has() {
    for loses_power in [false, true] {
        let mut cluster = Cluster::start(1, &[]).await;
        cluster.put(1, "k1", "v").await.unwrap();
        for _ in 0..2 {
            let number = cluster.grow(false).await.unwrap();
            cluster.until_level(number, 1).await;
            until(|| cluster.member(1).node.store.view().members().iter().all(|m| !m.name.is_empty())).await;
        }
        cluster.put(3, "k2", "v").await.unwrap();
        cluster.until_level(1, 3).await;
        let id = cluster.id(1);
        cluster.kill(2).await;
        cluster.kill(3).await;
        if loses_power {
            // Its log has the changes by which the others came, and its store has none of them.
            cluster.kill(1).await;
        } else {
            cluster.stop(1).await;
        }
        cluster.again_with(1, "--force-new-cluster").await;
        assert_eq!(cluster.until_led(&[1]).await, 1);
        cluster.put(1, "k3", "v").await.unwrap();
        cluster.kill(1).await;
        cluster.again(1).await;
        cluster.until_led(&[1]).await;
        assert_eq!((cluster.id(1), cluster.list(1, false).await.kvs.len()), (id, 3));
        let list = cluster.members(1).member_list(MemberListRequest { linearizable: true }).await.unwrap().into_inner();
        assert_eq!(list.members.iter().map(|member| member.id).collect::<Vec<_>>(), [id]);
        // It grows again.
        let number = cluster.grow(false).await.unwrap();
        cluster.until_level(number, 1).await;
        assert_eq!(cluster.list(number, false).await.kvs.len(), 3);
    }
}

/// etcd 21736: other peer URLs made a learner a voter.
#[tokio::test(start_paused = true)]
async fn a_learner_with_other_peer_urls_is_a_learner() {
    let mut cluster = Cluster::start(1, &[]).await;
    let learner = cluster.grow(true).await.unwrap();
    cluster.until_level(learner, 1).await;
    let id = cluster.id(learner);
    let update = MemberUpdateRequest { id, peer_ur_ls: vec![format!("http://other:{learner}")] };
    let answer = cluster.members(1).member_update(update).await.unwrap().into_inner();
    let updated = answer.members.iter().find(|member| member.id == id).unwrap();
    assert!(updated.is_learner && updated.peer_ur_ls[0].contains("other"), "{updated:?}");
    cluster.put(1, "k", "v").await.unwrap();
    for number in [1, learner] {
        cluster.until_level(number, 1).await;
        let view = cluster.member(number).node.store.view();
        let members = view.members();
        assert_eq!((members.voters().count(), members.learners().collect::<Vec<_>>()), (1, vec![id]));
    }
    // In the log, too: the one voter decides without it.
    cluster.kill(learner).await;
    cluster.put(1, "k", "w").await.unwrap();
    cluster.again(learner).await;
    cluster.until_level(learner, 1).await;
    refused(cluster.kv(learner).range(get("k")).await, EtcdError::NotSupportedForLearner);
}

/// etcd 21667: one member that is down kept a learner from being added.
#[tokio::test(start_paused = true)]
async fn a_learner_is_added_while_one_of_three_is_down() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let down = leader % 3 + 1;
    cluster.put(leader, "k", "v").await.unwrap();
    cluster.kill(down).await;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != down).collect();
    cluster.until_led(&others).await;
    let learner = cluster.grow_beside(true, &[down]).await.unwrap();
    cluster.until_level(learner, leader).await;
    assert_eq!(cluster.list(learner, true).await.kvs.len(), 1);
    // A voter would move the majority.
    let voter = MemberAddRequest { peer_ur_ls: vec!["http://m9:9".to_owned()], is_learner: false };
    refused(cluster.members(leader).member_add(voter).await, EtcdError::Unhealthy);
}
