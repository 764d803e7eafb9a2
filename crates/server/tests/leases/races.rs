//! Keep-alives against the end of their lease.

use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;

use parking_lot::Mutex;
use stentor_mvcc::{Commit, Observer};
use stentor_proto::etcdserverpb::LeaseRevokeRequest;
use tokio::time::timeout;

use super::{KeepAlive, attach};
use crate::harness::{PATIENCE, Rig, Setup, revision};

/// Stops the task that applies writes, and its thread, between a write's publication and its answer.
struct Gate {
    reached: blocking::Sender<i64>,
    open: Mutex<blocking::Receiver<()>>,
}

impl Observer for Gate {
    fn committed(&self, commit: &Commit) {
        let _ = self.reached.send(commit.revision.get());
        let _ = self.open.lock().recv_timeout(PATIENCE);
    }
}

/// etcd 20590: a keep-alive was answered with success though the lease had been revoked meanwhile. The
/// revoke is visible here, and the lessor has not heard of it yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keep_alive_that_shows_the_revoke_does_not_succeed() {
    let rig = Setup::new(&[]).on_threads().start().await;
    rig.grant(1, 3600).await;
    attach(&rig, "k", 1).await;
    let mut stream = KeepAlive::open(&rig).await;
    assert_eq!(stream.renew(1).await, 3600);

    let (reached, seen) = blocking::channel();
    let (open, opened) = blocking::channel();
    let gate = Arc::new(Gate { reached, open: Mutex::new(opened) });
    rig.member.node.store.observe(&gate);
    let mut lease = rig.lease();
    let revoke = tokio::spawn(async move { lease.lease_revoke(LeaseRevokeRequest { id: 1 }).await });
    let revoked = tokio::task::spawn_blocking(move || seen.recv_timeout(PATIENCE)).await.unwrap().unwrap();
    assert_eq!((revoked, rig.revision()), (3, 3));
    assert!(!revoke.is_finished());

    stream.send(1);
    let answer = timeout(PATIENCE, stream.answer()).await.unwrap();
    assert_eq!((answer.ttl, revision(answer.header)), (0, 3));
    open.send(()).unwrap();
    assert_eq!(revision(revoke.await.unwrap().unwrap().into_inner().header), 3);
    assert_eq!(stream.renew(1).await, 0);
}

/// The same without a stopped thread: keep-alives sent without pause while their lease is revoked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_positive_ttl_at_or_after_the_revokes_revision() {
    let rig = Setup::new(&[]).on_threads().start().await;
    // Rounds that were renewed in the race, before the revoke. Whether one is, is up to the system: there
    // are rounds until some were.
    let mut before = 0;
    for round in 0.. {
        if round >= 50 && before > 0 {
            break;
        }
        assert!(round < 2_000, "no keep-alive came before the revoke");
        rig.grant(1, 3600).await;
        attach(&rig, "k", 1).await;
        let mut stream = KeepAlive::open(&rig).await;
        let mut lease = rig.lease();
        let ahead = round % 50;
        for _ in 0..ahead {
            stream.send(1);
        }
        let revoke = tokio::spawn(async move { lease.lease_revoke(LeaseRevokeRequest { id: 1 }).await });
        for _ in 0..100 {
            stream.send(1);
            tokio::task::yield_now().await;
        }
        let revoked = revision(revoke.await.unwrap().unwrap().into_inner().header);
        let mut positive = 0;
        for _ in 0..100 + ahead {
            let answer = stream.answer().await;
            if answer.ttl > 0 {
                positive = 1;
                assert!(revision(answer.header) < revoked, "round {round}: renewed after its revoke");
            }
        }
        before += positive;
        assert_eq!(stream.renew(1).await, 0);
    }
}

/// A lease that has run out and can't be ended yet is neither renewed nor gone: the answer waits.
#[tokio::test(start_paused = true)]
async fn an_expired_lease_is_not_renewed_while_its_end_is_awaited() {
    let rig = Rig::start(&[]).await;
    rig.grant(1, 10).await;
    attach(&rig, "k", 1).await;
    let mut stream = KeepAlive::open(&rig).await;
    assert_eq!(stream.renew(1).await, 10);
    rig.log().fail_write(0, std::io::ErrorKind::Other);
    tokio::time::sleep(Duration::from_secs(11)).await;
    stream.send(1);
    assert!(timeout(Duration::from_secs(3600), stream.answer()).await.is_err(), "answered without an end");
    // The end that was not written did not happen: the lease is whole again after a restart.
    let rig = rig.crash().await;
    assert_eq!(super::time_to_live(&rig, 1, true).await.keys, ["k"]);
    assert_eq!(KeepAlive::open(&rig).await.renew(1).await, 10);
}
