//! The way of a write: proposed, applied in order, answered.
//!
//! A [`Proposer`] hands entries to the `Applier`, which takes whatever has queued up meanwhile as one
//! group: one batch, one sync. There is no timer: a lone write goes at once, and under load the group is
//! what came in during the last sync. A replicated log will stand between the two.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use stentor_mvcc::{Error, LogPosition, Outcome, Store};
use stentor_proto::EtcdError;
use stentor_proto::storagepb::{LogEntry, log_entry::Op};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{error, warn};

use crate::lessor::Lessor;
use crate::metrics::Metrics;

/// Writes that may wait to be applied; more are refused with "too many requests".
pub const MAX_PENDING: usize = 5_000;

/// Bytes after which a group is closed, so that a burst of large writes doesn't hold up small ones.
const MAX_GROUP_BYTES: usize = 1 << 20;

/// Why a proposal brought no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// An answer of the protocol: refused, too many requests, timed out, stopped.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The store can't go on. Whether the write is there shows after a restart.
    #[error(transparent)]
    Store(Error),
}

struct Proposal {
    entry: LogEntry,
    bytes: usize,
    answer: oneshot::Sender<Result<Outcome, Error>>,
}

/// Proposes writes.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Proposal>,
    max_request_bytes: usize,
    time_limit: Duration,
    metrics: Metrics,
}

impl Proposer {
    /// Proposes a write and waits for its answer. When the caller goes away, the write may still be
    /// applied.
    ///
    /// # Errors
    /// `RequestTooLarge`, `RequestTooManyRequests`, `Timeout` (it may be applied yet), `Stopped`; what the
    /// store refuses; a failed store.
    pub async fn propose(&self, entry: LogEntry) -> Result<stentor_mvcc::Answer, ProposeError> {
        let bytes = entry.encoded_len();
        if bytes > self.max_request_bytes {
            return Err(EtcdError::RequestTooLarge.into());
        }
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Proposal { entry, bytes, answer }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => EtcdError::RequestTooManyRequests,
            mpsc::error::TrySendError::Closed(_) => EtcdError::Stopped,
        })?;
        let _pending = Pending::begin(&self.metrics);
        match timeout(self.time_limit, answered).await {
            Ok(Ok(Ok(outcome))) => Ok(outcome?),
            Ok(Ok(Err(error))) => Err(ProposeError::Store(error)),
            Ok(Err(_)) => Err(EtcdError::Stopped.into()),
            Err(_) => {
                self.metrics.server.proposals_failed.inc();
                Err(EtcdError::Timeout.into())
            }
        }
    }
}

/// Counts a proposal as pending until it is dropped, however its caller ends.
struct Pending<'a>(&'a Metrics);

impl Pending<'_> {
    fn begin(metrics: &Metrics) -> Pending<'_> {
        metrics.server.proposals_pending.inc();
        Pending(metrics)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.server.proposals_pending.dec();
    }
}

/// Whether the last group could be applied: what health tells of the disk.
#[derive(Debug, Default)]
pub(crate) struct WriteHealth(Mutex<Option<String>>);

impl WriteHealth {
    /// Why the last group could not be applied.
    pub(crate) fn failure(&self) -> Option<String> {
        self.0.lock().clone()
    }

    fn set(&self, failure: Option<String>) {
        *self.0.lock() = failure;
    }
}

/// Applies proposals in order.
pub(crate) struct Applier {
    queue: mpsc::Receiver<Proposal>,
    store: Arc<Store>,
    lessor: Arc<Lessor>,
    /// The place of the last entry applied.
    last: LogPosition,
    slow: Duration,
    health: Arc<WriteHealth>,
    metrics: Metrics,
}

/// How proposals are limited and warned of.
pub(crate) struct Limits {
    pub(crate) max_request_bytes: usize,
    /// How long a proposal may take from start to answer.
    pub(crate) time_limit: Duration,
    /// A group that takes longer than this to apply is warned of.
    pub(crate) slow: Duration,
}

/// Both ends of the queue of writes.
pub(crate) fn queue(
    store: Arc<Store>,
    lessor: Arc<Lessor>,
    term: u64,
    limits: &Limits,
    health: Arc<WriteHealth>,
    metrics: &Metrics,
) -> (Proposer, Applier) {
    let (sender, receiver) = mpsc::channel(MAX_PENDING);
    let proposer = Proposer {
        queue: sender,
        max_request_bytes: limits.max_request_bytes,
        time_limit: limits.time_limit,
        metrics: metrics.clone(),
    };
    let last = LogPosition { term, index: store.view().applied().index };
    let applier = Applier { queue: receiver, store, lessor, last, slow: limits.slow, health, metrics: metrics.clone() };
    (proposer, applier)
}

impl Applier {
    /// Applies until the server stops and the queue is empty.
    pub(crate) async fn run(mut self, stop: tokio_util::sync::CancellationToken) {
        loop {
            let first = tokio::select! {
                biased;
                first = self.queue.recv() => first,
                () = stop.cancelled() => {
                    // What was accepted is still applied; nothing more is accepted.
                    self.queue.close();
                    self.queue.recv().await
                }
            };
            let Some(first) = first else { return };
            // Whoever is ready runs before the disk is waited for; some of them will join the group.
            tokio::task::yield_now().await;
            let group = self.group(first);
            self.apply(group);
        }
    }

    /// What has queued up, as far as it fits a group.
    fn group(&mut self, first: Proposal) -> Vec<Proposal> {
        let mut bytes = first.bytes;
        let mut group = vec![first];
        while bytes < MAX_GROUP_BYTES {
            let Ok(next) = self.queue.try_recv() else { break };
            bytes += next.bytes;
            group.push(next);
        }
        group
    }

    fn apply(&mut self, group: Vec<Proposal>) {
        let start = Instant::now();
        let (entries, answers): (Vec<_>, Vec<_>) = group.into_iter().map(|p| (p.entry, p.answer)).unzip();
        self.last.index += entries.len() as u64;
        let store = self.store.clone();
        store.apply_and_answer(&entries, self.last, |outcomes| self.answer(start, &entries, answers, outcomes));
    }

    fn answer(
        &mut self,
        start: Instant,
        entries: &[LogEntry],
        answers: Vec<oneshot::Sender<Result<Outcome, Error>>>,
        outcomes: Result<Vec<Outcome>, Error>,
    ) {
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(cause) => {
                if self.health.failure().is_none() {
                    // Once: clients try again and again.
                    error!(error = %cause, "the store can't apply writes");
                }
                self.health.set(Some(cause.to_string()));
                // Nothing of the group was applied, so its places in the log are taken by the next.
                self.last.index -= entries.len() as u64;
                for answer in answers {
                    let _ = answer.send(Err(cause.clone()));
                }
                return;
            }
        };
        self.metrics.disk.wal_fsync_duration.observe(start.elapsed().as_secs_f64());
        if self.health.failure().is_some() {
            self.health.set(None);
        }
        for (entry, outcome) in entries.iter().zip(&outcomes) {
            if let Ok(answer) = outcome {
                self.metrics.count_applied(answer);
                self.follow_leases(entry);
            }
        }
        let took = start.elapsed();
        self.metrics.disk.backend_commit_duration.observe(took.as_secs_f64());
        self.metrics.server.proposals_committed.set(self.last.index as i64);
        self.metrics.server.proposals_applied.set(self.last.index as i64);
        if took > self.slow {
            self.metrics.server.slow_apply.inc();
            warn!(took_ms = took.as_millis() as u64, requests = entries.len(), "apply request took too long");
        }
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Who proposed it may be gone.
            let _ = answer.send(Ok(outcome));
        }
    }

    fn follow_leases(&self, entry: &LogEntry) {
        match &entry.op {
            Some(Op::LeaseGrant(grant)) => self.lessor.granted(grant.id, grant.ttl),
            Some(Op::LeaseRevoke(revoke)) => self.lessor.revoked(revoke.id),
            _ => {}
        }
    }
}
