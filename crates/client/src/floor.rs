//! The newest revision that a client has seen, below which its reads are not to go.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::Revision;
use crate::key_value::revision;

/// Zero, and never more, for a client that was not asked to keep it.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    is_kept: bool,
    seen: AtomicI64,
}

impl Floor {
    pub(crate) fn new(is_kept: bool) -> Floor {
        Floor { is_kept, seen: AtomicI64::new(0) }
    }

    /// A read that is sent now is not to answer from before this.
    pub(crate) fn now(&self) -> Revision {
        revision(self.seen.load(Ordering::Acquire))
    }

    /// The store was at this revision.
    pub(crate) fn saw(&self, revision: Revision) {
        if self.is_kept {
            self.seen.fetch_max(revision.get(), Ordering::AcqRel);
        }
    }

    /// The store is another: it begins anew.
    pub(crate) fn lower(&self, revision: Revision) {
        self.seen.store(revision.get(), Ordering::Release);
    }
}
