//! A copy of a range, through restarts and compaction, compared with what the store has.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use stentor_client::{KeyRange, KeyValue, Reflector, Revision, Snapshot, Subscription, SubscriptionItem};
use tokio::task::JoinHandle;

use crate::rig::{Rig, SERVERS, at, start, within};

type Pairs = BTreeMap<Vec<u8>, (Vec<u8>, Revision)>;

/// What there was at first, kept up by the changes alone. Ends with the revision that it was to wait for.
fn kept_up(snapshot: &Snapshot, mut changes: Subscription, until: i64) -> JoinHandle<Result<(Pairs, u64)>> {
    let mut pairs: Pairs = snapshot.iter().map(|pair| entry(pair)).collect();
    tokio::spawn(async move {
        let mut differences = 0;
        loop {
            let item = changes.next().await.context("the copy ended")??;
            let SubscriptionItem::Changes(changes) = item else { anyhow::bail!("{item:?}") };
            differences += u64::from(changes.is_difference());
            for change in changes.iter() {
                let before = change.before().map(|pair| entry(pair).1);
                let key = change.key().to_vec();
                ensure!(pairs.get(&key) == before.as_ref(), "{change:?} of {:?}", pairs.get(&key));
                match change.after() {
                    None => drop(pairs.remove(&key)),
                    Some(pair) => drop(pairs.insert(key, entry(pair).1)),
                }
            }
            if changes.revision() >= at(until) {
                return Ok((pairs, differences));
            }
        }
    })
}

fn entry(pair: &KeyValue) -> (Vec<u8>, (Vec<u8>, Revision)) {
    (pair.key().to_vec(), (pair.value().to_vec(), pair.mod_revision()))
}

/// As the store has them.
async fn listed(rig: &Rig) -> Result<Pairs> {
    let list = within("a list", async { rig.client.list(KeyRange::prefix("/r/")).await }).await??;
    Ok(list.pairs().iter().map(entry).collect())
}

async fn wait_for(copy: &Reflector, revision: i64) -> Result<()> {
    Ok(within("the copy", copy.wait_for(at(revision))).await??)
}

async fn copy_of(variable: &str) -> Result<()> {
    let Some(mut rig) = start(variable, "a copy of a range").await? else { return Ok(()) };
    for number in 0..50 {
        rig.put(&format!("/r/{number}"), "0").await?;
    }
    // Several pages.
    let copy = rig.client.reflect(KeyRange::prefix("/r/")).page_entries(20).start();
    within("the list", copy.ready()).await??;
    let (snapshot, changes) = copy.subscribe();
    ensure!(snapshot.len() == 50, "{snapshot:?}");
    let seen = rig.put("/r/0", "1").await?;
    let lasts = seen + 200;
    let follower = kept_up(&snapshot, changes, lasts);
    wait_for(&copy, seen).await?;

    // A restart: it goes on by the watch.
    rig.kill_and_restart().await?;
    rig.delete("/r/1").await?;
    let mut last = rig.put("/r/new", "1").await?;
    wait_for(&copy, last).await?;
    ensure!(copy.status().lists == 1, "read again without need: {:?}", copy.status());

    // Compaction beyond what it has seen: it reads the list again, and tells the difference.
    rig.cut_off(async |rig| {
        rig.delete("/r/2").await?;
        rig.put("/r/3", "2").await?;
        rig.put("/r/newer", "1").await?;
        while last < lasts {
            last = rig.put("/r/4", "3").await?;
        }
        rig.compact(last).await
    })
    .await?;
    let (pairs, differences) = within("the changes", follower).await???;
    ensure!(copy.status().lists == 2 && differences == 1, "{differences} differences, {:?}", copy.status());
    let stored = listed(&rig).await?;
    ensure!(pairs == stored, "by its changes {pairs:?} instead of {stored:?}");
    // Whoever comes late has the same, and what follows.
    let (snapshot, late) = copy.subscribe();
    ensure!(snapshot.iter().map(|pair| entry(pair)).collect::<Pairs>() == stored, "{snapshot:?}");
    let end = rig.put("/r/0", "end").await?;
    let (pairs, _) = within("a change", kept_up(&snapshot, late, end)).await???;
    ensure!(pairs == listed(&rig).await?, "after the last change");
    let read = within("a read", copy.get_linearizable("/r/0")).await??.context("it is there")?;
    ensure!(read.value() == "end", "{read:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_of_stentor() -> Result<()> {
    copy_of(SERVERS[0]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_of_etcd_3_4() -> Result<()> {
    copy_of(SERVERS[1]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_of_etcd_3_5() -> Result<()> {
    copy_of(SERVERS[2]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_of_etcd_3_7() -> Result<()> {
    copy_of(SERVERS[3]).await
}
