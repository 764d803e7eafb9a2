//! A cluster of three processes on loopback, under load through all members, whose members are killed,
//! paused, told to end and cut off, from a seed. At the end everything that was acknowledged is looked for
//! on each.
//!
//! Each member's peer URL is a proxy, so a cut closes the links *towards* one member and leaves those
//! from it open. A paused member is cut off in both directions.

mod check;
mod cluster;
mod load;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng};
use stentor_proto::etcdserverpb::{HashKvRequest, LeaseTimeToLiveRequest};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::crash::store::Store;
use crate::crash::{Report, check as crash_check};
use crate::proxy::Mode;
use check::History;
use cluster::Cluster;
use load::{Found, Load};

/// From this length on each fault and each of [`EFFECTS`] must have been reached.
const ENOUGH: u64 = 3;
/// A pass over all faults takes about a minute.
const FAULTS: [Fault; 10] = [
    Fault::Kill(Whom::Leader),
    Fault::Kill(Whom::Other),
    Fault::Kill(Whom::Two),
    Fault::Kill(Whom::All),
    Fault::Pause(Whom::Leader),
    Fault::Pause(Whom::Other),
    Fault::HandOver,
    Fault::Links(Mode::Refusing),
    Fault::Links(Mode::Held),
    Fault::Links(Mode::Slow(Duration::from_millis(40))),
];
const EFFECTS: [&str; 9] = [
    "acknowledged writes",
    "writes not acknowledged",
    "linearizable reads",
    "watch streams opened again",
    "changes of the leader",
    "snapshots received",
    "handed over",
    "compactions",
    "leases left to end",
];

/// What to run.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Options {
    pub server: PathBuf,
    pub minutes: u64,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Whom {
    Leader,
    Other,
    Two,
    All,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGKILL.
    Kill(Whom),
    /// SIGSTOP, and SIGCONT later.
    Pause(Whom),
    /// SIGTERM to the leader.
    HandOver,
    /// What the links towards one member do.
    Links(Mode),
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::Kill(Whom::Leader) => "kills of the leader",
            Fault::Kill(Whom::Other) => "kills of a follower",
            Fault::Kill(Whom::Two) => "kills of two",
            Fault::Kill(Whom::All) => "kills of all",
            Fault::Pause(Whom::Leader) => "pauses of the leader",
            Fault::Pause(_) => "pauses of a follower",
            Fault::HandOver => "ends of the leader by SIGTERM",
            Fault::Links(Mode::Refusing) => "cut links",
            Fault::Links(Mode::Held) => "held links",
            Fault::Links(_) => "slow links",
        }
    }
}

/// Runs the cluster for so many minutes.
///
/// # Errors
/// With the seed when something acknowledged is gone, members disagree, do not come back, or something
/// was never reached; data and logs are then kept, and the error says where.
pub async fn run(options: &Options) -> Result<Report> {
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let (mut end, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let done = tokio::select! {
        done = run_in(options, directory.path()) => done,
        _ = end.recv() => bail!("ended by SIGTERM"),
        _ = interrupt.recv() => bail!("ended by SIGINT"),
    };
    let kept = |_: &anyhow::Error| directory.path().display().to_string();
    match done {
        Ok(report) => Ok(report),
        Err(error) => {
            let place = kept(&error);
            let _ = directory.keep();
            Err(error.context(format!("seed {}; data and logs are in {place}", options.seed)))
        }
    }
}

async fn run_in(options: &Options, directory: &std::path::Path) -> Result<Report> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut report = Report::default();
    let mut cluster = Cluster::start(&options.server, directory).await?;
    let clients: Vec<Client> = cluster.members.iter().map(|member| member.client.clone()).collect();
    let mut load = load::start(&clients, rng.random());
    let until = Instant::now() + Duration::from_secs(options.minutes * 60);
    let mut deck = Vec::new();
    while Instant::now() < until {
        let Some(fault) = deck.pop() else {
            deck.extend(FAULTS);
            deck.shuffle(&mut rng);
            continue;
        };
        inject(&mut cluster, fault, &mut rng).await.with_context(|| format!("{fault:?}"))?;
        cluster.comes_back().await.with_context(|| format!("after {fault:?}"))?;
        report.add(fault.name(), 1);
        if let Err(error) = load.check().await {
            // Whoever stopped says why.
            load.finish().await?;
            return Err(error);
        }
        sleep(Duration::from_millis(rng.random_range(200..1500))).await;
    }
    finish(&mut cluster, load, &mut report).await?;
    if options.minutes >= ENOUGH {
        let all = FAULTS.iter().map(|fault| fault.name()).chain(EFFECTS);
        let missing: Vec<_> = all.filter(|what| report.count(what) == 0).collect();
        ensure!(missing.is_empty(), "never reached: {}:\n{report}", missing.join(", "));
    }
    Ok(report)
}

/// Lets something fail for a while, and heals it.
async fn inject(cluster: &mut Cluster, fault: Fault, rng: &mut StdRng) -> Result<()> {
    let leader = cluster.leader().await?;
    let other = (leader + rng.random_range(1..3)) % 3;
    let lasts = Duration::from_millis(rng.random_range(500..5000));
    match fault {
        Fault::Kill(whom) => {
            let whom = match whom {
                Whom::Leader => vec![leader],
                Whom::Other => vec![other],
                Whom::Two => vec![leader, other],
                Whom::All => vec![0, 1, 2],
            };
            whom.iter().for_each(|n| cluster.members[*n].kill());
            sleep(lasts).await;
            whom.iter().try_for_each(|n| cluster.members[*n].spawn())?;
        }
        Fault::Pause(whom) => {
            let member = &cluster.members[if matches!(whom, Whom::Leader) { leader } else { other }];
            member.signal("STOP")?;
            sleep(lasts).await;
            member.signal("CONT")?;
        }
        Fault::HandOver => {
            cluster.members[leader].signal("TERM")?;
            cluster.members[leader].ends().await?;
            cluster.members[leader].spawn()?;
        }
        Fault::Links(mode) => {
            let proxy = &cluster.members[rng.random_range(0..3)].proxy;
            proxy.set(mode);
            sleep(lasts).await;
            proxy.set(Mode::Open);
        }
    }
    Ok(())
}

/// Stops the load and compares all that was told with what each member has.
async fn finish(cluster: &mut Cluster, load: Load, report: &mut Report) -> Result<()> {
    let shared = load.shared.clone();
    let Found { journal, reads } = load.finish().await?;
    let history = shared.history.lock().map_err(PoisonError::into_inner);
    let history = std::mem::take(&mut *history.unwrap_or_else(|guard| guard));
    check::once(&history, &journal)?;
    check::reads(&history, &reads).context("a linearizable read")?;
    let mut hashes = BTreeMap::new();
    for member in &cluster.members {
        let mut client = member.client.clone();
        same(&history, &mut client, &journal).await.with_context(|| member.name.clone())?;
        for id in journal.leases.iter().copied() {
            let left = client.lease.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: false }).await?.into_inner();
            ensure!(left.ttl > 0, "{}: lease {id:x} was kept alive and is gone", member.name);
        }
        let revision = history.revision();
        let hash = client.maintenance.hash_kv(HashKvRequest { revision }).await?.into_inner();
        hashes.insert(member.name.clone(), (hash.hash, hash.compact_revision));
    }
    let mut distinct: Vec<_> = hashes.values().collect();
    distinct.dedup();
    ensure!(distinct.len() == 1, "HashKV differs: {hashes:?}");
    let count = |counter: &std::sync::atomic::AtomicI64| counter.load(Ordering::SeqCst) as usize;
    report.add("acknowledged writes", journal.acknowledged());
    report.add("writes not acknowledged", journal.unanswered());
    report.add("linearizable reads", reads.len());
    report.add("events", history.events().len());
    report.add("watch streams opened again", count(&shared.reconnects));
    report.add("compactions", count(&shared.compactions));
    report.add("leases left to end", count(&shared.ended));
    report.add("changes of the leader", cluster.leaders.len().saturating_sub(1));
    report.add("snapshots received", cluster.logged("a store was received and is in use")?);
    report.add("handed over", cluster.logged("the office was handed over")?);
    Ok(())
}

/// A member's store is what history and the acknowledged writes make of it.
async fn same(history: &History, client: &mut Client, journal: &crate::crash::journal::Journal) -> Result<()> {
    let mut store = Store::read(client).await?;
    let events = history.events();
    let above = events.iter().filter(|event| crate::stream::revision_of(event) > store.compacted);
    let known = |told: &Vec<stentor_proto::mvccpb::Event>| above.take(told.len() + 1).eq(told);
    ensure!(
        store.revision == history.revision() && known(&store.history),
        "its history is another than watchers were told: revision {} and {}",
        store.revision,
        history.revision()
    );
    // All that was ever written, not just what was not compacted.
    (store.compacted, store.history) = (0, events);
    store.base.clear();
    crash_check::history(&store, journal).context("history")?;
    crash_check::index(&store).context("the pairs disagree with history")?;
    crash_check::writes(&store, journal).context("a write is lost")
}
