use stentor_proto::etcdserverpb::WatchResponse;
use stentor_proto::{EtcdError, Revision};

use super::{Core, Shared};
use crate::read::ReadFailure;
use crate::watcher::Key;

/// The id in answers that are no watcher's.
pub(super) const NO_WATCHER: i64 = -1;

/// An answer that is still to be sent.
pub(super) enum Answer {
    Created {
        id: i64,
        revision: Revision,
    },
    Refused {
        revision: Revision,
        reason: Refusal,
    },
    Canceled {
        id: i64,
        revision: Revision,
    },
    /// By the stream itself: what the watcher needs is gone.
    Compacted {
        id: i64,
        compacted: Revision,
    },
    /// By the stream itself: what the watcher needs can't be read.
    Failed {
        id: i64,
        revision: Revision,
        reason: String,
    },
}

/// Why a watcher was not created.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    Compacted,
    NotPermitted(EtcdError),
    EmptyRange,
    DuplicateId,
}

impl Refusal {
    fn text(self) -> &'static str {
        match self {
            Refusal::Compacted => EtcdError::Compacted.text(),
            Refusal::NotPermitted(error) => error.text(),
            Refusal::EmptyRange => "mvcc: watcher range is empty",
            Refusal::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
        }
    }
}

impl Core {
    pub(super) fn response_of(&self, answer: Answer) -> WatchResponse {
        let at = |revision| WatchResponse { header: Some(self.header(revision)), ..Default::default() };
        match answer {
            Answer::Created { id, revision } => WatchResponse { watch_id: id, created: true, ..at(revision) },
            Answer::Refused { revision, reason } => WatchResponse {
                watch_id: NO_WATCHER,
                created: true,
                canceled: true,
                cancel_reason: reason.text().to_owned(),
                ..at(revision)
            },
            Answer::Canceled { id, revision } => WatchResponse { watch_id: id, canceled: true, ..at(revision) },
            // No revision in the header, as etcd has it: it tells nothing of what was delivered.
            Answer::Compacted { id, compacted } => {
                WatchResponse { watch_id: id, canceled: true, compact_revision: compacted.get(), ..at(Revision::ZERO) }
            }
            Answer::Failed { id, revision, reason } => {
                WatchResponse { watch_id: id, canceled: true, cancel_reason: reason, ..at(revision) }
            }
        }
    }

    /// Ends a watcher that can't get its events, and tells it.
    pub(super) fn lose(&mut self, shared: &Shared, key: Key, failure: ReadFailure) {
        let Some(watcher) = self.remove(shared, key) else { return };
        let id = watcher.id;
        self.answers.push_back(match failure {
            ReadFailure::Compacted(compacted) => {
                self.hub.totals.count_canceled_by_compaction();
                Answer::Compacted { id, compacted }
            }
            ReadFailure::Failed(reason) => Answer::Failed { id, revision: self.hub.tip().revision, reason },
        });
    }
}
