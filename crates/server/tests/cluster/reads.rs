//! Linearizable reads while the leader changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stentor_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use stentor_proto::etcdserverpb::request_op::Request as Op;
use stentor_proto::etcdserverpb::{Compare, MoveLeaderRequest, RequestOp, TxnRequest};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use super::rig::Cluster;
use crate::harness::{get, put};

const ROUNDS: usize = 60;

/// The number that is written, and the highest that was acknowledged.
#[derive(Clone, Default)]
struct Number(Arc<AtomicU64>);

/// Puts a number in the place of a smaller one. What a member without a leader keeps may be written much later.
fn raise(number: u64) -> TxnRequest {
    let value = format!("{number:08}");
    let smaller = Compare {
        key: "k".into(),
        target: CompareTarget::Value.into(),
        result: CompareResult::Less.into(),
        target_union: Some(TargetUnion::Value(value.clone().into())),
        ..Compare::default()
    };
    let op = RequestOp { request: Some(Op::RequestPut(put("k", value))) };
    TxnRequest { compare: vec![smaller], success: vec![op], failure: vec![] }
}

impl Number {
    async fn write(self, mut members: Vec<KvClient<Channel>>) {
        for number in 1_u64.. {
            let member = number as usize % members.len();
            let written = timeout(Duration::from_secs(1), members[member].txn(raise(number))).await;
            if written.is_ok_and(|answer| answer.is_ok()) {
                self.0.fetch_max(number, Ordering::SeqCst);
            }
            // A clock that is paused goes on only when nobody has anything to do.
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn read(self, mut member: KvClient<Channel>, reads: Arc<AtomicU64>) {
        loop {
            let least = self.0.load(Ordering::SeqCst);
            if let Ok(Ok(answer)) = timeout(Duration::from_secs(1), member.range(get("k"))).await {
                let kvs = answer.into_inner().kvs;
                let found = kvs.first().map_or(0, |pair| std::str::from_utf8(&pair.value).unwrap().parse().unwrap());
                assert!(found >= least, "{found} was read after {least} was acknowledged");
                reads.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// etcd 21378: a read whose index was asked of a leader that had just been replaced was stale. The office is moved, and
/// at some moment of that the one that had it hears nobody any more: it learns of its successor by a timer alone, and is
/// asked all the time.
#[tokio::test(start_paused = true)]
async fn those_through_a_change_of_the_leader_are_not_stale() {
    let cluster = Cluster::start(3, &[]).await;
    cluster.put(1, "k", "00000000").await.unwrap();
    let (number, reads) = (Number::default(), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    callers.spawn(number.clone().write([1, 2, 3].map(|member| cluster.kv(member)).into()));
    for member in [1, 2, 3, 1, 2, 3] {
        callers.spawn(number.clone().read(cluster.kv(member), reads.clone()));
    }
    let mut unheard = 0;
    for round in 0..ROUNDS {
        let leader = cluster.until_led(&[1, 2, 3]).await;
        let others: Vec<u16> = [1, 2, 3].into_iter().filter(|member| *member != leader).collect();
        let target_id = cluster.id(others[round % 2]);
        let mut maintenance = MaintenanceClient::new(cluster.channel(leader));
        let moving = tokio::spawn(async move { maintenance.move_leader(MoveLeaderRequest { target_id }).await });
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        cluster.net.set_hears(leader, &others, false);
        let replaced = || others.iter().all(|member| cluster.member(*member).node.leader() == Some(target_id));
        // Whether the office was moved, or somebody had to stand for it.
        let _ = moving.await.unwrap();
        cluster.until_led(&others).await;
        unheard += u64::from(replaced());
        sleep(Duration::from_millis(300)).await;
        cluster.net.set_hears(leader, &others, true);
        // A reader that has met something stale is done.
        if let Some(ended) = callers.try_join_next() {
            ended.unwrap();
        }
    }
    let (written, reads) = (number.0.load(Ordering::SeqCst), reads.load(Ordering::Relaxed));
    assert!(written > 30 && reads > 100, "{written} written, {reads} reads");
    assert!(unheard > 0, "{unheard} offices moved");
}
