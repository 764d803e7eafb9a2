//! Members that are not what the others are: found, named, and nobody else is.

use std::time::Duration;

use stentor_mvcc::{Alarm, AlarmKind};
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::alarm_request::AlarmAction;
use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use stentor_proto::etcdserverpb::{AlarmRequest, AlarmType, CompactionRequest, MemberRemoveRequest};
use stentor_proto::storagepb::{LogEntry, log_entry::Op};
use stentor_server::corruption::InitialCheckError;
use tokio::time::sleep;

use super::rig::Cluster;
use crate::harness::{put, refused, until};

const PERIOD: Duration = Duration::from_secs(5);
const NEWEST: &str = "--corrupt-check-time=5s";
const COMPACTED: [&str; 2] = ["--experimental-compact-hash-check-enabled", "--compact-hash-check-time=5s"];

/// The members about which an alarm is raised, as one of them knows.
fn alarms(cluster: &Cluster, number: u16) -> Vec<u64> {
    let view = cluster.member(number).node.store.view();
    let corrupt = view.all_alarms().filter(|alarm| alarm.kind == AlarmKind::Corrupt);
    corrupt.map(|Alarm { member_id, .. }| member_id).collect()
}

/// Comparisons by their results: all equal, those there equal, different.
fn compared(cluster: &Cluster, number: u16) -> [u64; 3] {
    let metrics = &cluster.metrics(number).corruption;
    [metrics.equal.get(), metrics.incomplete.get(), metrics.different.get()]
}

async fn compact(cluster: &Cluster, number: u16, revision: i64) {
    cluster.kv(number).compact(CompactionRequest { revision, physical: true }).await.unwrap();
}

async fn disarm(cluster: &Cluster, number: u16, member_id: u64) {
    let (action, alarm) = (AlarmAction::Deactivate.into(), AlarmType::Corrupt.into());
    let request = AlarmRequest { action, member_id, alarm };
    MaintenanceClient::new(cluster.channel(number)).alarm(request).await.unwrap();
}

/// A revision that a member has made all by itself.
fn write_alone(cluster: &Cluster, number: u16) {
    let store = &cluster.member(number).node.store;
    let entry = LogEntry { op: Some(Op::Put(put("k-alone", "v"))), ..LogEntry::default() };
    assert!(store.apply(&[entry], store.view().applied()).unwrap()[0].is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_one_that_differs_is_named_and_can_be_replaced() {
    for corrupts_leader in [false, true] {
        let mut cluster = Cluster::start(3, &[NEWEST]).await;
        let leader = cluster.until_led(&[1, 2, 3]).await;
        let victim = if corrupts_leader { leader } else { leader % 3 + 1 };
        let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != victim).collect();
        for n in 0..5 {
            cluster.put(leader, &format!("k{n}"), "v").await.unwrap();
        }
        sleep(2 * PERIOD).await;
        assert_eq!((alarms(&cluster, leader), compared(&cluster, leader)[2]), (vec![], 0));
        let id = cluster.id(victim);
        cluster.corrupt(victim, 3);
        for number in [1, 2, 3] {
            until(|| alarms(&cluster, number) == [id]).await;
        }
        // Nothing is written through any of them, and all is read.
        for number in [1, 2, 3] {
            refused(cluster.kv(number).put(put("k", "v")).await, EtcdError::Corrupt);
            assert_eq!(cluster.list(number, false).await.kvs.len(), 5);
        }
        sleep(2 * PERIOD).await;
        assert_eq!(alarms(&cluster, others[0]), [id], "once");

        cluster.members(others[0]).member_remove(MemberRemoveRequest { id }).await.unwrap();
        cluster.member(victim).node.removed().await;
        cluster.stop(victim).await;
        cluster.until_led(&others).await;
        disarm(&cluster, others[1], id).await;
        cluster.put(others[0], "k5", "v").await.unwrap();
        let new = cluster.grow(false).await.unwrap();
        cluster.until_level(new, others[0]).await;
        let leader = cluster.until_led(&[others[0], others[1], new]).await;
        let before = compared(&cluster, leader)[0];
        until(|| compared(&cluster, leader)[0] > before).await;
        assert_eq!(alarms(&cluster, new), [0; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_too_many_or_too_few_is_found() {
    for victims in [1, 2] {
        let cluster = Cluster::start(3, &[NEWEST]).await;
        let leader = cluster.until_led(&[1, 2, 3]).await;
        cluster.put(leader, "k", "v").await.unwrap();
        let followers = [leader % 3 + 1, (leader + 1) % 3 + 1];
        for follower in followers {
            cluster.until_level(follower, leader).await;
        }
        followers[..victims].iter().for_each(|follower| write_alone(&cluster, *follower));
        // Two that have one more are right, and who lacks it is not.
        let wrong = cluster.id(if victims == 1 { followers[0] } else { leader });
        until(|| alarms(&cluster, leader) == [wrong]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_nobody_is_named() {
    let mut cluster = Cluster::start(3, &[NEWEST]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let (absent, victim) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.put(leader, "k", "v").await.unwrap();
    cluster.until_level(victim, leader).await;
    cluster.kill(absent).await;
    cluster.corrupt(victim, 2);
    for number in [leader, victim] {
        until(|| alarms(&cluster, number) == [0]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn equal_members_raise_no_alarm_whatever_happens() {
    let mut cluster = Cluster::start(3, &[&[NEWEST][..], &COMPACTED].concat()).await;
    let (mut equal, mut revision) = (0, 0);
    for round in 0..12 {
        let leader = cluster.until_led(&[1, 2, 3]).await;
        let [before, ..] = compared(&cluster, leader);
        let begun = tokio::time::Instant::now();
        // Comparisons fall among writes and compactions, of which some are lost with a leader.
        while begun.elapsed() < 3 * PERIOD {
            for number in [1, 2, 3] {
                revision = cluster.put(number, &format!("k{}", revision % 7), "v").await.unwrap_or(revision);
            }
            let compact = CompactionRequest { revision: revision - 2, physical: false };
            let _ = cluster.kv(leader % 3 + 1).compact(compact).await;
            sleep(Duration::from_millis(10)).await;
        }
        equal += compared(&cluster, leader)[0] - before;
        assert_eq!(compared(&cluster, leader)[2], 0, "in round {round}");
        if round % 3 == 2 {
            cluster.kill(leader).await;
            cluster.again(leader).await;
        }
    }
    assert!(equal >= 12, "{equal} comparisons");
    for number in [1, 2, 3] {
        assert_eq!(alarms(&cluster, number), [0; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_behind_is_not_suspected() {
    let mut cluster = Cluster::start(
        3,
        &[&[NEWEST, "--snapshot-count=10", "--snapshot-catchup-entries=10"][..], &COMPACTED].concat(),
    )
    .await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let behind = leader % 3 + 1;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != behind).collect();
    cluster.net.set_reachable(behind, &others, false);
    let mut last = 0;
    for n in 0..100 {
        last = cluster.put(leader, &format!("k{n}"), "v").await.unwrap();
    }
    let [equal, ..] = compared(&cluster, leader);
    compact(&cluster, leader, last).await;
    until(|| compared(&cluster, leader)[1] >= 2).await;
    assert_eq!(compared(&cluster, leader)[0], equal, "one of three is not compared");
    cluster.net.set_reachable(behind, &others, true);
    // At once, by its newest revision and by the compacted one.
    until(|| compared(&cluster, leader)[0] >= equal + 2).await;
    // One that can't write is there, and stays where it is.
    let [equal, in_part, _] = compared(&cluster, leader);
    cluster.disks(behind).log.fail_sync(0, std::io::ErrorKind::Other);
    cluster.put(leader, "k", "v").await.unwrap();
    until(|| compared(&cluster, leader)[1] >= in_part + 2).await;
    assert_eq!((compared(&cluster, leader)[2], alarms(&cluster, leader)), (0, vec![]));
    cluster.kill(behind).await;
    cluster.again(behind).await;
    until(|| compared(&cluster, leader)[0] > equal).await;
    // Who has just come has nothing yet.
    let learner = cluster.grow(true).await.unwrap();
    let [equal, ..] = compared(&cluster, leader);
    until(|| compared(&cluster, leader)[0] > equal).await;
    assert_eq!((compared(&cluster, leader)[2], alarms(&cluster, learner)), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn members_are_compared_once_for_each_compaction() {
    let cluster = Cluster::start(3, &COMPACTED).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    for n in 0..5 {
        cluster.put(leader, &format!("k{n}"), "v").await.unwrap();
    }
    sleep(3 * PERIOD).await;
    assert_eq!(compared(&cluster, leader), [0, 0, 0], "nothing is compacted");
    for (revision, times) in [(3, 1), (5, 2)] {
        compact(&cluster, leader, revision).await;
        sleep(4 * PERIOD).await;
        assert_eq!(compared(&cluster, leader), [times, 0, 0]);
    }
    let victim = leader % 3 + 1;
    cluster.corrupt(victim, 4);
    sleep(2 * PERIOD).await;
    assert_eq!(alarms(&cluster, leader), [0; 0], "it is looked at with the next one");
    compact(&cluster, leader, 6).await;
    until(|| alarms(&cluster, leader) == [cluster.id(victim)]).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_starts_with_other_data_serves_nobody() {
    let mut cluster = Cluster::start(3, &["--experimental-initial-corrupt-check=true"]).await;
    let leader = cluster.until_led(&[1, 2, 3]).await;
    let victim = leader % 3 + 1;
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|number| *number != victim).collect();
    cluster.put(leader, "k1", "v").await.unwrap();
    let last = cluster.put(leader, "k2", "v").await.unwrap();
    // One that was away meanwhile, also over a compaction, is let in.
    cluster.until_level(victim, leader).await;
    cluster.stop(victim).await;
    cluster.again(victim).await;
    cluster.kill(victim).await;
    let led = cluster.until_led(&others).await;
    cluster.put(led, "k3", "v").await.unwrap();
    compact(&cluster, led, last).await;
    cluster.again(victim).await;
    cluster.until_level(victim, led).await;

    let ids: Vec<_> = others.iter().map(|number| format!("{:x}", cluster.id(*number))).collect();
    cluster.corrupt(victim, 3);
    cluster.stop(victim).await;
    for _ in 0..2 {
        let Err(refusal) = cluster.try_again(victim).await else { panic!("it serves") };
        assert!(refusal.to_string().starts_with("found data inconsistency with peers: "), "{refusal}");
        let InitialCheckError::Differs { members, .. } = refusal else { panic!("{refusal}") };
        assert!(ids.iter().all(|id| members.contains(id)) && members.len() == 2, "{members:?}");
    }
    // Nobody is there to compare with.
    for number in others {
        cluster.kill(number).await;
    }
    cluster.again(victim).await;
}
