use std::time::Duration;

use stentor_client::txn::put;
use stentor_client::{ErrorKind, LeaseLoss, LeaseState, OwnershipLoss, Revision};

use super::{clients, keys, lose_answer, queued};
use crate::harness::{Rig, failed, soon, until};

const TTL: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn one_holds_it_and_the_others_follow_in_the_order_of_coming() {
    let rig = Rig::start().await;
    let [first, second, third] = clients(&rig);
    let guard = soon(first.lock("/l")).await.unwrap();
    assert_eq!(keys(&rig, "/l").await, [format!("/l/{:x}", guard.lease().id().get())]);
    assert_eq!(*guard.key(), format!("/l/{}", guard.lease().id()));
    let second = tokio::spawn(second.lock("/l").into_future());
    queued(&rig, "/l/", 2).await;
    let third = tokio::spawn(third.lock("/l").into_future());
    queued(&rig, "/l/", 3).await;

    let mut fence = guard.fence();
    assert!(guard.is_held());
    guard.unlock().await.unwrap();
    for waiting in [second, third] {
        let guard = soon(waiting).await.unwrap().unwrap();
        assert!(guard.fence() > fence, "later holders have greater numbers");
        fence = guard.fence();
        let oldest = rig.client().election("/l").leader().await.unwrap().unwrap();
        assert_eq!(oldest.key(), guard.key());
        guard.unlock().await.unwrap();
    }
    assert!(keys(&rig, "/l").await.is_empty());
    // Locks whose names begin alike are others.
    let _long = soon(first.lock("/locks/ab")).await.unwrap();
    let _short = soon(first.lock("/locks/a").try_lock()).await.unwrap().expect("it is free");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_tried_for_leaves_no_trace_if_it_is_not_free() {
    let rig = Rig::start().await;
    let [one, other] = clients(&rig);
    let lease = other.lease(TTL).await.unwrap();
    let guard = soon(one.lock("/l").try_lock()).await.unwrap().expect("it is free");
    let before = rig.revision();
    assert!(soon(other.lock("/l").lease(&lease).try_lock()).await.unwrap().is_none());
    assert_eq!(rig.revision(), before);
    guard.unlock().await.unwrap();
    let guard = soon(other.lock("/l").lease(&lease).try_lock()).await.unwrap().expect("it is free again");
    guard.unlock().await.unwrap();
    assert!(matches!(lease.state(), LeaseState::Alive { .. }), "a lease that was given is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_cut_off_is_told_before_another_holds_it() {
    let rig = Rig::start().await;
    let guard = soon(rig.client().lock("/l").ttl(TTL)).await.unwrap();
    let next = tokio::spawn(rig.other_wire().client().lock("/l").into_future());
    queued(&rig, "/l/", 2).await;
    rig.wire.set_down(true);
    rig.wire.cut();
    let before = rig.revision();
    assert!(matches!(soon(guard.lost()).await, OwnershipLoss::LeaseDoubtful));
    assert!(!guard.is_held());
    assert_eq!(rig.revision(), before, "the server has not ended it yet");
    let next = soon(next).await.unwrap().unwrap();

    // Back again, it can't do any harm.
    rig.wire.set_down(false);
    assert!(matches!(soon(guard.lost()).await, OwnershipLoss::Lease(LeaseLoss::Gone) | OwnershipLoss::LeaseDoubtful));
    until(|| guard.lease().state() == LeaseState::Lost(LeaseLoss::Gone)).await;
    let late = guard.txn().then(put("/done", "late")).await.unwrap();
    assert!(!late.succeeded);
    assert!(next.txn().then(put("/done", "in time")).await.unwrap().succeeded);
    failed(guard.unlock().await, ErrorKind::LeaseLost);
    assert_eq!(keys(&rig, "/l/").await, [std::str::from_utf8(next.key()).unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_somebody_deletes_is_a_lock_that_is_lost() {
    let rig = Rig::start().await;
    let [client, hand] = clients(&rig);
    let guard = soon(client.lock("/l")).await.unwrap();
    let lost = tokio::spawn(guard.lost());
    // Longer than the history of its creation is kept.
    let written = hand.put("/x", "1").await.unwrap();
    hand.compact(written).await.unwrap();
    hand.delete(guard.key().clone()).await.unwrap();
    assert!(matches!(soon(lost).await.unwrap(), OwnershipLoss::Deleted));
    // A key of the same name that was put by hand is not the lock.
    hand.put(guard.key().clone(), "").await.unwrap();
    assert!(matches!(soon(guard.lost()).await, OwnershipLoss::Deleted));
    failed(guard.unlock().await, ErrorKind::LeaseLost);
    assert_eq!(keys(&rig, "/l/").await.len(), 1, "it is not ours to delete");
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_dropped_gives_it_back() {
    let rig = Rig::start().await;
    let [client, other] = clients(&rig);
    let lease = client.lease(TTL).await.unwrap();
    let guard = soon(client.lock("/l").lease(&lease)).await.unwrap();
    let lost = guard.lost();
    drop(guard);
    queued(&rig, "/l/", 0).await;
    assert!(matches!(soon(lost).await, OwnershipLoss::Deleted));
    assert!(matches!(lease.state(), LeaseState::Alive { .. }));

    // One that was made for the lock goes with it, also when somebody keeps a handle.
    let guard = soon(client.lock("/l")).await.unwrap();
    let own = guard.lease().clone();
    drop(guard);
    assert_eq!(soon(own.lost()).await, LeaseLoss::Revoked);
    let guard = soon(other.lock("/l")).await.unwrap();
    let own = guard.lease().lost();
    guard.unlock().await.unwrap();
    assert_eq!(soon(own).await, LeaseLoss::Revoked);
    assert_eq!(rig.client().leases().await.unwrap(), [lease.id()]);
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_dropped_without_a_server_is_given_back_when_there_is_one() {
    let rig = Rig::start().await;
    let client = rig.client();
    let lease = client.lease(TTL).await.unwrap();
    let guard = soon(client.lock("/l").lease(&lease)).await.unwrap();
    rig.wire.set_down(true);
    rig.wire.cut();
    failed(guard.unlock().await, ErrorKind::Ambiguous);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(keys(&rig, "/l/").await.len(), 1);
    // Meanwhile it is not free for the same lease either.
    assert!(soon(client.lock("/l").lease(&lease).try_lock()).await.unwrap().is_none());
    rig.wire.set_down(false);
    queued(&rig, "/l/", 0).await;
    soon(client.lock("/l").lease(&lease)).await.unwrap().unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_leaves_the_queue() {
    let rig = Rig::start().await;
    let [holder, third] = clients(&rig);
    let client = rig.client();
    let lease = client.lease(TTL).await.unwrap();
    let guard = soon(holder.lock("/l")).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_secs(100), client.lock("/l").lease(&lease)).await;
    assert!(waiting.is_err());
    queued(&rig, "/l/", 1).await;

    // Who waited behind it waits for the next before it.
    let waiting = tokio::spawn(client.lock("/l").lease(&lease).into_future());
    queued(&rig, "/l/", 2).await;
    let behind = tokio::spawn(rig.other_wire().client().lock("/l").into_future());
    queued(&rig, "/l/", 3).await;
    waiting.abort();
    queued(&rig, "/l/", 2).await;
    tokio::time::sleep(TTL).await;
    assert!(!behind.is_finished());
    behind.abort();
    queued(&rig, "/l/", 1).await;

    // Also if its place was taken without its knowing.
    let before = rig.revision();
    rig.wire.set_deaf(true);
    let waiting = tokio::spawn(client.lock("/l").lease(&lease).into_future());
    until(|| rig.revision() > before).await;
    waiting.abort();
    lose_answer(&rig, before).await;
    queued(&rig, "/l/", 1).await;
    let third = tokio::spawn(third.lock("/l").into_future());
    queued(&rig, "/l/", 2).await;
    guard.unlock().await.unwrap();
    soon(third).await.unwrap().unwrap().unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_place_whose_answer_was_lost_is_taken_all_the_same() {
    let rig = Rig::start().await;
    let client = rig.builder().call_timeout(Duration::from_secs(30)).build().unwrap();
    let lease = client.lease(TTL).await.unwrap();
    for tried in [false, true] {
        let before = rig.revision();
        rig.wire.set_deaf(true);
        let lock = client.lock("/l").lease(&lease);
        let taken = tokio::spawn(async move {
            if tried { lock.try_lock().await.map(|guard| guard.expect("it is free")) } else { lock.await }
        });
        lose_answer(&rig, before).await;
        let guard = soon(taken).await.unwrap().unwrap();
        assert_eq!(guard.fence(), Revision::new(before + 1).unwrap());
        assert_eq!(rig.revision(), before + 1);
        guard.unlock().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_with_the_same_lease_exclude_each_other() {
    let rig = Rig::start().await;
    let client = rig.client();
    let lease = client.lease(TTL).await.unwrap();
    let guard = soon(client.lock("/l").lease(&lease)).await.unwrap();
    assert!(soon(client.lock("/l").lease(&lease).try_lock()).await.unwrap().is_none());
    let waiting = tokio::spawn(client.lock("/l").lease(&lease).into_future());
    // The same name elsewhere is another one.
    let elsewhere = soon(client.namespaced("/n").lock("/l").lease(&lease)).await.unwrap();
    assert_eq!(keys(&rig, "/n/l/").await.len(), 1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!waiting.is_finished());
    let fence = guard.fence();
    guard.unlock().await.unwrap();
    let guard = soon(waiting).await.unwrap().unwrap();
    assert!(guard.fence() > fence);
    assert!(elsewhere.txn().then(put("/done", "1")).await.unwrap().succeeded);
    assert_eq!(keys(&rig, "/n/done").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_lease() {
    let rig = Rig::start().await;
    let [holder, client] = clients(&rig);
    let guard = soon(holder.lock("/l")).await.unwrap();
    let lease = client.lease(TTL).await.unwrap();
    let waiting = tokio::spawn(client.lock("/l").lease(&lease).into_future());
    queued(&rig, "/l/", 2).await;
    lease.revoke().await.unwrap();
    failed(soon(waiting).await.unwrap(), ErrorKind::LeaseLost);
    failed(soon(client.lock("/l").lease(&lease)).await, ErrorKind::LeaseLost);

    // Cut off for longer than the lease lives, it has lost its place.
    let waiting = tokio::spawn(rig.client().lock("/l").ttl(TTL).into_future());
    queued(&rig, "/l/", 2).await;
    rig.wire.set_down(true);
    rig.wire.cut();
    tokio::time::sleep(TTL * 2).await;
    assert!(!waiting.is_finished());
    rig.wire.set_down(false);
    failed(soon(waiting).await.unwrap(), ErrorKind::LeaseLost);
    assert!(guard.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_place_that_somebody_deletes_is_lost() {
    let rig = Rig::start().await;
    let [holder, client] = clients(&rig);
    let guard = soon(holder.lock("/l")).await.unwrap();
    let lease = client.lease(TTL).await.unwrap();
    let waiting = tokio::spawn(client.lock("/l").lease(&lease).into_future());
    queued(&rig, "/l/", 2).await;
    rig.delete(&format!("/l/{}", lease.id())).await;
    guard.unlock().await.unwrap();
    failed(soon(waiting).await.unwrap(), ErrorKind::LeaseLost);
    assert!(matches!(lease.state(), LeaseState::Alive { .. }));
}

#[tokio::test(start_paused = true)]
async fn waiting_survives_breaks_and_compaction() {
    let rig = Rig::start().await;
    let [holder, between, other] = clients(&rig);
    let guard = soon(holder.lock("/l")).await.unwrap();
    let between = tokio::spawn(between.lock("/l").into_future());
    queued(&rig, "/l/", 2).await;
    let waiting = tokio::spawn(rig.client().lock("/l").ttl(TTL).into_future());
    queued(&rig, "/l/", 3).await;
    rig.wire.set_down(true);
    rig.wire.cut();
    // Whom it waits for goes, and the history of that too.
    between.abort();
    queued(&rig, "/l/", 2).await;
    let written = other.put("/x", "1").await.unwrap();
    other.compact(written).await.unwrap();
    tokio::time::sleep(TTL / 2).await;
    rig.wire.set_down(false);
    tokio::time::sleep(TTL).await;
    assert!(!waiting.is_finished(), "the holder is still before it");
    guard.unlock().await.unwrap();
    soon(waiting).await.unwrap().unwrap().unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_without_the_lease_is_not_taken_over() {
    let rig = Rig::start().await;
    let client = rig.client();
    let lease = client.lease(TTL).await.unwrap();
    client.put(format!("/l/{}", lease.id()), "by hand").await.unwrap();
    failed(soon(client.lock("/l").lease(&lease)).await, ErrorKind::Other);
    assert_eq!(keys(&rig, "/l/").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_doubtful_holds_nothing() {
    let rig = Rig::start().await;
    let lease = rig.client().lease(TTL).await.unwrap();
    rig.wire.set_down(true);
    rig.wire.cut();
    let ending = lease.clone();
    let ending = tokio::spawn(async move { ending.revoke().await });
    until(|| lease.state() == LeaseState::Doubtful).await;
    // By a client that can reach the server, which still keeps the lease.
    let waiting = tokio::spawn(rig.other_wire().client().lock("/l").lease(&lease).into_future());
    queued(&rig, "/l/", 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    rig.wire.set_down(false);
    failed(soon(waiting).await.unwrap(), ErrorKind::LeaseLost);
    soon(ending).await.unwrap().unwrap();
}
