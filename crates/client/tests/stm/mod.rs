//! Optimistic transactions: what they are kept apart from, and what becomes of a commit without an answer.

mod unanswered;

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use stentor_client::{Client, Counter, Error, ErrorKind, Isolation, KeyRange, Metrics, Result, Revision, Transaction};

use crate::harness::{Rig, failed};

async fn number(t: &Transaction, key: &str) -> Result<u64> {
    let value = t.get(key.to_owned()).await?;
    Ok(value.map_or(0, |value| std::str::from_utf8(&value).unwrap().parse().unwrap()))
}

/// By a client of its own.
async fn stored(rig: &Rig, key: &str) -> Option<String> {
    let pair = rig.other_wire().client().get(key.to_owned()).await.unwrap();
    pair.map(|pair| pair.value_str().unwrap().to_owned())
}

fn some(value: &str) -> Option<String> {
    Some(value.to_owned())
}

/// Moves one from an account to another and counts it; after how many attempts.
async fn move_one(client: &Client, isolation: Isolation, from: &'static str, to: &'static str) -> u32 {
    let run = client.stm(|t| async move {
        let (has, gets, count) = (number(&t, from).await?, number(&t, to).await?, number(&t, "n").await?);
        t.put(from, (has - 1).to_string());
        t.put(to, (gets + 1).to_string());
        t.put("n", (count + 1).to_string());
        Ok(())
    });
    run.isolation(isolation).attempts(1000).await.unwrap().attempts
}

#[tokio::test(start_paused = true)]
async fn counters_lose_nothing_and_transfers_keep_the_sum() {
    let rig = Rig::start().await;
    for isolation in [Isolation::SerializableSnapshot, Isolation::Serializable, Isolation::RepeatableReads] {
        let client = rig.client();
        client.delete(KeyRange::all()).await.unwrap();
        client.put_all([("a", "100"), ("b", "100"), ("c", "100")]).await.unwrap();
        let mut running = tokio::task::JoinSet::new();
        for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("b", "a"), ("a", "c")] {
            let client = rig.other_wire().client();
            running.spawn(async move {
                let mut attempts = 0;
                for _ in 0..20 {
                    attempts += move_one(&client, isolation, from, to).await;
                }
                attempts
            });
        }
        let attempts: u32 = running.join_all().await.into_iter().sum();
        assert!(attempts > 100, "they were never in each other's way: {attempts}");
        assert_eq!(stored(&rig, "n").await, some("100"), "{isolation:?}");
        let all = client
            .stm(async |t: Transaction| Ok(number(&t, "a").await? + number(&t, "b").await? + number(&t, "c").await?));
        assert_eq!(all.await.unwrap().value, 300, "{isolation:?}");
    }
}

/// A run in which others write between the reads of the first attempt. Which value of "b" each attempt saw, after
/// "a" was read, and how often it ran.
async fn disturbed(rig: &Rig, isolation: Isolation, others: &[&'static str], writes: &'static str) -> (Vec<u64>, u32) {
    let client = rig.client();
    client.put_all([("a", "1"), ("b", "1"), ("w", "1")]).await.unwrap();
    let (runs, seen) = (AtomicU32::new(0), std::sync::Mutex::new(Vec::new()));
    let (runs, seen, hand) = (&runs, &seen, &rig.other_wire().client());
    let committed = client.stm(|t| async move {
        number(&t, "a").await?;
        if runs.fetch_add(1, Ordering::Relaxed) == 0 {
            hand.put_all(others.iter().map(|key| (*key, "2"))).await?;
        }
        let b = number(&t, "b").await?;
        seen.lock().unwrap().push(b);
        t.put(writes, "3");
        Ok(())
    });
    let committed = committed.isolation(isolation).await.unwrap();
    assert_eq!((committed.attempts, stored(rig, writes).await), (runs.load(Ordering::Relaxed), some("3")));
    let seen = seen.lock().unwrap().clone();
    (seen, committed.attempts)
}

#[tokio::test(start_paused = true)]
async fn each_level_is_kept_apart_from_what_it_says() {
    use Isolation as I;
    let rig = Rig::start().await;
    let rig = &rig;
    // What was read changes: seen at one revision or not, and found out at the commit.
    assert_eq!(disturbed(rig, I::SerializableSnapshot, &["a", "b"], "x").await, (vec![1, 2], 2));
    assert_eq!(disturbed(rig, I::Serializable, &["a", "b"], "x").await, (vec![1, 2], 2));
    assert_eq!(disturbed(rig, I::RepeatableReads, &["a", "b"], "x").await, (vec![2, 2], 2));
    assert_eq!(disturbed(rig, I::ReadCommitted, &["a", "b"], "x").await, (vec![2], 1));
    // Changed after "a" was read and before "b" was, at a level that does not read at one revision: no conflict.
    assert_eq!(disturbed(rig, I::RepeatableReads, &["b"], "x").await, (vec![2], 1));
    assert_eq!(disturbed(rig, I::Serializable, &["b"], "x").await, (vec![1, 2], 2));
    // A key is overwritten that was not read.
    assert_eq!(disturbed(rig, I::SerializableSnapshot, &["w"], "w").await, (vec![1, 1], 2));
    assert_eq!(disturbed(rig, I::Serializable, &["w"], "w").await, (vec![1], 1));
    // A key is overwritten that was read.
    assert_eq!(disturbed(rig, I::RepeatableReads, &["a"], "a").await, (vec![1, 1], 2));
    assert_eq!(disturbed(rig, I::ReadCommitted, &["a"], "a").await, (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn a_run_sees_what_it_has_written() {
    let rig = Rig::start().await;
    let client = rig.client().namespaced("/ns/");
    client.put_all([("a", "1"), ("b", "1"), ("c", "1")]).await.unwrap();
    let lease = client.lease(std::time::Duration::from_secs(30)).await.unwrap();
    let id = lease.id();
    let committed = client.stm(|t| async move {
        t.put("a", "2");
        t.rollback();
        assert_eq!(t.get("a").await?.unwrap(), "1");
        t.put_with_lease("a", "3", id);
        t.delete("b");
        assert_eq!((t.get("a").await?.unwrap(), t.get("b").await?), ("3".into(), None));
        let before = t.stored("b").await?.unwrap();
        assert_eq!((before.key_str(), before.version()), (Some("b"), 1));
        t.delete("c");
        t.put("c", "4");
        Ok(t)
    });
    let committed = committed.await.unwrap();
    let pairs = client.list(KeyRange::all()).await.unwrap();
    let rows: Vec<_> = pairs.into_iter().map(|pair| (pair.lease(), pair.into_parts())).collect();
    assert_eq!(rows, [(Some(id), ("a".into(), "3".into())), (None, ("c".into(), "4".into()))]);
    assert_eq!((committed.revision.get(), committed.attempts), (rig.revision(), 1));
    // Who keeps a handle can do nothing with it.
    let late = committed.value;
    failed(late.get("a").await, ErrorKind::Closed);
    late.put("a", "late");
    assert_eq!(stored(&rig, "/ns/a").await, some("3"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_writes_nothing() {
    let rig = Rig::start().await;
    let client = rig.client();
    let before = rig.revision();
    let refused: Result<()> = client
        .stm(async |t: Transaction| {
            t.put("a", "1");
            t.stored("").await.map(drop)
        })
        .await
        .map(|committed| committed.value);
    failed(refused, ErrorKind::InvalidArgument);
    assert_eq!(rig.revision(), before);
}

#[derive(Clone, Default)]
struct Calls(Arc<AtomicU64>);

impl Metrics for Calls {
    fn add(&self, counter: Counter, by: u64) {
        if counter == Counter::Calls {
            self.0.fetch_add(by, Ordering::Relaxed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_spared_where_they_can_be() {
    let rig = Rig::start().await;
    rig.client().put_all([("a", "1"), ("b", "2")]).await.unwrap();
    let calls = Calls::default();
    let client = rig.builder().metrics(calls.clone()).build().unwrap();
    let made = || calls.0.swap(0, Ordering::Relaxed);
    let sum = async |t: Transaction| Ok(number(&t, "a").await? + number(&t, "b").await?);
    let at = Revision::new(rig.revision()).unwrap();
    let read = client.stm(sum).await.unwrap();
    assert_eq!((read.value, read.revision, made()), (3, at, 2), "reads at one revision need no commit");
    let read = client.stm(sum).prefetch(["a", "b"]).await.unwrap();
    assert_eq!((read.value, read.revision, made()), (3, at, 1));
    let read = client.stm(sum).isolation(Isolation::RepeatableReads).await.unwrap();
    assert_eq!((read.value, made()), (3, 3), "they may be of different revisions");

    // What the conflict has shown is not read again.
    let (runs, hand) = (AtomicU32::new(0), rig.other_wire().client());
    let (runs, hand) = (&runs, &hand);
    let wrote = client.stm(|t| async move {
        let sum = number(&t, "a").await? + number(&t, "b").await?;
        if runs.fetch_add(1, Ordering::Relaxed) == 0 {
            hand.put("a", "5").await?;
        }
        t.put("sum", sum.to_string());
        Ok(())
    });
    assert_eq!(wrote.await.unwrap().attempts, 2);
    assert_eq!((stored(&rig, "sum").await, made()), (some("7"), 4));
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_after_so_many_attempts() {
    let rig = Rig::start().await;
    let (runs, hand) = (AtomicU32::new(0), rig.other_wire().client());
    let (runs, hand) = (&runs, &hand);
    let client = rig.client();
    let hopeless = client.stm(|t| async move {
        number(&t, "a").await?;
        let run = runs.fetch_add(1, Ordering::Relaxed);
        hand.put("a", run.to_string()).await?;
        t.put("b", "1");
        Ok(())
    });
    let error: Error = hopeless.attempts(7).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts(), error.is_retryable()), (&ErrorKind::Conflict, 7, true));
    assert_eq!((runs.load(Ordering::Relaxed), stored(&rig, "b").await), (7, None));
}

#[tokio::test(start_paused = true)]
async fn compaction_under_a_run_makes_it_run_again() {
    let rig = Rig::start().await;
    let client = rig.client();
    client.put_all([("a", "1"), ("b", "1")]).await.unwrap();
    let (runs, hand) = (AtomicU32::new(0), rig.other_wire().client());
    let (runs, hand) = (&runs, &hand);
    let committed = client.stm(|t| async move {
        number(&t, "a").await?;
        if runs.fetch_add(1, Ordering::Relaxed) == 0 {
            let written = hand.put("b", "2").await?;
            hand.compact(written).await?;
        }
        number(&t, "b").await
    });
    let committed = committed.into_future().await.unwrap();
    assert_eq!((committed.value, committed.attempts), (2, 2));
}
