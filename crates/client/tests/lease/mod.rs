use std::time::Duration;

use stentor_client::{Client, ErrorKind, KeyRange, Lease, LeaseId, LeaseLoss, LeaseState};
use tokio::time::Instant;

use crate::harness::{Rig, failed, over, soon};

const TTL: Duration = Duration::from_secs(30);

/// Time goes by. The clock is paused: it is gone at once, and everything due in it has happened.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

fn is_alive(lease: &Lease) -> bool {
    matches!(lease.state(), LeaseState::Alive { .. })
}

/// By a client of its own, on a wire that stays whole.
async fn exists(rig: &Rig, key: &str) -> bool {
    rig.other_wire().client().get(key.to_owned()).await.unwrap().is_some()
}

async fn with_key(client: &Client) -> Lease {
    let lease = client.lease(TTL).await.unwrap();
    client.put("/svc/a", "1").lease(&lease).await.unwrap();
    lease
}

#[tokio::test(start_paused = true)]
async fn a_lease_keeps_itself_alive() {
    let rig = Rig::start().await;
    let lease = with_key(&rig.client()).await;
    assert_eq!(lease.ttl(), TTL);
    for _ in 0..100 {
        pass(Duration::from_secs(7)).await;
        assert!(is_alive(&lease), "{lease:?}");
        assert!(lease.remaining() > Duration::from_secs(19) && lease.remaining() <= TTL, "{:?}", lease.remaining());
    }
    assert!(exists(&rig, "/svc/a").await);
}

#[tokio::test(start_paused = true)]
async fn what_is_promised_ends_before_the_server_ends_it() {
    let rig = Rig::start().await;
    let lease = with_key(&rig.client()).await;
    pass(Duration::from_secs(100)).await;
    rig.wire.set_down(true);
    rig.wire.cut();
    let promised = Instant::now() + lease.remaining();
    pass(lease.remaining() - Duration::from_millis(10)).await;
    assert!(is_alive(&lease) && exists(&rig, "/svc/a").await, "as promised");
    assert_eq!(lease.doubted().await, LeaseState::Doubtful);
    assert!(Instant::now() - promised < Duration::from_millis(5), "told when it is due");
    assert_eq!(lease.remaining(), Duration::ZERO);

    // The server ends it without the client; which learns of it when it is back.
    pass(Duration::from_secs(5)).await;
    assert!(!exists(&rig, "/svc/a").await);
    assert_eq!(lease.state(), LeaseState::Doubtful);
    rig.wire.set_down(false);
    assert_eq!(lease.lost().await, LeaseLoss::Gone);
    assert_eq!(lease.state(), LeaseState::Lost(LeaseLoss::Gone));
    lease.revoke().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_outlives_a_break_that_is_shorter_than_itself() {
    let rig = Rig::start().await;
    let lease = with_key(&rig.client()).await;
    for _ in 0..10 {
        rig.wire.set_down(true);
        rig.wire.cut();
        pass(Duration::from_secs(15)).await;
        assert!(is_alive(&lease));
        rig.wire.set_down(false);
        pass(Duration::from_secs(4)).await;
        assert!(lease.remaining() > Duration::from_secs(25), "{:?}", lease.remaining());
    }
    assert!(exists(&rig, "/svc/a").await);
}

#[tokio::test(start_paused = true)]
async fn another_member_takes_over_from_one_that_is_silent() {
    let rig = Rig::start().await;
    let wires = [rig.wire.clone(), rig.other_wire()];
    let client = over(wires.clone()).build().unwrap();
    for ttl in [2, 30].map(Duration::from_secs) {
        let lease = client.lease(ttl).await.unwrap();
        client.put("/svc/a", "1").lease(&lease).await.unwrap();
        for round in 0..10 {
            // No connection breaks: answers just do not come.
            let silent = &wires[round % 2];
            silent.set_deaf(true);
            let doubted = tokio::time::timeout(ttl * 4 / 3, lease.doubted()).await;
            assert!(doubted.is_err(), "{ttl:?}, round {round}");
            silent.set_deaf(false);
            silent.cut();
            // Until the member that was silent is known to be well.
            pass(Duration::from_secs(5)).await;
        }
        assert!(exists(&rig, "/svc/a").await);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_revoked_elsewhere_is_lost_with_the_next_renewal() {
    let rig = Rig::start().await;
    let client = rig.client();
    let lease = with_key(&client).await;
    let mut changes = lease.changes();
    let Some(LeaseState::Alive { valid_until: first }) = changes.next().await else { panic!("{lease:?}") };
    let Some(LeaseState::Alive { valid_until: second }) = changes.next().await else { panic!("{lease:?}") };
    assert!(second > first + Duration::from_secs(8));
    client.lease_revoke(&lease).await.unwrap();
    let begun = Instant::now();
    assert_eq!(changes.next().await, Some(LeaseState::Lost(LeaseLoss::Gone)));
    assert!(begun.elapsed() <= Duration::from_secs(10));
    assert_eq!(changes.next().await, None);
    assert_eq!(lease.lost().await, LeaseLoss::Gone);
    assert_eq!(lease.doubted().await, LeaseState::Lost(LeaseLoss::Gone));
}

#[tokio::test(start_paused = true)]
async fn closing_ends_it_surely() {
    let rig = Rig::start().await;
    let lease = with_key(&rig.client()).await;
    let (other, mut changes, lost) = (lease.clone(), lease.changes(), lease.lost());
    lease.close().await.unwrap();
    assert!(!exists(&rig, "/svc/a").await);
    assert_eq!(other.state(), LeaseState::Lost(LeaseLoss::Revoked));
    assert_eq!(lost.await, LeaseLoss::Revoked);
    while let Some(state) = changes.next().await {
        assert!(!matches!(state, LeaseState::Lost(LeaseLoss::Gone | LeaseLoss::Closed)), "{state:?}");
    }
    other.revoke().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_without_a_server_goes_on_until_there_is_one() {
    let rig = Rig::start().await;
    let lease = with_key(&rig.client()).await;
    rig.wire.set_down(true);
    rig.wire.cut();
    failed(lease.revoke().await, ErrorKind::Ambiguous);
    assert_eq!(lease.state(), LeaseState::Doubtful);
    rig.wire.set_down(false);
    let begun = Instant::now();
    assert_eq!(lease.lost().await, LeaseLoss::Revoked);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!exists(&rig, "/svc/a").await);
}

#[tokio::test(start_paused = true)]
async fn it_dies_with_its_last_handle() {
    let rig = Rig::start().await;
    let client = rig.client();
    let lease = with_key(&client).await;
    let clone = lease.clone();
    drop(lease);
    pass(Duration::from_secs(100)).await;
    assert!(is_alive(&clone));
    // What waits for it does not keep it.
    let (lost, doubted, _changes) = (clone.lost(), clone.doubted(), clone.changes());
    let begun = Instant::now();
    drop(clone);
    assert_eq!(lost.await, LeaseLoss::Revoked);
    assert!(!matches!(doubted.await, LeaseState::Alive { .. }));
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(client.leases().await.unwrap(), []);

    // Without a server it is left to expire; nothing waits for that, and nothing is left running.
    let lease = with_key(&client).await;
    rig.wire.set_down(true);
    rig.wire.cut();
    let lost = lease.lost();
    drop(lease);
    assert_eq!(lost.await, LeaseLoss::Closed);
    assert!(exists(&rig, "/svc/a").await);
    pass(TTL + Duration::from_secs(1)).await;
    assert!(!exists(&rig, "/svc/a").await);
}

#[tokio::test(start_paused = true)]
async fn renewals_have_a_connection_of_their_own() {
    let rig = Rig::start().await;
    let client = rig.client();
    client.put("/a", "1").await.unwrap();
    assert_eq!(rig.wire.dials(), 1);
    let _lease = client.lease(TTL).await.unwrap();
    let _other = client.lease(TTL).await.unwrap();
    pass(Duration::from_secs(100)).await;
    assert_eq!(rig.wire.dials(), 2);
}

#[test]
fn a_lease_without_its_runtime_is_not_called_alive() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let first = runtime();
    let lease = first.block_on(async {
        let rig = Rig::start().await;
        rig.client().lease(TTL).await.unwrap()
    });
    drop(first);
    assert_eq!(lease.state(), LeaseState::Lost(LeaseLoss::Closed));
    assert_eq!(lease.remaining(), Duration::ZERO);
    runtime().block_on(async {
        assert_eq!(lease.lost().await, LeaseLoss::Closed);
        assert_eq!(lease.changes().next().await, Some(LeaseState::Lost(LeaseLoss::Closed)));
        failed(lease.revoke().await, ErrorKind::Closed);
    });
}

#[tokio::test(start_paused = true)]
async fn leases_by_hand() {
    let rig = Rig::start().await;
    let client = rig.client();
    let id = LeaseId::new(77).unwrap();
    let granted = client.lease_grant(TTL).id(id).await.unwrap();
    assert_eq!((granted.id, granted.ttl), (id, TTL));
    failed(client.lease_grant(TTL).id(id).await, ErrorKind::Other);
    failed(client.lease_grant(Duration::from_secs(u64::MAX)).await, ErrorKind::InvalidArgument);
    let drawn = client.lease_grant(Duration::from_millis(10)).await.unwrap();
    assert!(drawn.id != id && drawn.ttl >= Duration::from_secs(1), "{drawn:?}");

    client.put("/t/b", "1").lease(id).await.unwrap();
    client.put("/u", "1").lease(id).await.unwrap();
    client.put_all([("/t/a", "1")]).lease(id).await.unwrap();
    pass(Duration::from_secs(10)).await;
    let left = client.time_to_live(id).keys().await.unwrap().unwrap();
    assert_eq!((left.id, left.granted, left.keys.len()), (id, TTL, 3));
    assert!(left.remaining >= Duration::from_secs(19) && left.remaining <= Duration::from_secs(20), "{left:?}");
    assert_eq!(client.time_to_live(id).await.unwrap().unwrap().keys, [""; 0], "they were not asked for");
    let seen = client.namespaced("/t/").time_to_live(id).keys().await.unwrap().unwrap();
    assert_eq!(seen.keys, ["a", "b"]);
    let pair = client.get("/u").await.unwrap().unwrap();
    assert_eq!(pair.lease(), Some(id));

    assert_eq!(client.lease_renew(id).await.unwrap(), Some(TTL));
    let left = client.time_to_live(id).await.unwrap().unwrap();
    assert!(left.remaining >= Duration::from_secs(29));
    assert_eq!(client.leases().await.unwrap(), [id], "the short one has expired");

    client.lease_revoke(id).await.unwrap();
    failed(client.lease_revoke(id).await, ErrorKind::LeaseNotFound);
    assert_eq!(client.lease_renew(id).await.unwrap(), None);
    assert_eq!(client.time_to_live(id).await.unwrap(), None);
    assert_eq!(client.delete(KeyRange::all()).await.unwrap().count, 0);
}

/// The program's runtime does not run at all after the grant: as if its tasks kept it busy.
#[test]
fn a_runtime_of_their_own_keeps_leases_alive() {
    let runtime = |builder: &mut tokio::runtime::Builder| builder.enable_all().build().unwrap();
    let own = runtime(tokio::runtime::Builder::new_multi_thread().worker_threads(1));
    let programs = runtime(&mut tokio::runtime::Builder::new_current_thread());
    let rig = own.block_on(Rig::start());
    let client = rig.builder().lease_runtime(own.handle().clone()).build().unwrap();
    let lease = programs.block_on(client.lease(Duration::from_secs(5)).into_future()).unwrap();
    let mut changes = lease.changes();
    let renewed = async {
        let mut first = None;
        loop {
            // In between it may be doubtful, on a machine that is busy.
            if let LeaseState::Alive { valid_until } = changes.next().await.unwrap()
                && *first.get_or_insert(valid_until) < valid_until
            {
                break;
            }
        }
    };
    // The clock is the real one here.
    let renewed = own.block_on(async { tokio::time::timeout(Duration::from_secs(60), renewed).await });
    renewed.expect("a renewal");

    // Without that runtime nobody renews it, and it says so.
    own.shutdown_background();
    assert_eq!(programs.block_on(soon(lease.lost())), LeaseLoss::Closed);
}
