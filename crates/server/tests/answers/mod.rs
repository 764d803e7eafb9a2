//! Large answers to slow clients: what they hold is bounded, and nobody else waits for them.

mod client;

use std::cell::Cell;
use std::time::Duration;

use futures::future::join_all;
use h2::Reason;
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{CompactionRequest, RangeRequest, RequestOp, TxnRequest};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{PATIENCE, Rig, get, prefixed, put, until};
use client::{RANGE, RANGE_STREAM, SlowCall, TXN, Taken};

/// The budget of these tests.
const BUDGET: u64 = 4 << 20;

/// With this a read waits for its turn for 65 s, longer than a client that takes nothing is borne with.
const PATIENT: &str = "--election-timeout=30000";

/// After this a client that takes nothing has been cut off.
const STALLED: Duration = Duration::from_secs(61);

async fn rig(flags: &[&str]) -> Rig {
    Rig::start(&[&["--stentor-max-answer-bytes", &BUDGET.to_string()], flags].concat()).await
}

/// A member with so many pairs of a bit over 1 KiB under "k".
async fn filled(pairs: usize) -> Rig {
    filled_with(pairs, &[]).await
}

async fn filled_with(pairs: usize, flags: &[&str]) -> Rig {
    let rig = rig(flags).await;
    fill(&rig, "k", pairs, 1024).await;
    rig
}

async fn fill(rig: &Rig, prefix: &str, pairs: usize, bytes: usize) {
    let kv = rig.kv();
    let write = |n| {
        let mut kv = kv.clone();
        async move { kv.put(put(&format!("{prefix}{n:05}"), vec![b'v'; bytes])).await.unwrap() }
    };
    for chunk in 0..pairs.div_ceil(100) {
        join_all((chunk * 100..pairs.min((chunk + 1) * 100)).map(write)).await;
    }
}

fn in_flight(rig: &Rig) -> u64 {
    rig.member.node.answer_bytes_in_flight()
}

fn ok() -> Taken {
    Taken::End("0".to_owned())
}

/// Lists in small bites, with pauses.
async fn list_slowly(rig: &Rig, path: &str) -> usize {
    let mut call = SlowCall::begin(rig, path, &prefixed("k")).await;
    loop {
        match call.take().await {
            Taken::Data => sleep(Duration::from_millis(10)).await,
            end => {
                assert_eq!(end, ok());
                return call.taken;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_slow_lists_hold_no_more_than_the_budget_and_puts_go_on() {
    const CLIENTS: usize = 30;
    for path in [RANGE, RANGE_STREAM] {
        let rig = filled_with(1000, &[PATIENT]).await;
        let listing = Cell::new(true);
        let lists = async {
            let taken = join_all((0..CLIENTS).map(|_| list_slowly(&rig, path))).await;
            listing.set(false);
            taken
        };
        let writes = async {
            let mut kv = rig.kv();
            let (mut puts, mut most) = (0, 0);
            while listing.get() {
                let sent = Instant::now();
                kv.put(put("other", "v")).await.unwrap();
                // The clock stands still while there is anything to do: the put waited for nobody.
                assert_eq!(sent.elapsed(), Duration::ZERO);
                most = in_flight(&rig).max(most);
                puts += 1;
                sleep(Duration::from_millis(1)).await;
            }
            (puts, most)
        };
        let (taken, (puts, most)) = tokio::join!(lists, writes);
        assert!(taken.iter().all(|bytes| *bytes > 1000 * 1024), "{path}: {taken:?}");
        assert!(most <= BUDGET && most > BUDGET / 2, "{path}: {most} bytes in flight");
        assert!(puts > 100, "{path}: {puts} puts");
        assert_eq!(in_flight(&rig), 0);
    }
}

/// A call whose answer takes a large part of the budget, and of which nothing is taken.
async fn stalled(rig: &Rig, path: &str, request: &impl prost::Message) -> SlowCall {
    let mut call = SlowCall::begin(rig, path, request).await;
    timeout(Duration::from_secs(1), call.headers()).await.expect("an answer that begins");
    call
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_frees_its_share() {
    let rig = filled(3000).await;
    let first = stalled(&rig, RANGE, &prefixed("k")).await;
    // What it was admitted with beyond its true size is given back.
    assert!((3000 * 1024..3000 * 1100).contains(&in_flight(&rig)), "{}", in_flight(&rig));
    let mut second = SlowCall::begin(&rig, RANGE, &prefixed("k")).await;
    assert!(timeout(Duration::from_secs(5), second.headers()).await.is_err(), "there was room for both");
    drop(first);
    let left = Instant::now();
    second = SlowCall::begin(&rig, RANGE, &prefixed("k")).await;
    assert_eq!(second.finish().await, ok());
    assert!(left.elapsed() < Duration::from_secs(1));
    until(|| in_flight(&rig) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_for_too_long_is_told_so() {
    let rig = filled(3000).await;
    let txn = TxnRequest {
        success: vec![RequestOp { request: Some(Request::RequestRange(prefixed("k"))) }],
        ..TxnRequest::default()
    };
    let holding = stalled(&rig, RANGE, &prefixed("k")).await;
    let mut kv = rig.kv();
    for round in 0..2 {
        let asked = Instant::now();
        let refused = match round {
            0 => kv.range(prefixed("k")).await.unwrap_err(),
            _ => kv.txn(txn.clone()).await.unwrap_err(),
        };
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
        assert_eq!(refused.message(), EtcdError::Timeout.to_string());
        assert!((7..8).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
    }
    drop(holding);
    until(|| in_flight(&rig) == 0).await;
    assert_eq!(kv.range(prefixed("k")).await.unwrap().into_inner().count, 3000);
}

/// However long an answer is not taken, others come to theirs.
#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_is_cut_off() {
    let rig = filled_with(3000, &[PATIENT]).await;
    let txn = TxnRequest {
        success: vec![RequestOp { request: Some(Request::RequestRange(prefixed("k"))) }],
        ..TxnRequest::default()
    };
    for round in 0..3 {
        let mut first = match round {
            0 => stalled(&rig, RANGE, &prefixed("k")).await,
            1 => stalled(&rig, TXN, &txn).await,
            // By itself a stream holds no more than a chunk.
            _ => stalled(&rig, RANGE_STREAM, &prefixed("k")).await,
        };
        let stalled_at = Instant::now();
        let mut second = SlowCall::begin(&rig, RANGE, &prefixed("k")).await;
        assert_eq!(second.finish().await, ok());
        assert!(stalled_at.elapsed() < STALLED, "{:?}", stalled_at.elapsed());
        sleep(STALLED).await;
        assert_eq!(in_flight(&rig), 0, "round {round}");
        // What was on its way still comes, then the reset that gRPC's clients read as "resource exhausted".
        assert_eq!(first.finish().await, Taken::Reset(Reason::ENHANCE_YOUR_CALM), "round {round}");
        assert!(first.taken < 1 << 20, "{}", first.taken);
    }
}

/// A slow client that takes a little now and then is let finish.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_is_not_cut_off() {
    let rig = filled(1000).await;
    for path in [RANGE, RANGE_STREAM] {
        let mut call = SlowCall::begin(&rig, path, &prefixed("k")).await;
        let mut paused_at = 0;
        let end = loop {
            match call.take().await {
                Taken::Data if call.taken >= paused_at + 32_000 => {
                    paused_at = call.taken;
                    sleep(Duration::from_secs(9)).await;
                }
                Taken::Data => {}
                end => break end,
            }
        };
        assert_eq!(end, ok(), "{path}");
    }
}

/// What an answer takes is not guessed from the store's average alone.
#[tokio::test(start_paused = true)]
async fn pairs_larger_than_the_average_count_as_they_are() {
    let rig = rig(&[]).await;
    fill(&rig, "small", 5000, 10).await;
    fill(&rig, "large", 40, 200_000).await;
    for (request, bytes) in [
        (get("large00000"), 200_000),
        (RangeRequest { limit: 1, ..prefixed("large") }, 200_000),
        (RangeRequest { limit: 10, ..prefixed("large") }, 2_000_000),
        (RangeRequest { limit: 10, sort_order: 2, sort_target: 2, ..prefixed("large") }, 2_000_000),
    ] {
        let call = stalled(&rig, RANGE, &request).await;
        assert!(in_flight(&rig) >= bytes, "{request:?}: {} in flight", in_flight(&rig));
        drop(call);
        until(|| in_flight(&rig) == 0).await;
    }
    let read = |number| RequestOp { request: Some(Request::RequestRange(get(&format!("large{number:05}")))) };
    let txn = TxnRequest { success: (0..10).map(read).collect(), ..TxnRequest::default() };
    let mut call = stalled(&rig, TXN, &txn).await;
    assert!(in_flight(&rig) >= 2_000_000, "a transaction: {} in flight", in_flight(&rig));
    assert_eq!(call.finish().await, ok());
    until(|| in_flight(&rig) == 0).await;
    // More than the whole budget goes alone, and whole.
    let mut whole = stalled(&rig, RANGE, &prefixed("large")).await;
    assert_eq!(in_flight(&rig), BUDGET);
    assert_eq!(whole.finish().await, ok());
    assert!(whole.taken > 8_000_000);
    // Streamed it takes a chunk at a time.
    let mut streamed = stalled(&rig, RANGE_STREAM, &prefixed("large")).await;
    assert!(in_flight(&rig) < BUDGET / 2, "{}", in_flight(&rig));
    assert_eq!(streamed.finish().await, ok());
}

/// With the budget used up, everything but large reads goes on.
#[tokio::test(start_paused = true)]
async fn nothing_but_large_reads_waits_for_the_budget() {
    let rig = filled(5000).await;
    rig.grant(1, 10).await;
    rig.kv().put(stentor_proto::etcdserverpb::PutRequest { lease: 1, ..put("leased", "v") }).await.unwrap();
    let _holding = stalled(&rig, RANGE, &prefixed("k")).await;
    assert_eq!(in_flight(&rig), BUDGET);
    let begun = Instant::now();
    let now = rig.put("k00000", "small").await;
    assert_eq!(rig.kv().range(get("k00000")).await.unwrap().into_inner().count, 1);
    let count = RangeRequest { count_only: true, ..prefixed("k") };
    assert_eq!(rig.kv().range(count).await.unwrap().into_inner().count, 5000);
    let ready = rig.http("/readyz").await;
    assert!(ready.ends_with("\r\n\r\nok\n"), "{ready}");
    let physical = CompactionRequest { revision: now, physical: true };
    timeout(PATIENCE, rig.kv().compact(physical)).await.expect("compaction waits for an answer on its way").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    sleep(Duration::from_secs(11)).await;
    assert_eq!(rig.kv().range(get("leased")).await.unwrap().into_inner().count, 0);
}
