//! Proposals that wait for their answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use stentor_mvcc::Outcome;
use stentor_proto::EtcdError;
use stentor_proto::log_entry::ProposalId;
use stentor_proto::storagepb::LogEntry;
use tokio::sync::oneshot;

use super::proposer::{Halt, MAX_PENDING};

/// What a proposer waits for: the store's answer, or why the member can't go on.
pub(super) type Applied = Result<Outcome, Halt>;

/// The proposals of this member that have not been applied.
#[derive(Debug)]
pub(super) struct Pending {
    member_id: u64,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Waiting {
    /// As it was proposed: its own member need not decode it.
    pub(super) entry: LogEntry,
    pub(super) answer: oneshot::Sender<Applied>,
}

/// Lets a proposal wait until this is dropped.
pub(super) struct Ticket {
    pending: Arc<Pending>,
    pub(super) id: ProposalId,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pending.waiting.lock().remove(&self.id.number);
    }
}

impl Pending {
    /// For proposals numbered from `first` on, which no former life of the member may have used.
    pub(super) fn new(member_id: u64, first: u64) -> Pending {
        Pending { member_id, next: AtomicU64::new(first), waiting: Mutex::default() }
    }

    /// The number of the next proposal.
    pub(super) fn next_id(&self) -> ProposalId {
        ProposalId { member_id: self.member_id, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    /// Lets a proposal wait, unless too many do.
    pub(super) fn wait(
        self: &Arc<Self>,
        id: ProposalId,
        entry: LogEntry,
        answer: oneshot::Sender<Applied>,
    ) -> Option<Ticket> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_PENDING {
            return None;
        }
        waiting.insert(id.number, Waiting { entry, answer });
        Some(Ticket { pending: self.clone(), id })
    }

    /// The waiting ones among these, each once.
    pub(super) fn take(&self, ids: impl Iterator<Item = ProposalId>) -> Vec<Option<Waiting>> {
        let mut waiting = self.waiting.lock();
        ids.map(|id| if id.member_id == self.member_id { waiting.remove(&id.number) } else { None }).collect()
    }

    /// A proposal that will not be committed.
    pub(super) fn refuse(&self, id: ProposalId, error: EtcdError) {
        if let Some(waiting) = self.waiting.lock().remove(&id.number) {
            // Who proposed it may be gone.
            let _ = waiting.answer.send(Ok(Err(error)));
        }
    }

    /// Nothing more will be applied: whoever waits learns why.
    pub(super) fn fail(&self, cause: &Halt) {
        let mut waiting: Vec<_> = std::mem::take(&mut *self.waiting.lock()).into_iter().collect();
        // In the order in which they were proposed.
        waiting.sort_unstable_by_key(|(number, _)| *number);
        for (_, waiting) in waiting {
            // Who proposed it may be gone.
            let _ = waiting.answer.send(Err(cause.clone()));
        }
    }

    /// Nothing more will be applied, since the member stops.
    pub(super) fn stop(&self) {
        let mut waiting: Vec<_> = std::mem::take(&mut *self.waiting.lock()).into_iter().collect();
        waiting.sort_unstable_by_key(|(number, _)| *number);
        waiting.into_iter().for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use stentor_proto::log_entry::LogEntryError;

    use super::*;

    #[test]
    fn each_waits_until_it_is_taken_or_given_up() {
        let pending = Arc::new(Pending::new(7, u64::MAX));
        let (first, second) = (pending.next_id(), pending.next_id());
        assert_eq!((first.number, second.number), (u64::MAX, 0));
        let (answer, mut given_up) = oneshot::channel();
        let first = pending.wait(first, LogEntry::default(), answer).unwrap();
        let (answer, mut failed) = oneshot::channel();
        let second = pending.wait(second, LogEntry { time_unix_ms: 5, ..LogEntry::default() }, answer).unwrap();
        let of_another = ProposalId { member_id: 8, number: second.id.number };
        assert!(pending.take([of_another].into_iter()).iter().all(Option::is_none));
        drop(first);
        assert!(given_up.try_recv().is_err() && pending.waiting.lock().len() == 1);
        pending.fail(&Halt::Entry(LogEntryError::TooNew(9)));
        assert!(failed.try_recv().unwrap().is_err());
        assert!(pending.take([second.id].into_iter()).iter().all(Option::is_none));
    }
}
