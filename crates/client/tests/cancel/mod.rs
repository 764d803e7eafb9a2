//! What is left when a future is dropped, at each point where it can be.

use std::future::{IntoFuture, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use stentor_client::{KeyRange, Result, WatchItem};

use crate::harness::{Rig, soon, until};

/// Polls a future so many times, then drops it; `None` if it was not ready by then.
async fn polled<F: IntoFuture>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future.into_future());
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Lets a future be dropped after one poll, after two, and so on, until it is ready: its output, and how often it was
/// dropped. After each time `check` looks at what is left.
async fn dropped_everywhere<F: IntoFuture>(
    mut make: impl FnMut() -> F,
    mut check: impl AsyncFnMut(),
) -> (F::Output, usize) {
    for times in 1.. {
        if let Some(output) = soon(polled(times, make())).await {
            return (output, times - 1);
        }
        check().await;
    }
    unreachable!("it is ready at some time");
}

fn nothing() -> impl AsyncFnMut() {
    async || {}
}

#[tokio::test(start_paused = true)]
async fn a_watch_loses_nothing_and_repeats_nothing() {
    let rig = Rig::start().await;
    let client = rig.client();
    let mut watch = client.watch(KeyRange::prefix("k")).await.unwrap();
    let (mut revisions, mut drops) = (Vec::new(), 0);
    for n in 0..50 {
        if n == 25 {
            rig.wire.cut();
        }
        // It is dropped when it is woken for the first or the second time.
        let key = format!("k{n}");
        let (mut taken, last) = tokio::join!(soon(polled(1 + n % 2, watch.next())), rig.put(&key, "v"));
        loop {
            match taken {
                Some(item) => match item.unwrap().unwrap() {
                    WatchItem::Events(batch) => revisions.extend(batch.iter().map(|e| e.revision().get())),
                    other => panic!("{other:?}"),
                },
                None => drops += 1,
            }
            if revisions.last() == Some(&last.get()) {
                break;
            }
            taken = soon(polled(2, watch.next())).await;
        }
    }
    assert_eq!(revisions, (2..=51).collect::<Vec<_>>());
    assert!(drops >= 25, "{drops}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_watch_that_never_began() {
    let rig = Rig::start().await;
    let client = rig.client();
    let begin = || client.watch(KeyRange::all());
    let gone = async || until(|| client.status().watchers == 0).await;
    let (watch, drops) = dropped_everywhere(begin, gone).await;
    assert!(drops >= 1, "{drops}");
    assert_eq!(client.status().watchers, 1);
    drop(watch);
    let (both, drops) = dropped_everywhere(|| client.list_then_watch(KeyRange::all()), gone).await;
    assert!(drops >= 1 && both.is_ok(), "{drops}");
}

#[tokio::test(start_paused = true)]
async fn a_write_has_happened_or_not_and_the_client_goes_on() {
    let rig = Rig::start().await;
    let client = rig.client();
    let value =
        async |key: &str| client.get(key.to_owned()).await.unwrap().map(|kv| kv.value_str().unwrap().to_owned());
    rig.put("a", "old").await;
    let is_either = async || {
        let found = value("a").await;
        assert!(matches!(found.as_deref(), Some("old" | "new")), "{found:?}");
    };
    let (put, drops) = dropped_everywhere(|| client.put("a", "new"), is_either).await;
    assert!(put.is_ok() && drops >= 1, "{drops}");
    assert_eq!(value("a").await.as_deref(), Some("new"));
    // A write under a condition happens once at most.
    let revision = rig.revision();
    let once = async || {
        let moved = rig.revision() - revision;
        assert!(moved <= 1, "{moved} writes of one");
    };
    let (created, drops) = dropped_everywhere(|| client.create("b", "1"), once).await;
    assert!(drops >= 1 && created.is_ok(), "{drops}");
    assert_eq!((value("b").await.as_deref(), rig.revision() - revision), (Some("1"), 1));
    let (deleted, drops) = dropped_everywhere(|| client.delete("b"), nothing()).await;
    assert!(deleted.is_ok() && drops >= 1, "{drops}");
    assert_eq!(value("b").await, None);
    assert!(client.status().endpoints.iter().all(|endpoint| endpoint.trouble.is_none()), "{:?}", client.status());
}

#[tokio::test(start_paused = true)]
async fn a_read_and_each_page_of_a_list_can_be_asked_for_again() {
    let rig = Rig::start().await;
    for n in 0..25 {
        rig.put(&format!("k{n:02}"), "v").await;
    }
    let client = rig.client();
    let (read, drops) = dropped_everywhere(|| client.get("k00"), nothing()).await;
    assert!(read.unwrap().is_some() && drops >= 1, "{drops}");
    let (list, drops) = dropped_everywhere(|| client.list(KeyRange::prefix("k")).page_entries(10), nothing()).await;
    assert!(drops >= 1, "{drops}");
    assert_eq!(list.unwrap().pairs().len(), 25);
    let mut pages = client.list(KeyRange::prefix("k")).page_entries(10).pages();
    let (mut keys, mut times, mut drops) = (Vec::new(), 1, 0);
    loop {
        match soon(polled(times, pages.next())).await {
            Some(Some(page)) => {
                keys.extend(page.unwrap().iter().map(|kv| kv.key_str().unwrap().to_owned()));
                times = 0;
            }
            Some(None) => break,
            None => drops += 1,
        }
        times += 1;
        if !keys.is_empty() {
            // Not of the list's revision.
            rig.put("k99", "v").await;
        }
    }
    assert_eq!(keys, (0..25).map(|n| format!("k{n:02}")).collect::<Vec<_>>());
    assert!(drops >= 3, "{drops}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nobody_holds_ends_by_itself() {
    let rig = Rig::start().await;
    let client = rig.client();
    let (lease, drops) = dropped_everywhere(|| client.lease(Duration::from_secs(10)), nothing()).await;
    let lease = lease.unwrap();
    assert!(drops >= 1, "{drops}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(client.leases().await.unwrap(), [lease.id()], "the one that is held, and no other");
    // Its end goes on, though nobody waits for it any more.
    assert_eq!(soon(polled(1, lease.revoke())).await.map(|revoked| revoked.is_ok()), None);
    let ended = async || client.leases().await.unwrap().is_empty();
    while !soon(ended()).await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_can_be_waited_for_in_pieces() -> Result<()> {
    let rig = Rig::start().await;
    let client = rig.client();
    let copy = client.reflect(KeyRange::prefix("k")).start();
    let (ready, drops) = dropped_everywhere(|| copy.ready(), nothing()).await;
    assert!(ready.is_ok() && drops >= 1, "{drops}");
    let mut drops = 0;
    for n in 0..10 {
        let (key, revision) = (format!("k{n}"), copy.revision().next());
        let (waited, _) = tokio::join!(soon(polled(1, copy.wait_for(revision))), rig.put(&key, "v"));
        drops += usize::from(waited.is_none());
        copy.wait_for(revision).await?;
        assert!(copy.get(key).is_some());
    }
    assert!(drops >= 1, "{drops}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn endpoints_can_be_learned_again() {
    let rig = Rig::start().await;
    let client = rig.client();
    let (synced, drops) = dropped_everywhere(
        || client.sync_endpoints(),
        async || {
            assert!(!client.status().endpoints.is_empty());
        },
    )
    .await;
    assert!(synced.is_ok() && drops >= 1, "{synced:?} {drops}");
}
