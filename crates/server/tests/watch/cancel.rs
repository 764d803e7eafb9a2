//! Cancels, and other ends.

use super::client::{STREAMS, WATCHERS, Watching, from, key, metric};
use super::raw::Connection;
use super::writes::Writer;
use crate::harness::{Rig, until};

const SMALL_WINDOW: u32 = 4 << 10;

#[tokio::test(start_paused = true)]
async fn a_cancel_is_answered_with_the_id_and_the_revision() {
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    let id = watching.watch(key("a")).await;
    let revision = rig.put("b", "v").await;
    watching.cancel(id);
    let answer = watching.response().await;
    assert_eq!((answer.watch_id, answer.canceled, answer.created), (id, true, false));
    assert_eq!((answer.compact_revision, answer.cancel_reason.as_str()), (0, ""));
    assert_eq!(answer.header.unwrap().revision, revision);
}

#[tokio::test(start_paused = true)]
async fn a_second_cancel_and_one_of_an_unknown_id_are_ignored() {
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    let id = watching.watch(key("a")).await;
    watching.cancel(id);
    watching.cancel(id);
    watching.cancel(77);
    watching.cancel(-1);
    watching.create(key("a"));
    assert!(watching.response().await.canceled);
    let next = watching.response().await;
    assert!(next.created && !next.canceled, "{next:?}");
    let revision = rig.put("a", "v").await;
    watching.until_revision(next.watch_id, revision).await;
}

/// The ledger bears no event after the cancel.
#[tokio::test(start_paused = true)]
async fn while_events_are_in_flight() {
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    let (gone, stays) = (watching.watch(key("a")).await, watching.watch(key("a")).await);
    let mut writer = Writer::new(&rig);
    for n in 0..200 {
        writer.put("a", vec![b'v'; 5_000]).await;
        if n == 100 {
            watching.cancel(gone);
        }
    }
    watching.settle().await;
    assert!(watching.seen(gone).cancel.is_some() && watching.seen(gone).events.len() < 200);
    assert_eq!(watching.seen(stays).events.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn while_unsynced() {
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    let newest = writer.bulk("a", 240, 100_000).await;
    let mut connection = Connection::open(&rig, SMALL_WINDOW).await;
    let mut watching = connection.watch().await;
    let (gone, stays) = (0, 1);
    (0..2).for_each(|_| watching.create(from(1, key("a"))));
    watching.until(|ledger| ledger.watchers.get(&gone).is_some_and(|seen| !seen.events.is_empty())).await;
    watching.cancel(gone);
    watching.until(|ledger| ledger.watchers.get(&stays).is_some_and(|seen| seen.last() == newest)).await;
    let seen = &watching.ledger.watchers[&gone];
    assert!(seen.cancel.is_some() && seen.events.len() < 240, "{} events before the cancel", seen.events.len());
}

/// Of a thousand that an event is due to, a stream that is full has sent it to a few.
#[tokio::test(start_paused = true)]
async fn while_a_victim() {
    const WATCHERS: i64 = 1_000;
    let rig = Rig::start(&[]).await;
    let mut connection = Connection::open(&rig, SMALL_WINDOW).await;
    let mut watching = connection.watch().await;
    (0..WATCHERS).for_each(|_| watching.create(key("a")));
    watching.until(|ledger| ledger.watchers.len() as i64 == WATCHERS).await;
    let revision = rig.put("a", vec![b'v'; 2_000]).await;
    (WATCHERS / 2..WATCHERS).for_each(|id| watching.cancel(id));
    let cancelled = |ledger: &super::ledger::Ledger| {
        ledger.watchers.values().filter(|seen| seen.cancel.is_some()).count() as i64 == WATCHERS / 2
    };
    watching.until(cancelled).await;
    watching.until(|ledger| (0..WATCHERS / 2).all(|id| ledger.watchers[&id].last() == revision)).await;
    let without = watching.ledger.watchers.values().filter(|seen| seen.events.is_empty()).count();
    assert!(without > 0, "each had its event before its cancel");
}

/// On a connection that stays.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_reset_while_unsynced_leaves_nothing() {
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    let newest = writer.bulk("a", 240, 100_000).await;
    let mut connection = Connection::open(&rig, SMALL_WINDOW).await;
    for _ in 0..20 {
        let mut watching = connection.watch().await;
        (0..10).for_each(|_| watching.create(from(1, key("a"))));
        watching.until(|ledger| ledger.watchers.get(&0).is_some_and(|seen| !seen.events.is_empty())).await;
        assert!(watching.ledger.watchers[&0].last() < newest);
        watching.reset();
    }
    until(|| metric(&rig, WATCHERS) == 0 && metric(&rig, STREAMS) == 0).await;
    let mut watching = connection.watch().await;
    let id = watching.watch(key("a")).await;
    let revision = rig.put("a", "v").await;
    watching.until(|ledger| ledger.watchers[&id].last() == revision).await;
}

/// etcd 18879: one dead client with many watches kept new watchers from starting.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_dropped_takes_its_ten_thousand_watchers_along() {
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    let newest = writer.bulk("a", 1_000, 100).await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        // On connections of their own: what is not taken of one would hold up the others.
        let mut watching = Watching::open(rig.channel()).await;
        for n in 0..1_000 {
            watching.create(from(n % 2, key("a")));
        }
        streams.push(watching);
    }
    for watching in &mut streams {
        watching.until(|ledger| ledger.watchers.len() == 1_000).await;
    }
    drop(streams);
    let mut other = Watching::open(rig.channel()).await;
    let id = other.watch(from(1, key("a"))).await;
    other.until_revision(id, newest).await;
    until(|| metric(&rig, WATCHERS) == 1 && metric(&rig, STREAMS) == 1).await;
}
