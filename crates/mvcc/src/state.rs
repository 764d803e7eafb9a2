//! The published state: what readers see, replaced as a whole after each group.

use std::collections::BTreeSet;
use std::sync::Arc;

use stentor_proto::Revision;

use crate::alarm::Alarm;
use crate::engine::Engine;
use crate::key_index::IndexView;
use crate::lease::Leases;
use crate::member::Members;
use crate::record::Record;
use crate::source::{Source, read_records};
use crate::{ChangeId, Error, LogPosition};

#[derive(Clone)]
pub(crate) struct State {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) index: IndexView,
    pub(crate) leases: Leases,
    pub(crate) alarms: BTreeSet<Alarm>,
    pub(crate) members: Arc<Members>,
    pub(crate) revision: Revision,
    pub(crate) compacted: Option<Revision>,
    /// Up to here no space work of compaction is left.
    pub(crate) compaction_finished: Revision,
    pub(crate) logical_bytes: u64,
    /// Of these, what is kept for watchers alone and goes with the next compaction.
    pub(crate) owed_bytes: u64,
    pub(crate) applied: LogPosition,
    /// Alive as long as some reader could need records that the next compaction may delete.
    pub(crate) epoch: Arc<Epoch>,
}

/// The time between two compactions. Every reader of that time holds it, and compaction deletes records
/// only when the epochs before its own are gone.
pub(crate) struct Epoch;

impl Source for State {
    fn index(&self) -> &IndexView {
        &self.index
    }

    fn current(&self) -> Revision {
        self.revision
    }

    fn compacted(&self) -> Option<Revision> {
        self.compacted
    }

    fn leases(&self) -> &Leases {
        &self.leases
    }

    fn records(&self, ids: &[ChangeId]) -> Result<Vec<Record>, Error> {
        read_records(&*self.engine, ids)
    }
}
