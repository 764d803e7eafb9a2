use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message as _;
use stentor_client::{AlarmKind, Client, ErrorKind, Lease, Member, MemberId, Revision, StoreSnapshot};
use stentor_proto::etcdserverpb::SnapshotResponse;
use tokio::time::Instant;

use crate::harness::{Rig, failed};
use crate::members::scripted;

#[tokio::test(start_paused = true)]
async fn a_member_tells_how_it_is() {
    let rig = Rig::start().await;
    let client = rig.client();
    let written = client.put("/a", "1").await.unwrap();
    let member = client.at("pipe:1").unwrap();
    let status = member.status().await.unwrap();
    assert_eq!(status.revision, written);
    assert_eq!(status.leader, Some(status.member));
    assert!(status.cluster != 0 && !status.is_learner && status.errors.is_empty());
    assert!(status.version.starts_with("3."), "{}", status.version);
    assert!(status.db_size >= status.db_size_in_use && status.downgrading_to.is_none());
    assert_eq!(client.at("nonsense").unwrap_err().kind(), &ErrorKind::InvalidEndpoint);

    member.defragment().await.unwrap();
    member.move_leader(status.member).await.unwrap();
    failed(member.move_leader(MemberId::new(1)).await, ErrorKind::Other);
}

#[tokio::test(start_paused = true)]
async fn hashes_are_of_a_revision() {
    let rig = Rig::start().await;
    let client = rig.client();
    let member = client.at("pipe:1").unwrap();
    let first = client.put("/a", "1").await.unwrap();
    let hash = member.hash_kv(Revision::ZERO).await.unwrap();
    assert_eq!((hash.revision, hash.compacted), (first, None));
    let second = client.put("/a", "2").await.unwrap();
    assert_eq!(member.hash_kv(first).await.unwrap(), hash, "history does not change");
    assert_ne!(member.hash_kv(second).await.unwrap().hash, hash.hash);
    client.compact(second).await.unwrap();
    assert_eq!(member.hash_kv(second).await.unwrap().compacted, Some(second));
    failed(member.hash_kv(first).await, ErrorKind::Compacted { at: Revision::ZERO });
    failed(member.hash_kv(second.next()).await, ErrorKind::FutureRevision);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_whole_or_ends_with_an_error() {
    let rig = Rig::start().await;
    let client = rig.client();
    client.put_all((0..40).map(|n| (format!("/{n}"), vec![b'x'; 32 << 10]))).await.unwrap();
    let member = client.at("pipe:1").unwrap();
    let mut snapshot = member.snapshot().await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = snapshot.next().await {
        bytes += chunk.unwrap().len();
    }
    // What tools check: the store's part is a multiple of 512, then comes the hash.
    assert!(bytes > 1 << 20 && bytes % 512 == 32, "{bytes}");
    assert_eq!(snapshot.remaining(), Some(0));
    assert!(snapshot.next().await.is_none());

    let mut broken = member.snapshot().await.unwrap();
    broken.next().await.unwrap().unwrap();
    rig.wire.cut();
    let error = loop {
        // What had arrived comes first.
        match broken.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("it is not whole"),
        }
    };
    assert_eq!(*error.kind(), ErrorKind::Unavailable);
    assert!(broken.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_not_what_its_hash_says_ends_with_an_error() {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let sent = bytes.clone();
    let client = scripted::client(move |asked| {
        assert!(asked.path.ends_with("/Snapshot"), "{}", asked.path);
        let blob = sent.lock().unwrap().clone().into();
        Ok(SnapshotResponse { blob, remaining_bytes: 0, ..SnapshotResponse::default() }.encode_to_vec())
    });
    let member = client.build().unwrap().at("a:1").unwrap();
    // Of a server, where the sum is right.
    let rig = Rig::start().await;
    rig.put("/a", "1").await;
    let mut snapshot = rig.client().at("pipe:1").unwrap().snapshot().await.unwrap();
    while let Some(chunk) = snapshot.next().await {
        bytes.lock().unwrap().extend_from_slice(&chunk.unwrap());
    }
    let download = async || {
        let mut snapshot = member.snapshot().await.unwrap();
        let chunk = snapshot.next().await.unwrap().unwrap();
        assert_eq!(chunk, *bytes.lock().unwrap());
        let end = snapshot.next().await;
        assert!(snapshot.next().await.is_none());
        end
    };
    assert!(download().await.is_none());
    bytes.lock().unwrap()[100] ^= 1;
    let error = download().await.unwrap().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("SHA-256"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_cannot_be_reached_is_told_within_the_call_timeout() {
    let rig = Rig::start().await;
    let member = rig.client().at("pipe:1").unwrap();
    rig.wire.set_down(true);
    let begun = Instant::now();
    failed(member.status().await, ErrorKind::Unavailable);
    assert!(begun.elapsed() <= Duration::from_secs(5));
    // What is known against it keeps nobody from asking it.
    rig.wire.set_down(false);
    member.status().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn alarms_are_told_and_disarmed() {
    let rig = Rig::with_flags(&["--quota-backend-bytes", "100000"]).await;
    let client = rig.client();
    assert_eq!(client.alarms().await.unwrap(), []);
    let filled = async {
        loop {
            if let Err(error) = client.put("/a", vec![b'x'; 30_000]).await {
                break error;
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(60), filled).await.unwrap();
    assert_eq!(*error.kind(), ErrorKind::NoSpace);
    let alarms = client.alarms().await.unwrap();
    assert_eq!(alarms.iter().map(|alarm| alarm.kind).collect::<Vec<_>>(), [AlarmKind::NoSpace]);
    assert_eq!(client.disarm(alarms[0]).await.unwrap(), alarms);
    assert_eq!(client.alarms().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn members_are_listed() {
    let rig = Rig::with_flags(&["--name", "alone"]).await;
    let client = rig.client();
    let members = client.member_list().await.unwrap();
    assert_eq!(members, client.member_list().serializable().await.unwrap());
    let [member] = &members[..] else { panic!("{members:?}") };
    assert_eq!((member.name.as_str(), member.is_learner), ("alone", false));
    assert!(member.client_urls.iter().all(|url| url.starts_with("http://")) && !member.client_urls.is_empty());
    assert_eq!(member.id, client.at("pipe:1").unwrap().status().await.unwrap().member);

    // A learner that never starts changes nothing for the one that votes.
    let added = client.member_add(["http://127.0.0.1:3380"]).learner().await.unwrap();
    assert!(added.member.is_learner && added.members.len() == 2, "{added:?}");
    let refused = client.member_promote(added.member.id).await.unwrap_err();
    assert!(refused.to_string().contains("in sync with leader"), "{refused}");
    let moved = client.member_update(added.member.id, ["http://127.0.0.1:4380"]).await.unwrap();
    assert!(moved.iter().any(|member| member.peer_urls == ["http://127.0.0.1:4380"]), "{moved:?}");
    assert_eq!(client.member_remove(added.member.id).await.unwrap(), members);
    client.put("k", "v").await.unwrap();
}

/// Calls can be made from any task.
#[test]
fn futures_can_be_sent() {
    fn is_send<T: Send>(_: T) {}
    fn check(client: &Client, member: &Member, snapshot: &mut StoreSnapshot, lease: &Lease) {
        let (id, leader) = (lease.id(), MemberId::new(1));
        is_send((client.leases(), client.lease_revoke(id), client.lease_renew(id), client.alarms()));
        is_send((client.member_remove(leader), client.member_promote(leader), client.member_update(leader, [""])));
        is_send((member.status(), member.hash_kv(Revision::ZERO), member.defragment(), member.move_leader(leader)));
        is_send((member.snapshot(), snapshot.next(), lease.revoke(), lease.lost(), lease.doubted()));
    }
    let _ = check;
}
