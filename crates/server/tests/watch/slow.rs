//! Clients that read slowly, late or never: what they get, and what they cost others.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::client::{
    RECEIVED_BYTES, SENT_BYTES, SLOW_WATCHERS, STREAMS, WATCHERS, Watching, from, history, key, metric, with_prev_kv,
};
use super::raw::Connection;
use super::writes::Writer;
use crate::harness::{Rig, until};

/// What a stream may have on its way beyond its window: hyper's buffer of it.
const SEND_BUFFER: u64 = 64 << 10;
/// What the server may hold of it beside that.
const HELD: u64 = 64 << 10;
/// The largest response that catches up with revisions that are smaller by themselves.
const CATCH_UP: u64 = 1 << 20;
/// A window that is full at once.
const SMALL_WINDOW: u32 = 16 << 10;

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_for_a_minute_gets_everything_and_costs_nobody() {
    let rig = Rig::start(&[]).await;
    let (mut stalled, mut reading) = (Watching::open(rig.channel()).await, Watching::open(rig.channel()).await);
    let (late, live) = (stalled.watch(with_prev_kv(key("a"))).await, reading.watch(key("a")).await);
    let mut writer = Writer::new(&rig);
    // More than all that memory keeps of it.
    for n in 0..240 {
        let before = Instant::now();
        let revision = writer.put("a", vec![b'v'; 50_000]).await;
        reading.until_revision(live, revision).await;
        // The clock stands still while there is anything to do: neither waited for the other.
        assert_eq!(before.elapsed(), Duration::ZERO);
        if n % 40 == 20 {
            sleep(Duration::from_secs(10)).await;
        }
    }
    assert_eq!(stalled.settle().await, rig.revision());
    let seen = stalled.seen(late);
    assert_eq!(seen.events, seen.owed(&history(&rig, 1).await));
}

/// etcd 17555: such a watcher was moved past the gap without a word.
#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_while_compaction_passes_it_is_told() {
    for behind in [false, true] {
        let rig = Rig::start(&[]).await;
        let mut writer = Writer::new(&rig);
        writer.put("a", "first").await;
        let mut connection = Connection::open(&rig, SMALL_WINDOW).await;
        let mut stalled = connection.watch().await;
        let start = if behind { 2 } else { 0 };
        let id = stalled.watch(from(start, with_prev_kv(key("a")))).await;
        // Revisions one after the other, so that the first ones are on their way and the others not.
        for _ in 0..2_000 {
            writer.put("a", vec![b'v'; 10_000]).await;
        }
        let newest = rig.revision();
        let all = history(&rig, 1).await;
        writer.compact(newest).await;
        stalled.until(|ledger| ledger.watchers[&id].cancel.is_some()).await;
        let seen = &stalled.ledger.watchers[&id];
        assert_eq!(seen.cancel.as_ref().unwrap().compact_revision, newest);
        // Up to the cancel nothing is missing.
        let owed = seen.owed(&all);
        assert!(!seen.events.is_empty() && seen.events.len() < owed.len() && owed.starts_with(&seen.events));
    }
}

/// In the midst of a large response there is no way to say so: the stream ends, and whoever resumes is told.
#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_within_a_large_response_while_compaction_passes_it_is_told_when_it_resumes() {
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    writer.put("a", "first").await;
    let mut connection = Connection::open(&rig, SMALL_WINDOW).await;
    let mut stalled = connection.watch().await;
    let id = stalled.watch(from(2, key("a"))).await;
    for _ in 0..40 {
        writer.put("a", vec![b'v'; 1_000_000]).await;
    }
    stalled.until(|ledger| ledger.watchers[&id].events.len() == 2).await;
    let newest = rig.revision();
    let all = history(&rig, 1).await;
    writer.compact(newest).await;
    let end = loop {
        if let Err(status) = stalled.response_or_end().await {
            break status;
        }
    };
    assert_eq!(end.code(), tonic::Code::Unavailable, "{end:?}");
    let seen = &stalled.ledger.watchers[&id];
    let owed = seen.owed(&all);
    assert!(seen.events.len() < owed.len() && owed.starts_with(&seen.events));
    let next = seen.last() + 1;
    let mut resumed = connection.watch().await;
    let id = resumed.watch(from(next, key("a"))).await;
    resumed.until(|ledger| ledger.watchers[&id].cancel.is_some()).await;
    assert_eq!(resumed.ledger.watchers[&id].cancel.as_ref().unwrap().compact_revision, newest);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_one_byte_at_a_time() {
    let rig = Rig::start(&[]).await;
    let mut connection = Connection::open(&rig, 1).await;
    let mut slow = connection.watch().await;
    let id = slow.watch(key("a")).await;
    let mut other = connection.watch().await;
    let same = other.watch(key("a")).await;
    let mut writer = Writer::new(&rig);
    for n in 0..20 {
        writer.put("a", format!("{n}")).await;
    }
    while slow.ledger.watchers[&id].events.len() < 20 {
        let before = slow.taken;
        slow.response().await;
        assert!(slow.taken > before);
    }
    assert!(slow.taken > 20 * 20);
    other.until(|ledger| ledger.watchers[&same].events.len() == 20).await;
}

/// What a client does not take is not made: the bytes that the server has produced for it are few.
#[tokio::test(start_paused = true)]
async fn stalled_streams_hold_a_bounded_amount() {
    const STALLED: u64 = 20;
    const VALUE: usize = 20_000;
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    let value = bytes::Bytes::from(vec![b'v'; VALUE]);
    writer.fill((0..500).map(|n| (format!("k{}", n % 5), value.clone()))).await;
    let before = metric(&rig, SENT_BYTES);
    let mut connections = Vec::new();
    let mut streams = Vec::new();
    for n in 0..STALLED {
        if n % 5 == 0 {
            connections.push(Connection::open(&rig, SMALL_WINDOW).await);
        }
        let mut stream = connections.last_mut().unwrap().watch().await;
        // Live ones and such that catch up, each with several watchers.
        (0..5).for_each(|k| stream.create(from(i64::try_from(n % 2).unwrap(), key(format!("k{k}")))));
        streams.push(stream);
    }
    until(|| metric(&rig, WATCHERS) > 0).await;
    // Each is asked for more as long as it has room.
    for n in 0..1_500 {
        writer.put(format!("k{}", n % 5), vec![b'v'; VALUE]).await;
    }
    let produced = metric(&rig, SENT_BYTES) - before;
    let answers = 1_500 * 100;
    let live = u64::from(SMALL_WINDOW) + SEND_BUFFER + HELD + VALUE as u64;
    let bound = answers + STALLED * live + STALLED / 2 * CATCH_UP;
    assert!(produced <= bound, "{produced} bytes were made for {STALLED} stalled streams, {bound} may be");
    let due = 1_500 * VALUE as u64 * STALLED;
    assert!(due > 20 * bound, "{due} were due");
    for (n, stream) in streams.iter_mut().enumerate() {
        let all = if n % 2 == 1 { 2_000 } else { 1_500 };
        stream.until(|ledger| ledger.watchers.values().map(|seen| seen.events.len()).sum::<usize>() == all).await;
    }
}

/// The same where the streams' windows are open, and nothing is taken from the socket.
#[tokio::test(start_paused = true)]
async fn a_stalled_connection_holds_a_bounded_amount_per_stream() {
    const STREAMS: u64 = 10;
    // All of them together fit the connection's window, so that the client can take them in any order.
    const PUTS: usize = 300;
    const VALUE: usize = 20_000;
    const PIPE: u64 = 64 << 10;
    let rig = Rig::start(&[]).await;
    let connection = &mut Connection::open(&rig, 32 << 20).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = connection.watch().await;
        stream.watch(key("a")).await;
        streams.push(stream);
    }
    let before = metric(&rig, SENT_BYTES);
    connection.freeze(true);
    let mut writer = Writer::new(&rig);
    for _ in 0..PUTS {
        writer.put("a", vec![b'v'; VALUE]).await;
    }
    let produced = metric(&rig, SENT_BYTES) - before;
    let bound = PUTS as u64 * 100 + PIPE + STREAMS * (SEND_BUFFER + HELD + VALUE as u64);
    assert!(produced <= bound, "{produced} bytes were made for {STREAMS} stalled streams, {bound} may be");
    connection.freeze(false);
    for stream in &mut streams {
        stream.until(|ledger| ledger.watchers[&0].events.len() == PUTS).await;
    }
}

/// Answers that are not taken keep the server from reading further requests.
#[tokio::test(start_paused = true)]
async fn a_client_that_asks_and_does_not_read_is_not_answered_into_memory() {
    const CREATES: usize = 20_000;
    let rig = Rig::start(&[]).await;
    let mut connection = Connection::open(&rig, SMALL_WINDOW).await;
    let mut asking = connection.watch().await;
    let before = metric(&rig, RECEIVED_BYTES);
    (0..CREATES).for_each(|n| asking.create(key(format!("k{n:05}"))));
    // Whatever the server wants to read it has, before the clock moves on.
    sleep(Duration::from_secs(1)).await;
    let read = metric(&rig, RECEIVED_BYTES) - before;
    assert!(read < CREATES as u64 * 15 / 4, "{read} bytes of requests were read");
    assert!(metric(&rig, WATCHERS) < CREATES as u64 / 4, "{} were created", metric(&rig, WATCHERS));
    asking.until(|ledger| ledger.watchers.len() == CREATES).await;
    until(|| metric(&rig, WATCHERS) == CREATES as u64).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_reads_and_disconnects_leaves_nothing() {
    let rig = Rig::start(&[]).await;
    let mut connection = Connection::open(&rig, SMALL_WINDOW).await;
    let mut writer = Writer::new(&rig);
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut stream = connection.watch().await;
        for _ in 0..50 {
            stream.watch(key("a")).await;
        }
        streams.push(stream);
    }
    until(|| metric(&rig, WATCHERS) == 500).await;
    for _ in 0..100 {
        writer.put("a", vec![b'v'; 10_000]).await;
    }
    drop((streams, connection));
    until(|| metric(&rig, WATCHERS) == 0 && metric(&rig, STREAMS) == 0).await;
    // Nor is anything made for them any more.
    let before = metric(&rig, SENT_BYTES);
    for _ in 0..100 {
        writer.put("a", vec![b'v'; 10_000]).await;
    }
    assert!(metric(&rig, SENT_BYTES) - before < 100 * 100);
}

/// Who has not got what is due counts as slow: a watcher that catches up, and one whose stream is full.
#[tokio::test(start_paused = true)]
async fn those_behind_are_counted_as_long_as_they_are() {
    const EACH: usize = 20;
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    let newest = writer.bulk("history", 50, 100_000).await;
    let mut connection = Connection::open(&rig, SMALL_WINDOW).await;
    let (mut behind, mut victims, mut synced) =
        (connection.watch().await, connection.watch().await, connection.watch().await);
    (0..EACH).for_each(|_| behind.create(from(1, key("history"))));
    for _ in 0..EACH {
        victims.watch(key("a")).await;
        synced.watch(key("b")).await;
    }
    let slow = || metric(&rig, SLOW_WATCHERS);
    until(|| metric(&rig, WATCHERS) == 3 * EACH as u64).await;
    until(|| slow() == EACH as u64).await;
    let due = writer.put("a", vec![b'v'; 100_000]).await;
    // One of them may have been served already, as far as the server can tell.
    until(|| slow() >= 2 * EACH as u64 - 2).await;
    behind.until(|ledger| ledger.watchers.values().filter(|seen| seen.last() == newest).count() == EACH).await;
    until(|| (EACH as u64 - 2..=EACH as u64).contains(&slow())).await;
    victims.until(|ledger| ledger.watchers.values().all(|seen| seen.last() == due)).await;
    until(|| slow() == 0).await;
    assert!(synced.ledger.watchers.values().all(|seen| seen.events.is_empty()));
}

/// Where the slow one is, beside a thousand fast ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    SameStream,
    SameConnection,
    Another,
}

async fn one_slow_among_a_thousand(place: Place) {
    const FAST: usize = 10;
    /// What a client's windows let come ahead of what it takes, with what is on its way.
    const AHEAD: usize = 4 << 20;
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    let newest = writer.bulk("bulk", 200, 100_000).await;
    let channel = rig.channel();
    let mut fast = Vec::new();
    for _ in 0..FAST {
        let mut watching = Watching::open(channel.clone()).await;
        (0..1_000 / FAST).for_each(|_| watching.create(key("fast")));
        watching.until(|ledger| ledger.watchers.len() == 1_000 / FAST).await;
        fast.push(watching);
    }
    // Its bulk is due at once; apart from the fast ones' streams nobody reads it.
    let mut slow = match place {
        Place::SameStream => None,
        Place::SameConnection => Some(Watching::open(channel).await),
        Place::Another => Some(Watching::open(rig.channel()).await),
    };
    slow.as_mut().unwrap_or(&mut fast[0]).create(from(1, with_prev_kv(key("bulk"))));
    let mut most_ahead = 0;
    for n in 1..=30 {
        writer.put("fast", "v").await;
        for watching in &mut fast {
            let mut ahead = 0;
            while watching.ledger.watchers.values().filter(|s| !s.request.prev_kv).any(|s| s.events.len() < n) {
                let response = watching.response().await;
                let is_bulk = watching.ledger.watchers.get(&response.watch_id).is_some_and(|s| s.request.prev_kv);
                ahead += if is_bulk { prost::Message::encoded_len(&response) } else { 0 };
            }
            most_ahead = most_ahead.max(ahead);
        }
    }
    assert!(most_ahead <= AHEAD, "{place:?}: {most_ahead} bytes of the slow one's came before a fast one's event");
    let watching = slow.as_mut().unwrap_or(&mut fast[0]);
    let is_through = |seen: &super::ledger::Seen| seen.request.prev_kv && seen.last() == newest;
    watching.until(|ledger| ledger.watchers.values().any(is_through)).await;
    let seen = watching.ledger.watchers.values().find(|seen| seen.request.prev_kv).unwrap();
    assert_eq!(seen.events.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn one_slow_among_a_thousand_fast_on_the_same_stream() {
    one_slow_among_a_thousand(Place::SameStream).await;
}

#[tokio::test(start_paused = true)]
async fn one_slow_among_a_thousand_fast_on_the_same_connection() {
    one_slow_among_a_thousand(Place::SameConnection).await;
}

#[tokio::test(start_paused = true)]
async fn one_slow_among_a_thousand_fast_on_other_connections() {
    one_slow_among_a_thousand(Place::Another).await;
}
