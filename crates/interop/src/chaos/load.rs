//! Programs that write and read, leases, compactions and watches, through all members, until they are told to stop.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use stentor_checks::history::{Answer, Ask, History};
use stentor_checks::log::Log;
use stentor_checks::perform::perform;
use stentor_checks::random::Random;
use stentor_checks::workload::Workload;
use stentor_proto::etcdserverpb::CompactionRequest;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::cluster::PATIENCE;
use super::watches::{self, Record};
use super::{leases, members};
use crate::client::Client;

const PROGRAMS: u64 = 6;
const HOLDERS: u64 = 3;
const WATCHES: u64 = 6;
/// How long a member may take to answer before the program goes on without.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two requests of one program, at most, in milliseconds: what has to be remembered is bounded by time, not
/// by speed.
const PACE: u64 = 25;
/// Revisions that are never compacted away.
const KEEP: i64 = 500;
const COMPACT_EVERY: Duration = Duration::from_secs(7);

/// What all share.
pub(super) struct Shared {
    pub(super) clients: Vec<Client>,
    pub(super) state: Mutex<State>,
    pub(super) reached: Reached,
    /// The next revision that each member's watcher waits for.
    pub(super) next: Vec<AtomicI64>,
    over: AtomicBool,
    begun: Instant,
}

/// What was asked for and told.
#[derive(Default)]
pub(super) struct State {
    pub(super) log: Log,
    pub(super) history: History,
    pub(super) records: Vec<Record>,
}

/// What the load has come across.
#[derive(Default)]
pub(super) struct Reached {
    pub(super) unanswered: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) serializable_reads: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) refused_txns: AtomicU64,
    pub(super) compactions: AtomicU64,
    pub(super) renewals: AtomicU64,
    pub(super) revocations: AtomicU64,
    /// Streams that broke and went on, on the same member or another.
    pub(super) resumed: AtomicU64,
    pub(super) notes: AtomicU64,
    pub(super) compacted: AtomicU64,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The load, until it is told to stop.
pub(super) struct Load {
    pub(super) shared: Arc<Shared>,
    tasks: Vec<JoinHandle<Result<()>>>,
    /// They end once they have had everything.
    watchers: Vec<JoinHandle<Result<()>>>,
    compacter: JoinHandle<()>,
}

pub(super) fn start(clients: &[Client], seed: u64) -> Load {
    let mut random = Random::new(seed);
    let shared = Arc::new(Shared {
        clients: clients.to_vec(),
        state: Mutex::default(),
        reached: Reached::default(),
        next: clients.iter().map(|_| AtomicI64::new(2)).collect(),
        over: AtomicBool::new(false),
        begun: Instant::now(),
    });
    let mut tasks = Vec::new();
    for n in 0..PROGRAMS {
        tasks.push(tokio::spawn(program(shared.clone(), n, random.fork())));
    }
    for n in 0..HOLDERS {
        tasks.push(tokio::spawn(leases::hold_some(shared.clone(), n, random.fork())));
    }
    tasks.push(tokio::spawn(leases::keep_one(shared.clone(), random.fork())));
    let mut watchers = Vec::new();
    for member in 0..clients.len() {
        watchers.push(tokio::spawn(members::follow(shared.clone(), member)));
    }
    for n in 0..WATCHES {
        watchers.push(tokio::spawn(watches::run(shared.clone(), n, random.fork())));
    }
    let compacter = tokio::spawn(compact(shared.clone(), random.fork()));
    Load { shared, tasks, watchers, compacter }
}

impl Load {
    /// An error when somebody has found one.
    pub(super) async fn check(&mut self) -> Result<()> {
        for task in self.tasks.iter_mut().chain(&mut self.watchers).filter(|task| task.is_finished()) {
            task.await??;
        }
        ensure!(!self.tasks.iter().any(JoinHandle::is_finished), "a program has stopped");
        Ok(())
    }

    /// Ends what writes, then the watches once they have had everything.
    pub(super) async fn finish(self) -> Result<Arc<Shared>> {
        self.shared.over.store(true, Ordering::SeqCst);
        self.compacter.abort();
        for task in self.tasks {
            task.await??;
        }
        leases::others_end(&self.shared).await?;
        let newest = revision_of(&self.shared.clients).await?;
        let deadline = Instant::now() + PATIENCE;
        for watcher in self.watchers {
            while !watcher.is_finished() {
                let missing = self.shared.missing(newest);
                if missing.is_empty() {
                    watcher.abort();
                    break;
                }
                ensure!(Instant::now() < deadline, "revision {newest} is there, and {}", missing.join(", "));
                sleep(Duration::from_millis(20)).await;
            }
            match watcher.await {
                Err(error) if error.is_cancelled() => {}
                ended => ended??,
            }
        }
        Ok(self.shared)
    }
}

async fn revision_of(clients: &[Client]) -> Result<i64> {
    let mut newest = 0;
    for client in clients {
        newest = newest.max(crate::crash::store::revision(&mut client.clone()).await?);
    }
    Ok(newest)
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Since the begin of the load.
    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Any member.
    pub(super) fn client(&self, random: &mut Random) -> Client {
        let n = random.below(self.clients.len() as u64) as usize;
        self.clients[n].clone()
    }

    /// Asks for an operation, whose values begin with its number, and keeps its answer, if one comes in time.
    pub(super) async fn operate(
        &self,
        client: &Client,
        name: &str,
        ask: impl FnOnce(Bytes) -> Ask,
    ) -> Result<(), Status> {
        let (at, ask) = {
            let mut state = self.lock();
            let ask = ask(format!("{}.", state.history.operations.len()).into());
            (state.history.ask(name.to_owned(), ask.clone()), ask)
        };
        self.perform(client, at, &ask).await
    }

    async fn perform(&self, client: &Client, at: usize, ask: &Ask) -> Result<(), Status> {
        let answered = answer(perform(client.kv.clone(), ask)).await;
        let (revision, answer) = answered.inspect_err(|_| count(&self.reached.unanswered))?;
        count(match (ask, &answer) {
            (Ask::Read { serializable: true, .. }, _) => &self.reached.serializable_reads,
            (Ask::Read { .. }, _) => &self.reached.reads,
            (_, Answer::Txn(Err(_))) => &self.reached.refused_txns,
            _ => &self.reached.writes,
        });
        self.lock().history.answer(at, revision, answer);
        Ok(())
    }

    /// Who has not had everything up to a revision.
    fn missing(&self, newest: i64) -> Vec<String> {
        let behind = |(n, next): (usize, &AtomicI64)| {
            let next = next.load(Ordering::SeqCst);
            (next <= newest).then(|| format!("the watcher of member {n} waits for {next}"))
        };
        let mut missing: Vec<_> = self.next.iter().enumerate().filter_map(behind).collect();
        if missing.is_empty() {
            // Only then the log is whole.
            let state = self.lock();
            missing.extend(state.records.iter().filter_map(|record| record.missing(&state.log)));
        }
        missing
    }
}

/// What comes of a call, if it comes in time.
pub(super) async fn answer<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(ANSWER, call).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
}

async fn program(shared: Arc<Shared>, number: u64, mut random: Random) -> Result<()> {
    let mut workload = Workload::of_small_values(random.fork());
    while !shared.is_over() {
        let (at, ask) = {
            let mut state = shared.lock();
            let ask = workload.next(&state.log, state.history.operations.len());
            (state.history.ask(format!("p{number}"), ask.clone()), ask)
        };
        // Without an answer it may have happened.
        let _ = shared.perform(&shared.client(&mut random), at, &ask).await;
        sleep(random.millis(0, PACE)).await;
    }
    Ok(())
}

/// Compacts what every member's watcher has had.
async fn compact(shared: Arc<Shared>, mut random: Random) {
    loop {
        sleep(COMPACT_EVERY).await;
        let had = shared.next.iter().map(|next| next.load(Ordering::SeqCst)).min().unwrap_or_default();
        if had > KEEP {
            let request = CompactionRequest { revision: had - KEEP, physical: false };
            // Without an answer it may happen.
            shared.lock().log.compactions.insert(request.revision);
            if answer(shared.client(&mut random).kv.compact(request)).await.is_ok() {
                count(&shared.reached.compactions);
            }
        }
    }
}
