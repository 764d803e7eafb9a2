//! What proposes: numbers an entry, hands it on, and waits for its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use stentor_mvcc::{Answer, Error};
use stentor_proto::EtcdError;
use stentor_proto::log_entry::{self, LogEntryError, ProposalId};
use stentor_proto::storagepb::LogEntry;
use stentor_raft::{Change, ReplicaError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Limits;
use super::pending::Pending;
use crate::cluster;
use crate::metrics::Metrics;

/// Writes that may wait to be answered; more are refused with "too many requests".
pub const MAX_PENDING: usize = 5_000;

/// Why a member writes and applies no more, until it is started again. What was being written then may be
/// there after that.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Halt {
    /// The store can't go on.
    #[error(transparent)]
    Store(#[from] Error),
    /// The log can't go on.
    #[error(transparent)]
    Log(#[from] Arc<ReplicaError>),
    /// The log has an entry that this version can't read.
    #[error(transparent)]
    Entry(#[from] LogEntryError),
}

/// Why a proposal brought no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// An answer of the protocol: refused, too many requests, timed out, stopped.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The member can't go on. Whether the write is there shows after a restart.
    #[error(transparent)]
    Halted(#[from] Halt),
}

/// Proposes writes.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Proposal>,
    pending: Arc<Pending>,
    max_request_bytes: usize,
    time_limit: Duration,
    health: Arc<WriteHealth>,
    metrics: Metrics,
}

/// An entry on its way into the log.
pub(super) struct Proposal {
    pub(super) id: ProposalId,
    /// What it changes of who takes part.
    pub(super) change: Option<Change>,
    pub(super) data: Bytes,
}

impl Proposer {
    pub(super) fn new(
        queue: mpsc::Sender<Proposal>,
        pending: Arc<Pending>,
        limits: &Limits,
        health: Arc<WriteHealth>,
        metrics: &Metrics,
    ) -> Proposer {
        Proposer {
            queue,
            pending,
            max_request_bytes: limits.max_request_bytes,
            time_limit: limits.time_limit,
            health,
            metrics: metrics.clone(),
        }
    }

    /// Proposes a write and waits for its answer. When the caller goes away, the write may still be
    /// applied.
    ///
    /// # Errors
    /// `RequestTooLarge`, `RequestTooManyRequests`, `Timeout` (it may be applied yet), `Stopped`; what the
    /// store refuses; a member that can't go on.
    pub async fn propose(&self, entry: LogEntry) -> Result<Answer, ProposeError> {
        if entry.encoded_len() > self.max_request_bytes {
            return Err(EtcdError::RequestTooLarge.into());
        }
        if let Some(halt) = self.health.failure() {
            return Err(halt.into());
        }
        let place = self.queue.try_reserve().map_err(|e| match e {
            mpsc::error::TrySendError::Full(()) => EtcdError::RequestTooManyRequests,
            mpsc::error::TrySendError::Closed(()) => EtcdError::Stopped,
        })?;
        let id = self.pending.next_id();
        let change = cluster::change_of(&entry);
        let data = log_entry::encode(id, &entry);
        let (answer, answered) = oneshot::channel();
        let ticket = self.pending.wait(id, entry, answer);
        let _ticket = ticket.ok_or(EtcdError::RequestTooManyRequests)?;
        // Those who waited when the member halted were told; nobody tells who came just after.
        if let Some(halt) = self.health.failure() {
            return Err(halt.into());
        }
        place.send(Proposal { id, change, data });
        let _pending = Gauge::begin(&self.metrics);
        match timeout(self.time_limit, answered).await {
            Ok(Ok(Ok(outcome))) => Ok(outcome?),
            Ok(Ok(Err(halt))) => Err(halt.into()),
            Ok(Err(_)) => Err(EtcdError::Stopped.into()),
            Err(_) => {
                self.metrics.server.proposals_failed.inc();
                Err(EtcdError::Timeout.into())
            }
        }
    }
}

/// Counts a proposal as pending until it is dropped, however its caller ends.
struct Gauge<'a>(&'a Metrics);

impl Gauge<'_> {
    fn begin(metrics: &Metrics) -> Gauge<'_> {
        metrics.server.proposals_pending.inc();
        Gauge(metrics)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.server.proposals_pending.dec();
    }
}

/// Whether the member can write: what health tells of the disk.
#[derive(Debug, Default)]
pub(crate) struct WriteHealth(Mutex<Option<Halt>>);

impl WriteHealth {
    /// Why the member writes no more.
    pub(crate) fn failure(&self) -> Option<Halt> {
        self.0.lock().clone()
    }

    /// Of several failures the first one is the cause. True for that.
    pub(super) fn set(&self, halt: &Halt) -> bool {
        let mut first = self.0.lock();
        let is_first = first.is_none();
        first.get_or_insert_with(|| halt.clone());
        is_first
    }
}
