//! kill -9 in a loop under load: writers, compactions and a watcher, SIGKILL at a random moment, a
//! restart, and then everything that was acknowledged is looked for.
//!
//! Every value is written once, so a change in history leads back to its write. A write that was not
//! acknowledged may be there or not; one that was must be, at the revision it was told.

mod busy;
pub(crate) mod check;
pub(crate) mod journal;
pub(crate) mod load;
pub(crate) mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::client::Client;
use crate::process::Server;
use busy::{Busy, During};
use journal::Journal;
use load::Found;

/// How often a round may be done over whose operation was answered just before the kill.
const ATTEMPTS: u64 = 20;

/// What to run.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Options {
    pub server: PathBuf,
    pub rounds: u64,
    pub seed: u64,
}

/// What a run reached.
#[derive(Debug, Default)]
pub struct Report(BTreeMap<&'static str, u64>);

impl Report {
    /// How often something was reached.
    pub fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, what: &'static str, count: usize) {
        *self.0.entry(what).or_default() += count as u64;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, count)| writeln!(f, "{count:>8}  {what}"))
    }
}

/// Runs the rounds, on one data directory.
///
/// # Errors
/// With the seed and the round when something acknowledged is gone, or anything disagrees.
pub async fn run(options: &Options) -> Result<Report> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut server = Server::start(&options.server, &[])?;
    let mut journal = Journal::default();
    let mut report = Report::default();
    load::fill(&mut Client::connect(&server.endpoint()).await?, &mut journal).await?;
    for round in 0..options.rounds {
        let during = match round % 3 {
            0 => During::Load,
            1 => During::Compaction,
            _ => During::Defragment,
        };
        for attempt in 0..ATTEMPTS {
            let context =
                || format!("seed {}, round {round}, attempt {attempt}, killed during {during:?}", options.seed);
            // What a round writes must be its own.
            let name = round * ATTEMPTS + attempt;
            let run = (name, rng.random(), during);
            if one_round(&mut server, &mut journal, &mut report, run).await.with_context(context)? {
                break;
            }
        }
        report.add("rounds", 1);
    }
    Ok(report)
}

/// Whether the kill met what it was to meet.
async fn one_round(
    server: &mut Server,
    journal: &mut Journal,
    report: &mut Report,
    (round, seed, during): (u64, u64, During),
) -> Result<bool> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut client = Client::connect(&server.endpoint()).await?;
    let load = load::start(&server.endpoint(), round, seed).await?;
    // How long is what varies here, not what is waited for.
    tokio::time::sleep(Duration::from_millis(rng.random_range(100..900))).await;
    let before = store::revision(&mut client).await?;
    let busy = Busy::start(&server.endpoint(), during, before - rng.random_range(10..60)).await?;
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..40))).await;
    let killed = Instant::now();
    server.kill();
    let (unanswered, compacted) = busy.finish(killed).await?;
    let found = load.finish().await?;
    let reached = during.reached().filter(|_| unanswered);
    if let Some(what) = reached {
        report.add(what, 1);
    }
    report.add("kills", 1);
    journal.at_least(before);
    after(server, journal, report, found, compacted).await?;
    Ok(during == During::Load || reached.is_some())
}

/// Starts the server again after its end and looks for everything that it acknowledged.
pub(crate) async fn after(
    server: &mut Server,
    journal: &mut Journal,
    report: &mut Report,
    found: Found,
    compacted: i64,
) -> Result<()> {
    report.add("acknowledged writes", found.journal.acknowledged());
    report.add("unacknowledged writes", found.journal.unanswered());
    report.add("events seen before the kill", found.events.len());
    journal.extend(found.journal);

    server.restart()?;
    let mut client = Client::connect(&server.endpoint()).await?;
    let store = store::Store::read(&mut client).await?;
    ensure!(store.revision >= journal.revision(), "revision {} after {}", store.revision, journal.revision());
    let compacted = found.compacted.max(compacted);
    ensure!(store.compacted >= compacted, "compacted {} after {compacted}", store.compacted);
    check::history(&store, journal).context("history")?;
    check::index(&store).context("the index disagrees with history")?;
    check::writes(&store, journal).context("a write is lost")?;
    check::seen(&store, &found.events).context("a watcher saw what is not there")?;
    let hashes = check::hashes(&mut client, &found.hashes).await.context("HashKV")?;
    let leases = check::leases(&mut client, &store, journal).await.context("leases")?;
    report.add("hashes compared", hashes);
    report.add("leases found", leases);
    report.add("events of history checked", store.history.len());
    Ok(())
}
