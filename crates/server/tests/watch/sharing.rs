//! What shares a connection with watch streams, or a stream with other watchers.

use std::cell::Cell;

use super::client::{Watching, from, key, with_prev_kv};
use super::raw::{Connection, framed};
use super::writes::Writer;
use crate::harness::{Rig, prefixed};

/// etcd 15402: large answers starved the watch streams of their connection. Between a write and its event
/// no more of them comes than is on its way already.
#[tokio::test(start_paused = true)]
async fn etcd_15402_large_lists_in_a_loop_do_not_hold_up_events() {
    const LISTS: usize = 4;
    const WINDOW: u32 = 1 << 20;
    const EVENTS: usize = 30;
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    writer.bulk("other", 10, 10).await;
    let value = bytes::Bytes::from(vec![b'v'; 50_000]);
    writer.fill((0..200).map(|n| (format!("large{n:03}"), value.clone()))).await;
    let mut connection = Connection::open(&rig, WINDOW).await;
    let mut watching = connection.watch().await;
    let id = watching.watch(key("a")).await;

    // Bytes of lists that came, and lists that ended.
    let (listed, ended) = (Cell::new(0), Cell::new(0));
    let mut calls = Vec::new();
    for _ in 0..LISTS * EVENTS {
        calls.push(connection.call("/etcdserverpb.KV/Range").await);
    }
    let calls = std::cell::RefCell::new(calls);
    let list = async || {
        loop {
            let Some((mut request, response)) = calls.borrow_mut().pop() else { return };
            request.send_data(framed(&prefixed("large")), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                listed.set(listed.get() + data.len());
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            ended.set(ended.get() + 1);
        }
    };
    let watch = async {
        let mut most = 0;
        for n in 1..=EVENTS {
            // Amid lists, not before the first.
            while listed.get() < n * (4 << 20) && ended.get() < LISTS * EVENTS {
                tokio::task::yield_now().await;
            }
            let before = listed.get();
            writer.put("a", "v").await;
            watching.until(|ledger| ledger.watchers[&id].events.len() == n).await;
            most = most.max(listed.get() - before);
        }
        most
    };
    let lists = async { tokio::join!(list(), list(), list(), list()) };
    let most = tokio::select! {
        most = watch => most,
        _ = lists => panic!("the lists ended before the events had come"),
    };
    assert!(ended.get() > 2 * LISTS, "{} lists", ended.get());
    // What each list may have on its way, once; a list takes 10 MB.
    let bound = LISTS * (WINDOW as usize + (64 << 10));
    assert!(most <= bound, "{most} bytes of lists came between a write and its event");
}

/// etcd 17529: events were lost, or minutes late. Each write's events are there before the next one's, and
/// no write waits for them.
#[tokio::test(start_paused = true)]
async fn etcd_17529_hundreds_of_watchers_with_prev_kv_on_one_stream_lose_nothing() {
    const WATCHERS: i64 = 500;
    const PUTS: usize = 1_000;
    const EACH: usize = 20;
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    // Each key is watched by twenty.
    let keys = WATCHERS as usize / EACH;
    for n in 0..WATCHERS as usize {
        watching.create(with_prev_kv(key(format!("k{}", n % keys))));
    }
    watching.until(|ledger| ledger.watchers.len() as i64 == WATCHERS).await;
    let mut writer = Writer::new(&rig);
    let mut behind = 0;
    for n in 0..PUTS {
        let revision = writer.put(format!("k{}", n % keys), vec![b'v'; 4_096]).await;
        // Half of the events are left unread for a while.
        if n % 50 == 49 {
            for id in (0..WATCHERS).filter(|id| *id as usize % keys == n % keys) {
                watching.until_revision(id, revision).await;
            }
            behind += 1;
        }
    }
    assert_eq!(watching.settle().await, rig.revision());
    assert_eq!(behind, PUTS / 50);
    let all = super::client::history(&rig, 1).await;
    for seen in watching.ledger.watchers.values() {
        assert_eq!(seen.events.len(), PUTS / keys);
        assert!(seen.events == seen.owed(&all));
    }
}

/// etcd 22264: catching up re-scanned history on each pass, under the writers' lock. Here a write's answer is
/// never behind more than one bounded read of history.
#[tokio::test(start_paused = true)]
async fn etcd_22264_writes_go_on_beside_many_that_catch_up() {
    const STREAMS: usize = 20;
    let rig = Rig::start(&[]).await;
    let mut writer = Writer::new(&rig);
    let newest = writer.bulk("a", 300, 50_000).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut watching = Watching::open(rig.channel()).await;
        watching.create(from(1, key("a")));
        streams.push(watching);
    }
    let through = Cell::new(0);
    let replays = streams.iter_mut().map(async |watching| {
        watching.until(|ledger| ledger.watchers.get(&0).is_some_and(|seen| seen.last() >= newest)).await;
        assert!(watching.seen(0).events.len() >= 300);
        through.set(through.get() + 1);
    });
    let replays = futures::future::join_all(replays);
    let writes = async {
        let (mut writes, mut amid) = (0, 0);
        while through.get() < STREAMS {
            writer.put("b", "v").await;
            writes += 1;
            amid += usize::from(through.get() == 0);
        }
        (writes, amid)
    };
    let (_, (writes, amid)) = tokio::join!(replays, writes);
    assert!(amid >= 5 && writes > amid, "{amid} of {writes} writes were answered before one had caught up");
}

/// Streams of one connection, and connections, are apart: each gets what it watches, in its own order.
#[tokio::test(start_paused = true)]
async fn a_hundred_streams_on_one_connection() {
    const STREAMS: usize = 100;
    let rig = Rig::start(&[]).await;
    let channel = rig.channel();
    let mut streams = Vec::new();
    for n in 0..STREAMS {
        let mut watching = Watching::open(channel.clone()).await;
        // Each stream counts its ids for itself.
        assert_eq!(watching.watch(key(format!("k{}", n % 10))).await, 0);
        streams.push(watching);
    }
    let mut writer = Writer::new(&rig);
    for n in 0..50 {
        writer.put(format!("k{}", n % 10), "v").await;
    }
    for (n, watching) in streams.iter_mut().enumerate() {
        watching.settle().await;
        let due: Vec<i64> = (0..5).map(|round| 2 + (n % 10) as i64 + 10 * round).collect();
        assert_eq!(watching.revisions(0), due);
    }
}
