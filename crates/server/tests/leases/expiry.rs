//! The end of leases by time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
use tokio::time::{Instant, sleep_until};

use super::{KeepAlive, MILLISECOND, attach, is_there, leases, time_to_live};
use crate::harness::{Rig, Setup, put, revision};

/// The keys deleted by a revision, in order; it must hold nothing else.
pub(super) fn deletes_at(rig: &Rig, at: i64) -> Vec<String> {
    let at = Revision::new(at).unwrap();
    let view = rig.member.node.store.view();
    let records = view.history(at, at).unwrap().map(Result::unwrap);
    let keys = records.map(|record| {
        assert!(record.is_delete());
        String::from_utf8(record.key().to_vec()).unwrap()
    });
    keys.collect()
}

#[tokio::test(start_paused = true)]
async fn expiry_is_on_time_and_one_revision_in_key_order() {
    let rig = Rig::start(&[]).await;
    rig.grant(1, 10).await;
    let granted = Instant::now();
    rig.grant(2, 30).await;
    for key in ["b", "c", "a", "aa"] {
        attach(&rig, key, 1).await;
    }
    attach(&rig, "other", 2).await;
    sleep_until(granted + Duration::from_secs(10) - MILLISECOND).await;
    assert_eq!((rig.revision(), leases(&rig).await.len()), (6, 2));
    sleep_until(granted + Duration::from_secs(10) + MILLISECOND).await;
    assert_eq!((rig.revision(), leases(&rig).await), (7, vec![2]));
    assert_eq!(deletes_at(&rig, 7), ["a", "aa", "b", "c"]);
    assert!(is_there(&rig, "other").await);
}

#[tokio::test(start_paused = true)]
async fn a_restart_gives_the_full_ttl_and_an_election_timeout_again() {
    for crash in [false, true] {
        let rig = Rig::start(&["--election-timeout=3000"]).await;
        rig.grant(1, 10).await;
        attach(&rig, "k", 1).await;
        sleep_until(Instant::now() + Duration::from_secs(9)).await;
        let rig = if crash { rig.crash().await } else { rig.restart().await };
        let restarted = Instant::now();
        let status = time_to_live(&rig, 1, true).await;
        assert_eq!((status.granted_ttl, &status.keys[..]), (10, &["k".into()][..]));
        assert!((12..=13).contains(&status.ttl), "{}", status.ttl);
        sleep_until(restarted + Duration::from_secs(13) - 2 * MILLISECOND).await;
        assert!(is_there(&rig, "k").await);
        sleep_until(restarted + Duration::from_secs(13) + 2 * MILLISECOND).await;
        assert!(!is_there(&rig, "k").await);
        // Its end is as durable.
        let rig = rig.crash().await;
        assert!(!is_there(&rig, "k").await && leases(&rig).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_lease_is_kept_alive_by_its_own_ttl() {
    let rig = Rig::start(&[]).await;
    rig.grant(1, 10).await;
    attach(&rig, "k", 1).await;
    let rig = rig.restart().await;
    assert_eq!(KeepAlive::open(&rig).await.renew(1).await, 10);
    let renewed = Instant::now();
    sleep_until(renewed + Duration::from_secs(10) - 2 * MILLISECOND).await;
    assert!(is_there(&rig, "k").await);
    sleep_until(renewed + Duration::from_secs(10) + 2 * MILLISECOND).await;
    assert!(!is_there(&rig, "k").await);
}

/// Ten thousand ends at one moment leave room for others' writes.
#[tokio::test(start_paused = true)]
async fn puts_go_on_while_many_leases_expire() {
    const LEASES: i64 = 10_000;
    /// Ends that may come before a put that was sent later: those proposed at once, and one more round.
    const BEFORE: i64 = 2 * 512;
    let rig = Rig::start(&[]).await;
    let granted = Instant::now();
    for chunk in 0..LEASES / 500 {
        let one = |id| {
            let (mut lease, mut kv) = (rig.lease(), rig.kv());
            async move {
                lease.lease_grant(LeaseGrantRequest { id, ttl: 60 }).await.unwrap();
                kv.put(PutRequest { lease: id, ..put(&format!("k{id}"), "") }).await.unwrap();
            }
        };
        join_all((chunk * 500 + 1..=(chunk + 1) * 500).map(one)).await;
    }
    let left = |rig: &Rig| rig.member.node.store.view().leases().len() as i64;
    assert_eq!(left(&rig), LEASES);
    assert!(granted.elapsed() < Duration::from_secs(1), "a paused clock moved by {:?}", granted.elapsed());
    let mut kv = rig.kv();
    sleep_until(granted + Duration::from_secs(60) - MILLISECOND).await;
    let (mut puts, mut amid, mut worst) = (0, 0, 0);
    while left(&rig) > 0 {
        let before = rig.revision();
        let at = revision(kv.put(put("other", "v")).await.unwrap().into_inner().header);
        worst = worst.max(at - before);
        puts += 1;
        if left(&rig) == LEASES {
            // None has ended yet: on to where they do.
            tokio::time::sleep(MILLISECOND).await;
        } else {
            amid += 1;
        }
        assert!(granted.elapsed() < Duration::from_secs(62), "not ended in time");
    }
    assert!(worst <= BEFORE, "a put waited for {worst} revisions");
    assert!(amid >= LEASES / BEFORE, "only {amid} puts were answered meanwhile");
    assert_eq!(rig.revision(), 1 + 2 * LEASES + puts);
    assert_eq!(rig.list("k").await.count, 0);
}

/// Somebody sets the clock of the machine, ahead and back.
#[tokio::test(start_paused = true)]
async fn the_wall_clock_has_no_say_in_it() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let ahead = Arc::new(AtomicU64::new(DAY_MS));
    let rig = Setup::new(&[]).ahead_by(ahead.clone()).start().await;
    let (begun, id) = (Instant::now(), rig.grant(7, 10).await);
    sleep_until(begun + Duration::from_secs(4)).await;
    ahead.store(3 * DAY_MS, Ordering::Relaxed);
    sleep_until(begun + Duration::from_secs(8)).await;
    assert_eq!(leases(&rig).await, [id]);
    ahead.store(0, Ordering::Relaxed);
    assert_eq!(time_to_live(&rig, id, false).await.ttl, 2);
    let granted = rig.put("k", "v").await;
    sleep_until(begun + Duration::from_secs(13)).await;
    assert!(leases(&rig).await.is_empty());
    assert!(rig.put("k", "v").await > granted);
}
