//! Lists followed by watches, and copies, against a server in this process.

#[allow(dead_code)]
#[path = "../../examples/config_reload.rs"]
mod config_reload;
#[allow(dead_code)]
#[path = "../../examples/service_discovery.rs"]
mod service_discovery;

use std::collections::BTreeMap;
use std::future::IntoFuture as _;
use std::num::ParseIntError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stentor_client::{
    Change, Changes, ErrorKind, EventKind, KeyRange, KeyValue, Reflector, Revision, Snapshot, Subscription,
    SubscriptionItem,
};

use crate::harness::{Rig, Wire, soon, that_refuses, until};

fn text(pair: &KeyValue) -> (String, String) {
    (pair.key_str().unwrap().to_owned(), pair.value_str().unwrap().to_owned())
}

fn contents(snapshot: &Snapshot) -> BTreeMap<String, String> {
    snapshot.iter().map(|pair| text(pair)).collect()
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// `+key`, `~key` and `-key`, in order.
fn shape(changes: &Changes) -> Vec<String> {
    let shape = changes.iter().map(|change| {
        let sign = match change {
            Change::Added(_) => '+',
            Change::Updated { .. } => '~',
            Change::Removed(_) => '-',
            _ => '?',
        };
        format!("{sign}{}", std::str::from_utf8(change.key()).unwrap())
    });
    shape.collect()
}

async fn next_changes(subscription: &mut Subscription) -> Changes {
    match soon(subscription.next()).await {
        Some(Ok(SubscriptionItem::Changes(changes))) => changes,
        other => panic!("not changes: {other:?}"),
    }
}

/// What a subscriber makes of a change. It has exactly what the change says was before.
fn apply(has: &mut BTreeMap<String, String>, changes: &Changes) {
    for change in changes {
        let key = std::str::from_utf8(change.key()).unwrap().to_owned();
        let before = has.remove(&key);
        assert_eq!(before, change.before().map(|pair| text(pair).1), "{change:?}");
        if let Some(after) = change.after() {
            has.insert(key, text(after).1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_after_a_list_has_all_that_comes_and_nothing_that_was() {
    let member = Rig::of_cluster(1).await;
    let client = member.other_wire().client();
    for n in 0..25 {
        member.put(&format!("/a/{n:02}"), "1").await;
    }
    let newest = member.put("/b", "not in it").await;
    let (list, mut watch) =
        soon(client.list_then_watch(KeyRange::prefix("/a/")).page_entries(10).into_future()).await.unwrap();
    assert_eq!((list.pairs().len(), list.revision()), (25, newest));
    assert_eq!(watch.position(), Some(newest));
    member.put("/a/00", "2").await;
    member.delete("/a/01").await;
    let mut seen = Vec::new();
    let mut events = watch_events(&mut watch, 2).await;
    for event in events.drain(..) {
        seen.push((event.kind(), event.kv().key_str().unwrap().to_owned(), event.revision().get() - newest.get()));
    }
    assert_eq!(seen, [(EventKind::Put, "/a/00".to_owned(), 1), (EventKind::Delete, "/a/01".to_owned(), 2)]);
}

async fn watch_events(watch: &mut stentor_client::Watch, count: usize) -> Vec<stentor_client::Event> {
    let mut events = Vec::new();
    while events.len() < count {
        if let stentor_client::WatchItem::Events(batch) = soon(watch.next()).await.unwrap().unwrap() {
            events.extend(batch);
        }
    }
    events
}

#[tokio::test(start_paused = true)]
async fn a_copy_answers_as_the_store_does() {
    let member = Rig::of_cluster(1).await;
    let client = member.other_wire().client();
    for key in ["/a", "/a/1", "/a/2", "/a-b"] {
        member.put(key, "1").await;
    }
    let copy = client.reflect(KeyRange::segment("/a")).page_entries(2).start();
    assert_eq!((copy.len(), copy.revision(), copy.is_empty()), (0, Revision::ZERO, true));
    soon(copy.ready()).await.unwrap();
    assert_eq!(contents(&copy.snapshot()), pairs([("/a", "1"), ("/a/1", "1"), ("/a/2", "1")]));
    assert_eq!(copy.snapshot().revision(), copy.revision());
    assert!(copy.get("/a-b").is_none());

    // Its own writes, once it has waited for them.
    let written = client.put("/a/1", "2").await.unwrap();
    soon(copy.wait_for(written)).await.unwrap();
    assert_eq!(copy.get("/a/1").map(|pair| text(&pair).1), Some("2".to_owned()));
    assert_eq!(copy.range("/a/1".."/a/2").len(), 1);
    assert_eq!(copy.prefix("/a/").iter().map(|pair| text(pair).0).collect::<Vec<_>>(), ["/a/1", "/a/2"]);

    // Also those beside its range, of which no event tells.
    let begun = tokio::time::Instant::now();
    let beside = client.put("/b", "1").await.unwrap();
    soon(copy.wait_for(beside)).await.unwrap();
    assert!(copy.revision() >= beside);
    assert!(begun.elapsed() < Duration::from_secs(5), "waited for a note by the clock: {:?}", begun.elapsed());

    let status = copy.status();
    assert_eq!((status.len, status.lists, status.ended), (3, 1, false));
    assert!(status.out_of_sync.is_none() && status.last_error.is_none(), "{status:?}");
    assert!(format!("{copy:?}").contains("Reflector"));
}

/// Cut off, with the history gone when it is back: the list is read again, and only what differs is told.
#[tokio::test(start_paused = true)]
async fn compaction_while_cut_off_is_made_up_for_by_difference() {
    let member = Rig::of_cluster(1).await;
    let network = member.other_wire();
    for key in ["a", "b", "c", "d", "e"] {
        member.put(key, "1").await;
    }
    let copy = network.client().reflect(KeyRange::all()).page_entries(2).start();
    soon(copy.ready()).await.unwrap();
    until(|| copy.status().out_of_sync.is_none()).await;
    let (snapshot, mut changes) = copy.subscribe();
    let before = copy.revision();

    network.sever();
    until(|| copy.status().out_of_sync.is_some()).await;
    member.delete("c").await;
    member.put("b", "2").await;
    member.put("bb", "1").await;
    // Not to be seen: it is as it was before.
    member.put("x", "1").await;
    member.delete("x").await;
    let newest = member.delete("e").await;
    member.compact(newest).await;
    assert_eq!((copy.len(), copy.revision()), (5, before));
    network.join(member.door());

    let difference = next_changes(&mut changes).await;
    assert_eq!(shape(&difference), ["-c", "-e", "~b", "+bb"]);
    assert!(difference.is_difference() && difference.revision() == newest);
    let mut has = contents(&snapshot);
    apply(&mut has, &difference);
    assert_eq!(has, pairs([("a", "1"), ("b", "2"), ("bb", "1"), ("d", "1")]));
    assert_eq!(has, contents(&copy.snapshot()));

    // And it goes on.
    until(|| copy.status().out_of_sync.is_none()).await;
    let status = copy.status();
    assert_eq!(status.lists, 2);
    let error = status.last_error.unwrap();
    assert!(matches!(error.kind(), ErrorKind::Compacted { at } if *at == newest), "{error}");
    let written = member.put("f", "1").await;
    let next = next_changes(&mut changes).await;
    assert_eq!((shape(&next), next.revision(), next.is_difference()), (vec!["+f".to_owned()], written, false));
}

/// Without compaction nothing is read again.
#[tokio::test(start_paused = true)]
async fn a_break_alone_needs_no_list() {
    let member = Rig::of_cluster(1).await;
    let network = member.other_wire();
    let copy = network.client().reflect(KeyRange::all()).start();
    soon(copy.ready()).await.unwrap();
    let (_, mut changes) = copy.subscribe();
    for round in 0..3 {
        network.sever();
        until(|| copy.status().out_of_sync.is_some()).await;
        let written = member.put("a", &round.to_string()).await;
        network.join(member.door());
        let next = next_changes(&mut changes).await;
        assert_eq!((next.revision(), next.is_difference()), (written, false));
    }
    assert_eq!(copy.status().lists, 1);
}

#[tokio::test(start_paused = true)]
async fn another_store_behind_the_address_is_copied_by_difference() {
    let (old, new) = (Rig::of_cluster(1).await, Rig::of_cluster(2).await);
    let network = old.other_wire();
    for n in 0..10 {
        old.put("gone", &n.to_string()).await;
    }
    old.put("other", "1").await;
    new.put("other", "2").await;
    let newest = new.put("new", "1").await;
    let copy = network.client().reflect(KeyRange::all()).start();
    soon(copy.ready()).await.unwrap();
    let (_, mut changes) = copy.subscribe();
    network.sever();
    network.join(new.door());
    let difference = next_changes(&mut changes).await;
    assert_eq!(shape(&difference), ["-gone", "+new", "~other"]);
    assert_eq!((difference.revision(), copy.revision()), (newest, newest));
    assert_eq!(contents(&copy.snapshot()), pairs([("new", "1"), ("other", "2")]));
    assert!(matches!(copy.status().last_error.unwrap().kind(), ErrorKind::HistoryReset { .. }));
    // And it goes on there.
    let written = new.put("new", "2").await;
    let next = next_changes(&mut changes).await;
    assert_eq!((shape(&next), next.revision(), next.is_difference()), (vec!["~new".to_owned()], written, false));
}

#[tokio::test(start_paused = true)]
async fn a_late_subscriber_has_what_there_was_and_all_that_comes() {
    let member = Rig::of_cluster(1).await;
    let copy = member.other_wire().client().reflect(KeyRange::all()).start();
    // One from before there was anything to see.
    let (snapshot, early) = copy.subscribe();
    assert!(snapshot.is_empty() && snapshot.revision() == Revision::ZERO);
    let mut subscribers = vec![(contents(&snapshot), early)];
    let mut newest = Revision::ZERO;
    for n in 0..200 {
        let key = format!("{:02}", n * 7 % 23);
        newest = if n % 5 == 4 { member.delete(&key).await } else { member.put(&key, &n.to_string()).await };
        if n % 20 == 7 {
            let (snapshot, changes) = copy.subscribe();
            subscribers.push((contents(&snapshot), changes));
        }
    }
    soon(copy.wait_for(newest)).await.unwrap();
    let now = contents(&copy.snapshot());
    for (mut has, mut changes) in subscribers {
        while has != now {
            apply(&mut has, &next_changes(&mut changes).await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_gets_the_difference_and_stalls_nobody() {
    let member = Rig::of_cluster(1).await;
    member.put("old", "1").await;
    let copy = member.other_wire().client().reflect(KeyRange::all()).subscriber_changes(4).start();
    soon(copy.ready()).await.unwrap();
    let (snapshot, mut slow) = copy.subscribe();
    let (_, mut quick) = copy.subscribe();
    let mut has = contents(&snapshot);
    for n in 0..50 {
        let written = member.put(&format!("{:02}", n % 10), &n.to_string()).await;
        let next = next_changes(&mut quick).await;
        assert_eq!((next.revision(), next.changes().len(), next.is_difference()), (written, 1, false));
    }
    member.delete("old").await;
    next_changes(&mut quick).await;
    match soon(slow.next()).await.unwrap().unwrap() {
        SubscriptionItem::Lagged { changes } => assert_eq!(changes, 51),
        other => panic!("not told that it fell behind: {other:?}"),
    }
    // What happens after it is told is in the difference too.
    let written = member.put("00", "last").await;
    soon(copy.wait_for(written)).await.unwrap();
    let difference = next_changes(&mut slow).await;
    assert!(difference.is_difference() && difference.revision() == written);
    assert_eq!(shape(&difference)[..2], ["-old", "+00"]);
    assert_eq!(difference.changes().len(), 11);
    apply(&mut has, &difference);
    assert_eq!(has, contents(&copy.snapshot()));
    // From here on every change again.
    member.put("00", "and on").await;
    assert_eq!(shape(&next_changes(&mut slow).await), ["~00"]);
}

/// Random writes, breaks and compactions: the copy and what its subscribers make of it end up as the store.
#[tokio::test(start_paused = true)]
async fn whatever_happens_the_copy_ends_up_as_the_store() {
    let (mut lists, mut lagged, mut breaks) = (0, 0, 0);
    for seed in 0..12_u64 {
        let mut random = seed;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let member = Rig::of_cluster(1).await;
        let network = member.other_wire();
        let copy = network.client().reflect(KeyRange::all()).page_entries(3).subscriber_changes(5).start();
        let mut subscribers: Vec<(BTreeMap<String, String>, Subscription)> = Vec::new();
        let mut newest = member.put("first", "").await;
        let mut compacted = Revision::ZERO;
        for step in 0..150 {
            let key = format!("{:02}", below(15));
            match below(20) {
                0..10 => newest = member.put(&key, &step.to_string()).await,
                10..13 => newest = member.delete(&key).await,
                13 => {
                    if newest > compacted {
                        member.compact(newest).await;
                        compacted = newest;
                    }
                }
                14 => {
                    network.sever();
                    breaks += 1;
                }
                15..17 => network.join(member.door()),
                17 if subscribers.len() < 4 => {
                    let (snapshot, changes) = copy.subscribe();
                    subscribers.push((contents(&snapshot), changes));
                }
                _ if below(2) == 0 => {
                    network.join(member.door());
                    soon(copy.wait_for(newest)).await.unwrap();
                }
                _ => {
                    if let Some((has, changes)) = subscribers.first_mut() {
                        lagged += take_what_waits(has, changes).await;
                    }
                }
            }
        }
        network.join(member.door());
        soon(copy.wait_for(newest)).await.unwrap();
        let list = member.other_wire().client().list(KeyRange::all()).await.unwrap();
        let now: BTreeMap<_, _> = list.into_iter().map(|pair| text(&pair)).collect();
        assert_eq!(contents(&copy.snapshot()), now, "seed {seed}");
        for (mut has, mut changes) in subscribers {
            lagged += take_what_waits(&mut has, &mut changes).await;
            assert_eq!(has, now, "seed {seed}");
        }
        lists += copy.status().lists;
    }
    assert!(lists > 12 && lagged > 0 && breaks > 0, "{lists} lists, {lagged} lags, {breaks} breaks");
}

/// How often it was behind.
async fn take_what_waits(has: &mut BTreeMap<String, String>, changes: &mut Subscription) -> u64 {
    let mut lagged = 0;
    while let Ok(item) = tokio::time::timeout(Duration::ZERO, changes.next()).await {
        match item.unwrap().unwrap() {
            SubscriptionItem::Changes(changes) => apply(has, &changes),
            _ => lagged += 1,
        }
    }
    lagged
}

#[tokio::test(start_paused = true)]
async fn a_linearizable_read_is_never_behind_a_write() {
    let member = Rig::of_cluster(1).await;
    let network = member.other_wire();
    let client = network.client();
    let copy = client.reflect(KeyRange::prefix("a")).start();
    for n in 0..20 {
        if n % 4 == 3 {
            member.delete("a").await;
            assert!(soon(copy.get_linearizable("a")).await.unwrap().is_none());
        } else {
            member.put("a", &n.to_string()).await;
            let pair = soon(copy.get_linearizable("a")).await.unwrap().unwrap();
            assert_eq!(text(&pair).1, n.to_string());
        }
    }
    let error = copy.get_linearizable("b").await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    network.sever();
    let error = soon(copy.get_linearizable("a")).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_kept_out_and_shown() {
    let member = Rig::of_cluster(1).await;
    member.put("a", "1").await;
    member.put("b", "nonsense").await;
    let parse = |pair: &KeyValue| -> Result<u32, ParseIntError> { pair.value_str().unwrap_or_default().parse() };
    let copy = member.other_wire().client().reflect(KeyRange::all()).decode(parse).start();
    soon(copy.ready()).await.unwrap();
    assert_eq!(copy.get("a").map(|entry| **entry), Some(1));
    assert!(copy.get("b").is_none());
    assert_eq!((copy.len(), copy.status().undecodable), (1, 1));
    let bad = &copy.undecodable()[0];
    assert_eq!(bad.pair().key_str(), Some("b"));
    assert!(bad.reason().to_string().contains("invalid digit"), "{}", bad.reason());

    let (_, mut changes) = copy.subscribe();
    let mut next = async || match soon(changes.next()).await {
        Some(Ok(SubscriptionItem::Changes(changes))) => changes.changes().to_vec(),
        other => panic!("not changes: {other:?}"),
    };
    member.put("b", "2").await;
    assert!(matches!(&next().await[..], [Change::Added(b)] if *b.value() == 2));
    member.put("b", "nonsense again").await;
    assert!(matches!(&next().await[..], [Change::Removed(b)] if *b.value() == 2));
    member.delete("b").await;
    member.put("a", "3").await;
    assert!(matches!(&next().await[..], [Change::Updated { old, new }] if (*old.value(), *new.value()) == (1, 3)));
    assert!(copy.undecodable().is_empty() && copy.status().undecodable == 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_tried_again() {
    let (denies, calls) = that_refuses("7", "etcdserver: permission denied");
    let member = Rig::of_cluster(1).await;
    member.put("a", "1").await;
    let network = Wire::to(&denies);
    let copy = network.client().reflect(KeyRange::all()).start();
    for error in [soon(copy.ready()).await, soon(copy.wait_for(Revision::FIRST)).await] {
        assert_eq!(*error.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    let status = copy.status();
    assert_eq!((status.ended, status.lists), (false, 0));
    assert_eq!(*status.last_error.unwrap().kind(), ErrorKind::PermissionDenied);
    // Nothing else happens for a while: it is asked again and again, and ever more rarely.
    let (_, mut changes) = copy.subscribe();
    let before = calls.load(Ordering::Relaxed);
    tokio::time::timeout(Duration::from_secs(600), changes.next()).await.unwrap_err();
    let asked = calls.load(Ordering::Relaxed) - before;
    assert!((20..200).contains(&asked), "asked {asked} times in ten minutes");
    network.sever();
    network.join(member.door());
    until(|| copy.get("a").is_some()).await;
    soon(copy.ready()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_no_further_try_would_mend_is_final() {
    let (unknown, _) = that_refuses("12", "unknown service");
    let member = Rig::of_cluster(1).await;
    let copies: [(Reflector, ErrorKind); 2] = [
        (Wire::to(&unknown).client().reflect(KeyRange::all()).start(), ErrorKind::Unsupported),
        (member.other_wire().client().reflect(KeyRange::interval("b", "a")).start(), ErrorKind::InvalidArgument),
    ];
    for (copy, kind) in copies {
        let (_, mut changes) = copy.subscribe();
        assert_eq!(*soon(copy.ready()).await.unwrap_err().kind(), kind);
        assert_eq!(*soon(changes.next()).await.unwrap().unwrap_err().kind(), kind);
        assert!(soon(changes.next()).await.is_none());
        assert!(copy.status().ended);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_closed_ends_its_copies() {
    let member = Rig::of_cluster(1).await;
    let client = member.other_wire().client();
    let copy = client.reflect(KeyRange::all()).start();
    until(|| copy.status().out_of_sync.is_none()).await;
    let (_, mut changes) = copy.subscribe();
    client.close_watches();
    assert_eq!(*soon(changes.next()).await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(*soon(copy.wait_for(Revision::MAX)).await.unwrap_err().kind(), ErrorKind::Closed);
    // What it had is still there to be read.
    soon(copy.ready()).await.unwrap();
}

/// The decoder lives as long as the task.
#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_handle() {
    let member = Rig::of_cluster(1).await;
    let alive = Arc::new(());
    let watched = Arc::downgrade(&alive);
    let decode = move |_: &KeyValue| -> Result<Arc<()>, ParseIntError> { Ok(alive.clone()) };
    let copy = member.other_wire().client().reflect(KeyRange::all()).decode(decode).start();
    soon(copy.ready()).await.unwrap();
    let (_, changes) = copy.subscribe();
    drop(copy);
    // A subscription is a handle too.
    member.put("a", "1").await;
    until(|| changes.reflector().get("a").is_some()).await;
    drop(changes);
    until(|| watched.upgrade().is_none()).await;
}

#[test]
fn a_runtime_that_is_gone_leaves_nobody_waiting() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let first = runtime();
    let (copy, outside) = first.block_on(async {
        let client = Wire::loose().client();
        (client.reflect(KeyRange::all()).start(), client.reflect(KeyRange::all()))
    });
    drop(first);
    let outside = outside.start();
    runtime().block_on(async {
        assert_eq!(*soon(copy.ready()).await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(*soon(outside.ready()).await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[tokio::test(start_paused = true)]
async fn the_examples_show_what_happens() {
    let member = Rig::of_cluster(1).await;
    let client = member.other_wire().client();
    member.put("/services/web/1", "10.0.0.1:80").await;
    let mut shown = Vec::new();
    let comes_and_goes = async {
        loop {
            member.put("/services/web/2", "10.0.0.2:80").await;
            member.delete("/services/web/2").await;
        }
    };
    tokio::select! {
        ran = soon(service_discovery::run(&client, 4, &mut shown)) => ran.unwrap(),
        () = comes_and_goes => {}
    }
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.starts_with("/services/web/1 at 10.0.0.1:80\n"), "{shown}");
    assert!(shown.contains("2 came, at 10.0.0.2:80\n") && shown.contains("2 left\n"), "{shown}");

    member.put("/config/app/limit", "10").await;
    let mut shown = Vec::new();
    let is_mistyped_and_mended = async {
        loop {
            member.put("/config/app/limit", "2O").await;
            member.put("/config/app/limit", "10").await;
        }
    };
    tokio::select! {
        ran = soon(config_reload::run(&client, 20, &mut shown)) => ran.unwrap(),
        () = is_mistyped_and_mended => {}
    }
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("the limit is 10\n") && shown.contains("the limit is 100\n"), "{shown}");
    assert!(shown.contains("/config/app/limit is no number: invalid digit"), "{shown}");
}
