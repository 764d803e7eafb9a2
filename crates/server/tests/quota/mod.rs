//! The space quota and its alarm.

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::alarm_request::AlarmAction;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RequestOp, StatusRequest, StatusResponse, TxnRequest,
};

use crate::harness::{Rig, prefixed, put, refused, until};

/// What harnesses give.
const SMALL: &str = "--quota-backend-bytes=53248";

async fn alarms(rig: &Rig) -> Vec<AlarmMember> {
    rig.maintenance().alarm(AlarmRequest::default()).await.unwrap().into_inner().alarms
}

async fn status(rig: &Rig) -> StatusResponse {
    rig.maintenance().status(StatusRequest {}).await.unwrap().into_inner()
}

/// Puts until the quota is reached; how many fitted.
async fn fill(rig: &Rig) -> usize {
    let mut kv = rig.kv();
    for n in 0..1000 {
        if let Err(refusal) = kv.put(put(&format!("k{n:04}"), vec![b'v'; 1000])).await {
            refused::<()>(Err(refusal), EtcdError::NoSpace);
            return n;
        }
    }
    panic!("the quota was never reached");
}

async fn compact(rig: &Rig, revision: i64) {
    rig.kv().compact(CompactionRequest { revision, physical: true }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reaching_it_raises_the_alarm_and_a_restart_keeps_it() {
    let rig = Rig::start(&[SMALL]).await;
    assert_eq!(status(&rig).await.db_size_quota, 53248);
    let fitted = fill(&rig).await;
    assert!((45..=52).contains(&fitted), "{fitted} pairs of a bit over 1,000 bytes");
    let member = status(&rig).await.leader;
    let raised = vec![AlarmMember { member_id: member, alarm: AlarmType::Nospace.into() }];
    assert_eq!(alarms(&rig).await, raised);
    assert_eq!(status(&rig).await.errors, [format!("memberID:{member} alarm:NOSPACE")]);
    let health = rig.http("/health").await;
    assert!(health.starts_with("HTTP/1.1 503") && health.ends_with(r#"{"health":"false","reason":"ALARM NOSPACE"}"#));
    assert!(rig.http("/health?exclude=NOSPACE").await.ends_with(r#"{"health":"true","reason":""}"#));
    // A full quota is no reason to restart a member, nor to keep clients from reading.
    assert!(rig.http("/livez").await.ends_with("\r\n\r\nok\n") && rig.http("/readyz").await.ends_with("\r\n\r\nok\n"));

    let rig = rig.crash().await;
    assert_eq!(alarms(&rig).await, raised);
    assert_eq!(rig.list("k").await.count, fitted as i64);
    refused(rig.kv().put(put("new", vec![b'v'; 1000])).await, EtcdError::NoSpace);
}

/// With the alarm on, what would fit is refused too: only what frees space, and small overwrites, go on.
#[tokio::test(start_paused = true)]
async fn the_alarm_stops_what_needs_space() {
    let rig = Rig::start(&[SMALL]).await;
    let granted = rig.grant(1, 3600).await;
    rig.kv().put(PutRequest { lease: granted, ..put("leased", "v") }).await.unwrap();
    fill(&rig).await;
    let mut kv = rig.kv();
    refused(kv.put(put("tiny", "")).await, EtcdError::NoSpace);
    refused(rig.lease().lease_grant(LeaseGrantRequest { id: 2, ttl: 10 }).await, EtcdError::NoSpace);
    // The space is looked at before the request.
    refused(kv.put(put("", vec![b'v'; 1000])).await, EtcdError::NoSpace);

    let op = |request| RequestOp { request: Some(request) };
    let one = |request| TxnRequest { success: vec![op(request)], ..TxnRequest::default() };
    // etcd 22139: a put in a nested transaction cost nothing.
    let new = || Request::RequestPut(put("new", vec![b'v'; 1000]));
    refused(kv.txn(one(new())).await, EtcdError::NoSpace);
    refused(kv.txn(one(Request::RequestTxn(one(Request::RequestTxn(one(new())))))).await, EtcdError::NoSpace);
    let in_failure = TxnRequest { failure: vec![op(new())], ..TxnRequest::default() };
    refused(kv.txn(one(Request::RequestTxn(in_failure))).await, EtcdError::NoSpace);

    // Small overwrites of what is there have their own room, in a transaction too; large ones have not.
    kv.put(put("k0000", "small")).await.unwrap();
    kv.txn(one(Request::RequestPut(put("k0001", "small")))).await.unwrap();
    refused(kv.put(put("k0002", vec![b'v'; 2000])).await, EtcdError::NoSpace);
    let mixed =
        TxnRequest { success: vec![op(Request::RequestPut(put("k0003", "v"))), op(new())], ..TxnRequest::default() };
    refused(kv.txn(mixed).await, EtcdError::NoSpace);
    // Deletes, reads and revokes always go.
    kv.delete_range(DeleteRangeRequest { key: "k0004".into(), ..DeleteRangeRequest::default() }).await.unwrap();
    kv.txn(one(Request::RequestDeleteRange(DeleteRangeRequest { key: "k0005".into(), ..Default::default() })))
        .await
        .unwrap();
    rig.lease().lease_revoke(LeaseRevokeRequest { id: granted }).await.unwrap();
    assert_eq!(rig.list("leased").await.count, 0);
}

/// The head-room has an end: overwrites alone can't grow the store without bound.
#[tokio::test(start_paused = true)]
async fn head_room_ends() {
    let rig = Rig::start(&[SMALL]).await;
    fill(&rig).await;
    let mut kv = rig.kv();
    let mut overwrites = 0;
    let refusal = loop {
        match kv.put(put("k0000", vec![b'v'; 100])).await {
            Ok(_) => overwrites += 1,
            Err(refusal) => break refusal,
        }
        assert!(overwrites < 1000);
    };
    refused::<()>(Err(refusal), EtcdError::NoSpace);
    assert!(overwrites > 5, "{overwrites}");
    assert!(status(&rig).await.db_size_in_use < 53248 + 53248 / 16);
}

#[tokio::test(start_paused = true)]
async fn deletes_and_compaction_free_it_and_the_alarm_lifts_by_itself() {
    let rig = Rig::start(&[SMALL]).await;
    for _ in 0..3 {
        fill(&rig).await;
        for key in rig.list("k").await.kvs.into_iter().map(|pair| pair.key) {
            rig.kv().delete_range(DeleteRangeRequest { key, ..Default::default() }).await.unwrap();
        }
        assert_eq!(alarms(&rig).await.len(), 1, "deletes alone free nothing");
        compact(&rig, rig.revision()).await;
        until(|| rig.member.node.store.view().all_alarms().next().is_none()).await;
        assert_eq!(alarms(&rig).await, []);
        assert!(rig.http("/health").await.ends_with(r#"{"health":"true","reason":""}"#));
        assert_eq!(rig.list("k").await.count, 0);
    }
    rig.put("again", vec![b'v'; 1000]).await;
}

/// Everything deleted in one revision, and compaction at that: what is kept for watches from there must not
/// lock out who has nothing left to delete.
#[tokio::test(start_paused = true)]
async fn deleting_everything_at_once_frees_it_too() {
    let rig = Rig::start(&[SMALL]).await;
    for round in 0..3 {
        fill(&rig).await;
        let all = prefixed("k");
        let all = DeleteRangeRequest { key: all.key, range_end: all.range_end, prev_kv: false };
        rig.kv().delete_range(all).await.unwrap();
        let deleted = rig.revision();
        compact(&rig, deleted).await;
        until(|| rig.member.node.store.view().all_alarms().next().is_none()).await;
        assert!(status(&rig).await.db_size_in_use < 10_000, "round {round}: {}", status(&rig).await.db_size_in_use);
        // They are there all the same, for a watch from the compacted revision, and gone after the next one.
        assert!(rig.member.node.store.view().logical_bytes() > 45_000);
        let next = rig.put("next", "v").await;
        if round == 1 {
            compact(&rig, next).await;
            assert!(rig.member.node.store.view().logical_bytes() < 10_000);
        }
    }
    // What the store has lost comes again from the log, and is compacted again.
    let rig = rig.crash().await;
    let compacted = rig.member.node.store.view().compacted().unwrap();
    until(|| rig.member.node.store.compaction_finished() == compacted).await;
    assert!(status(&rig).await.db_size_in_use < 10_000);
    rig.put("again", vec![b'v'; 1000]).await;
}

/// What is still used decides: where little became free, the alarm stays, until it is disarmed by hand.
#[tokio::test(start_paused = true)]
async fn the_alarm_stays_while_much_is_used() {
    let rig = Rig::start(&[SMALL]).await;
    fill(&rig).await;
    rig.kv().delete_range(DeleteRangeRequest { key: "k0000".into(), ..Default::default() }).await.unwrap();
    compact(&rig, rig.revision()).await;
    assert_eq!(alarms(&rig).await.len(), 1);
    refused(rig.kv().put(put("tiny", "")).await, EtcdError::NoSpace);
    let disarm =
        AlarmRequest { action: AlarmAction::Deactivate.into(), alarm: AlarmType::Nospace.into(), member_id: 0 };
    let disarm = AlarmRequest { member_id: status(&rig).await.leader, ..disarm };
    assert_eq!(rig.maintenance().alarm(disarm).await.unwrap().into_inner().alarms.len(), 1);
    assert_eq!(alarms(&rig).await, []);
    rig.put("tiny", "").await;
    // What doesn't fit raises it again.
    refused(rig.kv().put(put("large", vec![b'v'; 10_000])).await, EtcdError::NoSpace);
    assert_eq!(alarms(&rig).await.len(), 1);
}

/// One write that is too large for what is left is refused; while there is room for others it raises no
/// alarm, with which they would be refused too.
#[tokio::test(start_paused = true)]
async fn one_that_does_not_fit_an_empty_store_locks_nobody_out() {
    let rig = Rig::start(&[SMALL]).await;
    refused(rig.kv().put(put("large", vec![b'v'; 100_000])).await, EtcdError::NoSpace);
    assert_eq!(alarms(&rig).await, []);
    rig.put("small", "v").await;
}

#[tokio::test(start_paused = true)]
async fn a_negative_quota_is_none() {
    let rig = Rig::start(&["--quota-backend-bytes=-1"]).await;
    for n in 0..100 {
        rig.put(&format!("k{n}"), vec![b'v'; 100_000]).await;
    }
    assert_eq!(alarms(&rig).await, []);
    assert_eq!(status(&rig).await.db_size_quota, 0);
}

/// A cluster that says it is corrupt is read, and takes nothing but the end of the alarm.
#[tokio::test(start_paused = true)]
async fn the_corrupt_alarm_stops_every_write() {
    let rig = Rig::start(&[]).await;
    rig.put("k", "v").await;
    let lease = rig.grant(1, 3600).await;
    let set =
        |action: AlarmAction| AlarmRequest { action: action.into(), member_id: 0xc0, alarm: AlarmType::Corrupt.into() };
    rig.maintenance().alarm(set(AlarmAction::Activate)).await.unwrap();
    let mut kv = rig.kv();
    let delete = DeleteRangeRequest { key: "k".into(), ..DeleteRangeRequest::default() };
    let op = RequestOp { request: Some(Request::RequestDeleteRange(delete.clone())) };
    let txn = TxnRequest { success: vec![op], ..TxnRequest::default() };
    refused(kv.put(put("k", "w")).await, EtcdError::Corrupt);
    refused(kv.delete_range(delete).await, EtcdError::Corrupt);
    refused(kv.txn(txn).await, EtcdError::Corrupt);
    refused(kv.compact(CompactionRequest { revision: 1, physical: false }).await, EtcdError::Corrupt);
    refused(rig.lease().lease_grant(LeaseGrantRequest { id: 2, ttl: 10 }).await, EtcdError::Corrupt);
    refused(rig.lease().lease_revoke(LeaseRevokeRequest { id: lease }).await, EtcdError::Corrupt);
    assert_eq!(rig.list("k").await.kvs[0].value, "v");
    let rig = rig.crash().await;
    refused(rig.kv().put(put("k", "w")).await, EtcdError::Corrupt);
    let shown = "\netcd_debugging_server_alarms{server_id=\"c0\",alarm_type=\"CORRUPT\"} 1\n";
    assert!(rig.http("/metrics").await.contains(shown));
    rig.maintenance().alarm(set(AlarmAction::Deactivate)).await.unwrap();
    assert_eq!(rig.put("k", "w").await, 3);
    assert!(!rig.http("/metrics").await.contains(shown));
}
