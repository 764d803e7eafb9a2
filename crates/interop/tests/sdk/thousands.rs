//! Ten thousand watches of one client through a restart of the server.

use std::time::Instant;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use stentor_client::KeyRange;

use crate::rig::{Follower, SERVERS, at, start};

const WATCHES: usize = 10_000;
/// Connections through which they may all go, at most.
const CONNECTIONS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_through_a_restart() -> Result<()> {
    let Some(mut rig) = start(SERVERS[0], "ten thousand watches").await? else { return Ok(()) };
    let begin = rig.put("/w", "0").await?;
    let client = &rig.client;
    let mut followers: Vec<_> = stream::iter(0..WATCHES)
        .map(async |number| {
            let range = KeyRange::interval("/w", format!("/x{number}"));
            let watch = client.watch(range).after(at(begin)).prev_kv().notices().progress().await?;
            anyhow::Ok(Follower::new(watch, begin))
        })
        .buffer_unordered(500)
        .try_collect()
        .await?;
    let connections: usize = rig.proxies.iter().map(|proxy| proxy.connections()).sum();
    ensure!(connections <= CONNECTIONS, "{connections} connections");

    rig.kill_and_restart().await?;
    let ready = Instant::now();
    for follower in &mut followers {
        follower.until("a resume", |progress| progress.resumes > 0).await?;
    }
    println!("{WATCHES} watches resumed within {:?} of the server's return", ready.elapsed());
    let last = rig.put("/w", "1").await?;
    let history = rig.history(last).await?;
    for follower in &mut followers {
        follower.until_it_has(&history).await?;
        ensure!(follower.check(&history)? == 1, "one change");
    }
    Ok(())
}
