//! A cluster of three processes on loopback, under load through all members, whose members are killed,
//! paused, told to end, cut off from each other and left without room on their disks, from a seed. What
//! all that ask and watch were told is held against what the members publish, by the checks of the simulation.

mod cluster;
mod disk;
mod ending;
mod faults;
mod leases;
mod links;
mod load;
mod members;
mod stream;
mod watches;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::crash::Report;
use crate::peers::skipped;
use cluster::{Cluster, MEMBERS};
use faults::{FAULTS, Fault};

pub use disk::become_mounter;

/// A run that has not reached every effect goes on for so many times the faults that there are.
const MOST_ROUNDS: usize = 20;

/// What to run.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Options {
    pub server: PathBuf,
    /// Faults go on for so long, and until there was each of them and each effect.
    pub minutes: u64,
    pub seed: u64,
    /// The program that has [`launch`](crate::launch) as a command.
    pub launcher: PathBuf,
    /// Disks may be mounted: see [`become_mounter`]. Else none is filled.
    pub own_mounts: bool,
}

/// Runs the cluster for so many minutes.
///
/// # Errors
/// With the seed when something acknowledged is gone, members disagree, do not come back, or something
/// was never reached; data and logs are then kept, and the error says where.
pub async fn run(options: &Options) -> Result<Report> {
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let (mut end, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut cluster = Cluster::new(options, directory.path()).await?;
    let done = tokio::select! {
        done = run_on(&mut cluster, options) => done,
        _ = end.recv() => bail!("ended by SIGTERM"),
        _ = interrupt.recv() => bail!("ended by SIGINT"),
    };
    done.map_err(|error| {
        cluster.keep(directory.path());
        let place = directory.keep();
        error.context(format!("seed {}; data and logs are in {}", options.seed, place.display()))
    })
}

async fn run_on(cluster: &mut Cluster, options: &Options) -> Result<Report> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut report = Report::default();
    (0..MEMBERS).try_for_each(|n| cluster.spawn(n))?;
    cluster.comes_back().await?;
    let clients: Vec<Client> = cluster.members.iter().map(|member| member.client.clone()).collect();
    let mut load = load::start(&clients, rng.random());
    let faults = faults_of(options);
    let until = Instant::now() + Duration::from_secs(options.minutes * 60);
    for round in 0.. {
        let mut deck = faults.clone();
        deck.shuffle(&mut rng);
        for fault in deck {
            if round > 0 && Instant::now() >= until && ending::missing(&load.shared, cluster)?.is_empty() {
                return ending::check(cluster, load, report).await;
            }
            faults::inject(cluster, &load, fault, &mut rng).await.with_context(|| format!("{fault:?}"))?;
            cluster.comes_back().await.with_context(|| format!("after {fault:?}"))?;
            report.add(fault.name(), 1);
            load.check().await?;
            sleep(Duration::from_millis(rng.random_range(200..1500))).await;
        }
        let missing = ending::missing(&load.shared, cluster)?;
        ensure!(round < MOST_ROUNDS, "never reached: {}:\n{report}", missing.join(", "));
    }
    bail!("no rounds")
}

/// Those that this run can bring about.
fn faults_of(options: &Options) -> Vec<Fault> {
    if options.own_mounts {
        return FAULTS.to_vec();
    }
    skipped("full disks: mounting one needs root, or namespaces for users");
    FAULTS.into_iter().filter(|fault| !matches!(fault, Fault::FullDisk(_))).collect()
}
