//! Leases when the store takes no more writes.

use std::io::ErrorKind;
use std::time::Duration;

use stentor_proto::etcdserverpb::alarm_request::AlarmAction;
use stentor_proto::etcdserverpb::{AlarmRequest, AlarmType, LeaseGrantRequest, LeaseRevokeRequest};
use tonic::Code;

use super::{KeepAlive, attach, is_there, leases, time_to_live};
use crate::harness::{Rig, put};

#[tokio::test(start_paused = true)]
async fn they_can_be_looked_at_and_kept_alive_but_not_granted_or_ended() {
    let rig = Rig::start(&[]).await;
    rig.grant(1, 10).await;
    rig.grant(2, 100).await;
    attach(&rig, "k", 1).await;
    rig.log().fail_write(0, ErrorKind::Other);
    let failed = rig.kv().put(put("x", "")).await.unwrap_err();
    assert_eq!(failed.code(), Code::Internal, "{failed:?}");

    let refused = rig.lease().lease_grant(LeaseGrantRequest { id: 3, ttl: 10 }).await.unwrap_err();
    assert!(refused.code() == Code::Internal && refused.message().contains("restart"), "{refused:?}");
    let refused = rig.lease().lease_revoke(LeaseRevokeRequest { id: 2 }).await.unwrap_err();
    assert!(refused.code() == Code::Internal && refused.message().contains("restart"), "{refused:?}");
    assert_eq!(leases(&rig).await, [1, 2]);
    assert_eq!(KeepAlive::open(&rig).await.renew(2).await, 100);

    // One that runs out stays, with nothing left, and its key too: nothing is half done.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let status = time_to_live(&rig, 1, true).await;
    assert_eq!((status.ttl, status.granted_ttl, &status.keys[..]), (0, 10, &["k".into()][..]));
    assert!(is_there(&rig, "k").await);

    let rig = rig.crash().await;
    assert_eq!(leases(&rig).await, [1, 2]);
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(leases(&rig).await, [2]);
    assert!(!is_there(&rig, "k").await);
}

/// While the store takes nothing they are tried again and again, and end once, when it does.
#[tokio::test(start_paused = true)]
async fn they_end_when_the_corrupt_alarm_is_lifted() {
    const EXPIRED: &str = "etcd_debugging_server_lease_expired_total";
    let rig = Rig::start(&[]).await;
    rig.grant(1, 10).await;
    attach(&rig, "k", 1).await;
    let set =
        |action: AlarmAction| AlarmRequest { action: action.into(), member_id: 7, alarm: AlarmType::Corrupt.into() };
    rig.maintenance().alarm(set(AlarmAction::Activate)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(leases(&rig).await, [1]);
    assert!(is_there(&rig, "k").await);
    let metrics = rig.http("/metrics").await;
    assert!(metrics.contains(&format!("{EXPIRED} 0\n")), "a lease that could not be ended is not counted");
    rig.maintenance().alarm(set(AlarmAction::Deactivate)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(leases(&rig).await.is_empty());
    assert!(!is_there(&rig, "k").await);
    assert!(rig.http("/metrics").await.contains(&format!("{EXPIRED} 1\n")));
}
