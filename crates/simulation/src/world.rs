//! What all hosts of a run share beside the network: the log, how far each member is, and what was seen.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stentor_server::storage::Disks;

use crate::log::{Log, Op};
use crate::member;
use crate::reached::Counted;
use crate::watcher::Record;

/// What a client does by default.
const PINGS_EVERY: Duration = Duration::from_secs(10);

/// A handle; clones share everything. All hosts run on one thread.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

/// The state of a run.
pub(crate) struct State {
    pub(crate) log: Log,
    /// When each entry was written.
    pub(crate) written_at: Vec<Duration>,
    /// So many entries of the log are there: less than all after a restore.
    pub(crate) length: usize,
    pub(crate) cluster: u64,
    pub(crate) members: Vec<MemberState>,
    pub(crate) counted: Counted,
    /// Client and member between which nothing can be told to the other, and since when.
    pub(crate) dead_links: Vec<(usize, usize, Duration)>,
    pub(crate) records: Vec<Record>,
    /// Slow programs become fast, and no new watch is begun.
    pub(crate) closing: bool,
    pub(crate) trace: Vec<String>,
}

/// One member, running or not.
pub(crate) struct MemberState {
    pub(crate) disks: Disks,
    pub(crate) applied: usize,
    /// How long an entry takes to come here.
    pub(crate) lag: Duration,
    /// Nothing comes here.
    pub(crate) is_cut_off: bool,
}

impl World {
    pub(crate) fn new(members: usize) -> World {
        let member = || MemberState { disks: Disks::new(), applied: 0, lag: Duration::ZERO, is_cut_off: false };
        World(Arc::new(Mutex::new(State {
            log: Log::new(),
            written_at: Vec::new(),
            length: 0,
            cluster: 0xc1,
            members: (0..members).map(|_| member()).collect(),
            counted: Counted::default(),
            dead_links: Vec::new(),
            records: Vec::new(),
            closing: false,
            trace: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn write(&mut self, op: Op, at: Duration) {
        self.log.append(op);
        self.written_at.push(at);
        self.length = self.log.entries.len();
    }

    /// The entry after `applied`, if it has come to this member.
    pub(crate) fn due(&self, member: usize, applied: usize, now: Duration) -> Option<Op> {
        let state = self.members.get(member).filter(|state| !state.is_cut_off)?;
        let written = *self.written_at.get(applied)?;
        (applied < self.length && written + state.lag <= now).then(|| self.log.entries.get(applied).cloned())?
    }

    /// How many entries lead to a revision, without those after them that change nothing.
    pub(crate) fn entries_at(&self, revision: i64) -> usize {
        if revision <= 1 {
            return 0;
        }
        self.log.revisions.iter().position(|after| *after >= revision).map_or(0, |last| last + 1)
    }

    /// Whether the link has been dead for as long as a client waits with its first ping.
    pub(crate) fn is_link_dead(&self, client: usize, endpoint: &str, now: Duration) -> bool {
        let dead = |(c, m, since): &(usize, usize, Duration)| {
            *c == client && member::endpoint(*m) == endpoint && *since + PINGS_EVERY <= now
        };
        self.dead_links.iter().any(dead)
    }

    /// How far a member's store is.
    pub(crate) fn applied_revision(&self, endpoint: &str) -> i64 {
        let member = (0..).zip(&self.members).find(|(number, _)| member::endpoint(*number) == endpoint);
        let last = member.and_then(|(_, member)| member.applied.checked_sub(1));
        last.and_then(|last| self.log.revisions.get(last).copied()).unwrap_or(1)
    }

    pub(crate) fn note(&mut self, at: Duration, what: impl std::fmt::Display) {
        self.trace.push(format!("{:>6} ms  {what}", at.as_millis()));
    }
}

/// Simulated time since the start of the run.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}
