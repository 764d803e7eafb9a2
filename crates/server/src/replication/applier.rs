//! Applies what is committed, in order, and answers who proposed it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stentor_mvcc::{Answer, LogPosition, Outcome, Store};
use stentor_proto::Revision;
use stentor_proto::log_entry::{self, LogEntryError, ProposalId};
use stentor_proto::storagepb::{LogEntry, log_entry::Op};
use stentor_raft::{Change, Committed, Payload};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::arrived::Arrived;
use super::pending::{Pending, Waiting};
use super::proposer::{Halt, WriteHealth};
use crate::failpoints;
use crate::lessor::Lessor;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::storage::Received;

/// Bytes of entries after which a group is closed, so that a burst of large writes doesn't hold up small
/// ones.
const MAX_GROUP_BYTES: usize = 1 << 20;

/// How far the applier is. The driver is woken only if it waits: a lone write has nobody to tell.
#[derive(Debug)]
pub(crate) struct Progress {
    applied: AtomicU64,
    /// The last entry that a majority has, as far as is known here.
    committed: AtomicU64,
    /// The log goes on after this entry.
    log_start: AtomicU64,
    /// The driver wants to know once this entry is applied.
    wanted: AtomicU64,
    reached: Notify,
}

impl Progress {
    pub(super) fn new(applied: u64) -> Progress {
        Progress {
            applied: AtomicU64::new(applied),
            committed: AtomicU64::new(applied),
            log_start: AtomicU64::new(0),
            wanted: AtomicU64::new(u64::MAX),
            reached: Notify::new(),
        }
    }

    /// The last entry known to be committed.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    pub(super) fn set_committed(&self, index: u64) {
        self.committed.store(index, Ordering::Relaxed);
    }

    /// The entry that the log goes on after.
    pub(crate) fn log_start(&self) -> u64 {
        self.log_start.load(Ordering::Relaxed)
    }

    pub(super) fn set_log_start(&self, index: u64) {
        self.log_start.store(index, Ordering::Relaxed);
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::SeqCst)
    }

    /// [`Progress::reached`] returns once this entry is applied; `None` to wait for nothing.
    pub(super) fn want(&self, index: Option<u64>) {
        let index = index.unwrap_or(u64::MAX);
        self.wanted.store(index, Ordering::SeqCst);
        // It may have been applied just before.
        if self.applied() >= index {
            self.reached.notify_one();
        }
    }

    /// Waits for what is wanted. Cancel safe.
    pub(super) async fn reached(&self) {
        self.reached.notified().await;
    }

    fn set(&self, index: u64) {
        self.applied.store(index, Ordering::SeqCst);
        if self.wanted.load(Ordering::SeqCst) <= index {
            self.reached.notify_one();
        }
    }
}

/// What the applier is to do, in this order.
pub(super) enum Work {
    /// Apply these.
    Apply(Vec<Committed>),
    /// This store, which the log goes on from, takes the place of the present one.
    Install(Arrived, LogPosition),
}

/// Applies committed entries.
pub(crate) struct Applier {
    pub(super) work: mpsc::UnboundedReceiver<Work>,
    /// Changes of the membership that were applied.
    pub(super) changed: mpsc::UnboundedSender<Change>,
    pub(super) store: Arc<Store>,
    pub(super) received: Arc<dyn Received>,
    /// Who the others are follows the store.
    pub(super) peers: Arc<Peers>,
    /// Told of compactions that were accepted.
    pub(super) compactions: watch::Sender<Revision>,
    /// Told when this member is none any more.
    pub(super) removed: watch::Sender<bool>,
    pub(super) member_id: u64,
    /// Changes of who takes part that are before this entry do nothing.
    pub(super) members_from: u64,
    pub(super) lessor: Arc<Lessor>,
    pub(super) pending: Arc<Pending>,
    pub(super) progress: Arc<Progress>,
    pub(super) slow: Duration,
    pub(super) health: Arc<WriteHealth>,
    pub(super) metrics: Metrics,
}

/// Committed entries as the store takes them.
#[derive(Default)]
struct Group {
    entries: Vec<LogEntry>,
    /// Of the same length, as are the two that follow.
    ids: Vec<ProposalId>,
    terms: Vec<u64>,
    bodies: Vec<bytes::Bytes>,
    last: LogPosition,
    bytes: usize,
    /// A change of the membership ends its group.
    change: Option<Change>,
}

impl Applier {
    /// Applies until the driver has ended and all that it committed is applied, or until it can't go on.
    pub(crate) async fn run(mut self) {
        while let Some(work) = self.work.recv().await {
            if let Err(halt) = self.do_all(work) {
                if self.health.set(&halt) {
                    error!(error = %halt, "the store can't apply writes");
                }
                self.pending.fail(&halt);
                return;
            }
        }
        self.pending.stop();
    }

    /// Applies what is there, and what has been committed meanwhile.
    pub(super) fn do_all(&mut self, work: Work) -> Result<(), Halt> {
        let mut group = Group::default();
        let mut next = Some(work);
        while let Some(work) = next {
            match work {
                Work::Apply(committed) => {
                    for mut entry in committed {
                        if matches!(entry.payload, Payload::Change(..)) && entry.position.index < self.members_from {
                            entry.payload = Payload::Nothing;
                        }
                        group.add(entry)?;
                        if group.bytes >= MAX_GROUP_BYTES || group.change.is_some() {
                            self.apply(std::mem::take(&mut group))?;
                        }
                    }
                }
                Work::Install(arrived, position) => {
                    // What it holds goes beyond all that was handed out before.
                    group = Group::default();
                    self.install(arrived, position)?;
                }
            }
            next = self.work.try_recv().ok();
        }
        if group.last == LogPosition::default() { Ok(()) } else { self.apply(group) }
    }

    fn install(&mut self, arrived: Arrived, position: LogPosition) -> Result<(), Halt> {
        failpoints::BEFORE_OPEN_SNAPSHOT.hit();
        self.received.adopt().map_err(stentor_mvcc::Error::from)?;
        self.store.replace(arrived.engine.clone())?;
        let view = self.store.view();
        info!(index = position.index, revision = view.revision().get(), "a store was received and is in use");
        self.follow_members();
        self.metrics.server.proposals_applied.set(position.index as i64);
        self.progress.set(position.index);
        arrived.settle();
        Ok(())
    }

    fn follow_members(&self) {
        let view = self.store.view();
        self.peers.follow(view.members());
        if view.members().is_removed(self.member_id) {
            self.removed.send_if_modified(|removed| !std::mem::replace(removed, true));
        }
    }

    fn apply(&self, mut group: Group) -> Result<(), Halt> {
        let start = Instant::now();
        let mut waiting = self.pending.take(group.ids.iter().copied());
        for (waiting, body) in waiting.iter_mut().zip(std::mem::take(&mut group.bodies)) {
            // Who proposed it here has it as it was; what others proposed is decoded.
            let entry = match waiting {
                Some(waiting) => std::mem::take(&mut waiting.entry),
                None => log_entry::decode(body)?,
            };
            group.entries.push(entry);
        }
        for (entry, term) in group.entries.iter_mut().zip(&group.terms) {
            if entry.only_in_term != 0 && entry.only_in_term != *term {
                // Whoever proposed it has lost its office on the way.
                entry.op = None;
            }
        }
        if group.change.is_some() {
            failpoints::BEFORE_CONF_CHANGE.hit();
        }
        let store = self.store.clone();
        store.apply_and_answer(&group.entries, group.last, |outcomes| match outcomes {
            Ok(outcomes) => {
                self.answer(start, &group, waiting, outcomes);
                Ok(())
            }
            Err(error) => {
                let halt = Halt::Store(error);
                // Whether they will be there after a restart is not known here.
                let waiting = waiting.into_iter().flatten();
                waiting.for_each(|waiting| drop(waiting.answer.send(Err(halt.clone()))));
                Err(halt)
            }
        })
    }

    fn answer(&self, start: Instant, group: &Group, waiting: Vec<Option<Waiting>>, outcomes: Vec<Outcome>) {
        let mut changes_members = false;
        for (entry, outcome) in group.entries.iter().zip(&outcomes) {
            if let Ok(answer) = outcome {
                self.metrics.count_applied(answer);
                self.follow(entry);
                changes_members |= matches!(answer, Answer::Members(_));
            }
        }
        if changes_members {
            self.follow_members();
        }
        let took = start.elapsed();
        self.metrics.disk.backend_commit_duration.observe(took.as_secs_f64());
        self.metrics.server.proposals_applied.set(group.last.index as i64);
        if took > self.slow {
            self.metrics.server.slow_apply.inc();
            warn!(took_ms = took.as_millis() as u64, requests = outcomes.len(), "apply request took too long");
        }
        // A change that the store has refused does nothing in the log either.
        let change = group.change.filter(|_| outcomes.last().is_some_and(Result::is_ok));
        for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
            if let Some(waiting) = waiting {
                // Who proposed it may be gone.
                let _ = waiting.answer.send(Ok(outcome));
            }
        }
        if let Some(change) = change {
            // Without a driver the member stops.
            let _ = self.changed.send(change);
        }
        self.progress.set(group.last.index);
    }

    fn follow(&self, entry: &LogEntry) {
        match &entry.op {
            Some(Op::Compact(compact)) => {
                let revision = Revision::new(compact.revision).unwrap_or_default();
                self.compactions.send_if_modified(|last| revision > std::mem::replace(last, revision.max(*last)));
            }
            Some(Op::LeaseGrant(grant)) => self.lessor.granted(grant.id, grant.ttl),
            Some(Op::LeaseRevoke(revoke)) => self.lessor.revoked(revoke.id),
            _ => {}
        }
    }
}

impl Group {
    fn add(&mut self, committed: Committed) -> Result<(), LogEntryError> {
        self.last = LogPosition { term: committed.position.term, index: committed.position.index };
        let data = match committed.payload {
            Payload::Nothing => return Ok(()),
            Payload::Entry(data) => data,
            Payload::Change(change, data) => {
                self.change = Some(change);
                data
            }
        };
        self.bytes += data.len();
        let (id, body) = log_entry::split(data)?;
        self.ids.push(id);
        self.terms.push(committed.position.term);
        self.bodies.push(body);
        Ok(())
    }
}
