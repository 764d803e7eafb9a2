//! Watches go on after whatever breaks under them.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use stentor_client::KeyRange;
use stentor_interop::proxy::Mode;

use crate::rig::{Follower, Rig, SERVERS, at, start, until};

/// Faults in a row, each after a few writes.
const ROUNDS: usize = 12;

/// What is done to the links or the server. All of them are gone through in turn.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Connections are reset.
    Cut,
    /// One is reset in the middle of what the server sends.
    CutWithin,
    /// Links become slow, then are reset.
    Slow,
    /// Nobody can connect while writes go on.
    Refused,
    /// kill -9.
    Killed,
    /// One endpoint stays unreachable from here on, and then the other takes its place.
    Swapped,
}

const FAULTS: [Fault; 6] = [Fault::Cut, Fault::CutWithin, Fault::Slow, Fault::Refused, Fault::Killed, Fault::Swapped];

async fn follow_all(rig: &Rig, from: i64) -> Result<Vec<Follower>> {
    let ranges = [
        KeyRange::key("/task/10.0.0.1"),
        KeyRange::segment("/task/10.0.0.1"),
        KeyRange::prefix("/task/"),
        KeyRange::interval("/task/10.0.0.1/b", "/task/10.0.0.10"),
        KeyRange::from_key("/task/10.0.0.10"),
        KeyRange::all(),
    ];
    let mut followers = Vec::new();
    for (number, range) in ranges.into_iter().enumerate() {
        let watch = rig.client.watch(range).prev_kv().notices().progress();
        // From now on, from a revision in the past, and after one.
        followers.push(match number % 3 {
            0 => Follower::new(watch.await?, from),
            1 => Follower::new(watch.from(at(2)).await?, 1),
            _ => Follower::new(watch.after(at(from - 1)).await?, from - 1),
        });
    }
    Ok(followers)
}

async fn write(rig: &mut Rig, random: &mut StdRng) -> Result<i64> {
    const KEYS: [&str; 6] =
        ["/task/10.0.0.1", "/task/10.0.0.1/a", "/task/10.0.0.1/c", "/task/10.0.0.10", "/task/10.0.0.10/a", "/other"];
    let mut revision = 0;
    for number in 0..random.random_range(3..12) {
        let key = KEYS[random.random_range(0..KEYS.len())];
        revision = match random.random_range(0..4) {
            0 => rig.delete(key).await?,
            _ => rig.put(key, &format!("{number}")).await?,
        };
    }
    // A revision that concerns all but one, so that there is something to wait for.
    rig.put("/task/10.0.0.1", &format!("after {revision}")).await
}

async fn inflict(rig: &mut Rig, fault: Fault, random: &mut StdRng) -> Result<()> {
    match fault {
        Fault::Cut => {
            write(rig, random).await?;
            rig.proxies.iter().for_each(|proxy| proxy.cut());
        }
        Fault::CutWithin => {
            for proxy in &rig.proxies {
                proxy.cut_after(random.random_range(1..400));
            }
            // The streams are on one of them, or on both.
            while rig.proxies.iter().all(|proxy| proxy.will_cut()) {
                write(rig, random).await?;
            }
            rig.proxies.iter().for_each(|proxy| proxy.cut_after(u64::MAX));
        }
        Fault::Slow => {
            rig.proxies.iter().for_each(|proxy| proxy.set(Mode::Slow(Duration::from_millis(20))));
            write(rig, random).await?;
            rig.proxies.iter().for_each(|proxy| proxy.cut());
            write(rig, random).await?;
        }
        Fault::Refused => {
            rig.proxies.iter().for_each(|proxy| proxy.set(Mode::Refusing));
            until("no connection", || rig.proxies.iter().all(|proxy| proxy.connections() == 0)).await?;
            write(rig, random).await?;
        }
        Fault::Killed => rig.kill_and_restart().await?,
        Fault::Swapped => {
            rig.proxies[0].set(Mode::Refusing);
            write(rig, random).await?;
            rig.proxies[1].cut();
            write(rig, random).await?;
            rig.proxies[0].set(Mode::Open);
            rig.proxies[1].set(Mode::Refusing);
        }
    }
    Ok(())
}

async fn survive(variable: &str, seed: u64) -> Result<()> {
    let Some(mut rig) = start(variable, "watches across breaks").await? else { return Ok(()) };
    let random = &mut StdRng::seed_from_u64(seed);
    let from = write(&mut rig, random).await?;
    let mut followers = follow_all(&rig, from).await?;
    for round in 0..ROUNDS {
        let fault = FAULTS[round % FAULTS.len()];
        let resumed: Vec<_> = followers.iter().map(Follower::resumes).collect();
        inflict(&mut rig, fault, random).await?;
        rig.proxies.iter().for_each(|proxy| proxy.set(Mode::Open));
        let last = write(&mut rig, random).await?;
        let history = rig.history(last).await?;
        for (follower, before) in followers.iter_mut().zip(resumed) {
            follower.until_it_has(&history).await?;
            if !matches!(fault, Fault::CutWithin | Fault::Swapped) {
                follower.until("a resume", |progress| progress.resumes > before).await?;
            }
            follower.check(&history)?;
        }
    }
    let resumes: u64 = followers.iter().map(Follower::resumes).sum();
    ensure!(resumes >= (followers.len() * ROUNDS / 2) as u64, "only {resumes} resumes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stentor() -> Result<()> {
    survive(SERVERS[0], 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_3_4() -> Result<()> {
    survive(SERVERS[1], 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_3_5() -> Result<()> {
    survive(SERVERS[2], 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_3_7() -> Result<()> {
    survive(SERVERS[3], 4).await
}
