//! The space work of compaction, in bounded steps.
//!
//! Accepting a compaction makes history below its revision unreadable at once. What it leaves to do is
//! worked off here: history is scanned forwards, from where the last compaction ended to the new
//! compacted revision, and each record on the way deletes the change that it superseded; a tombstone goes
//! too. Both are then older than the compacted revision, as is what superseded them, so no read and no
//! watch can ask for them. Changes *at* the compacted revision delete nothing yet: a watch from there owes
//! the previous values, and a tombstone there is an event.
//!
//! The work needs no state but its place, and doing a part of it twice changes nothing, so it resumes
//! after a crash.

use stentor_proto::Revision;

use crate::engine::{Batch, Family};
use crate::{ChangeId, Error, Record, Store, View, failpoints};

/// What one step of compaction did.
///
/// ```
/// use stentor_mvcc::{CompactionStep, Store, engine::memory};
/// use stentor_proto::etcdserverpb::PutRequest;
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
/// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
/// let newest = store.view().revision();
/// store.compact(newest)?;
/// // Only the first put lies below the compacted revision; it is what a watch from there owes.
/// assert_eq!(store.compact_step(100)?, CompactionStep::Worked { scanned: 1, deleted: 0 });
/// assert_eq!(store.compact_step(100)?, CompactionStep::Finished(newest));
/// assert_eq!(store.compact_step(100)?, CompactionStep::Idle);
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionStep {
    /// Nothing is left to do.
    Idle,
    /// Reads from before the compaction are still going on; ask again when they may be through.
    Waiting,
    /// Some was done and more is left.
    Worked {
        /// Records looked at.
        scanned: usize,
        /// Records deleted.
        deleted: usize,
    },
    /// The last of the space work for this revision is done.
    Finished(Revision),
}

/// How far the space work has come.
pub(crate) struct Compactor {
    /// Everything up to this revision is done.
    finished: Revision,
    /// The compaction being worked on, and the next record to look at.
    current: Option<(Revision, ChangeId)>,
    deleted_bytes: u64,
}

/// Below this much freed space the engine is left to clean up by itself.
const RECLAIM_BYTES: u64 = 32 << 20;

/// Records of one revision looked at together.
const OWED_RECORDS: usize = 1000;

impl Compactor {
    pub(crate) fn resume_at(finished: Revision) -> Compactor {
        Compactor { finished, current: None, deleted_bytes: 0 }
    }
}

impl Store {
    /// Does a bounded part of the space work that compactions have left: looks at no more than
    /// `max_records` records. Whoever runs the store calls it until it is [`CompactionStep::Idle`], with
    /// pauses as it likes. Writes go on between its short parts.
    ///
    /// ```
    /// use stentor_mvcc::{CompactionStep, Store, engine::memory};
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// for _ in 0..10 {
    ///     store.put(PutRequest { key: "k".into(), value: "v".into(), ..Default::default() })?;
    /// }
    /// let bytes = store.view().logical_bytes();
    /// store.compact(store.view().revision())?;
    /// while store.compact_step(4)? != CompactionStep::Idle {}
    /// assert!(store.view().logical_bytes() < bytes);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors; the work resumes where it was.
    pub fn compact_step(&self, max_records: usize) -> Result<CompactionStep, Error> {
        let mut compactor = self.compactor.lock();
        let view = self.view();
        let Some(compacted) = view.compacted().filter(|c| *c > compactor.finished) else {
            return Ok(CompactionStep::Idle);
        };
        let start = ChangeId { revision: compactor.finished, sub: 0 };
        let (target, from) = *compactor.current.get_or_insert((compacted, start));
        if self.has_old_readers() {
            return Ok(CompactionStep::Waiting);
        }
        let end = ChangeId { revision: target, sub: 0 };
        let records = view.records_between(from, end)?.take(max_records.max(1)).collect::<Result<Vec<_>, _>>()?;
        let Some(last) = records.last() else {
            return self.finish_compaction(&mut compactor, target);
        };
        let next = ChangeId { sub: last.id.sub + 1, ..last.id };
        let doomed = doomed(&view, &records)?;
        let freed_bytes = doomed.iter().map(|(_, bytes)| bytes).sum();
        let mut batch = Batch::default();
        for (id, _) in &doomed {
            batch.delete(Family::History, id.to_bytes().to_vec());
        }
        let (scanned, deleted) = (records.len(), doomed.len());
        let keys = records.iter().map(Record::key_bytes);
        failpoints::BEFORE_COMPACTION_STEP.hit();
        self.drop_history(batch, keys, freed_bytes, target)?;
        failpoints::AFTER_COMPACTION_STEP.hit();
        compactor.deleted_bytes += freed_bytes;
        compactor.current = Some((target, next));
        Ok(CompactionStep::Worked { scanned, deleted })
    }

    fn finish_compaction(&self, compactor: &mut Compactor, target: Revision) -> Result<CompactionStep, Error> {
        let state = self.view();
        let engine = &state.state().engine;
        let owed_bytes = owed_bytes(&state, target, usize::MAX)?;
        failpoints::BEFORE_COMPACTION_FINISHED.hit();
        self.set_compaction_finished(target, owed_bytes)?;
        failpoints::AFTER_COMPACTION_FINISHED.hit();
        compactor.finished = target;
        compactor.current = None;
        if compactor.deleted_bytes >= RECLAIM_BYTES.max(state.logical_bytes() / 4) {
            compactor.deleted_bytes = 0;
            engine.reclaim(Family::History, Some(&ChangeId { revision: target, sub: 0 }.to_bytes()))?;
        }
        Ok(CompactionStep::Finished(target))
    }

    /// Does all the space work that is left, in steps; for programs that have no better place for it.
    /// Readers that hold a [`crate::View`] from before the compaction must be gone.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
    /// store.compact(store.view().revision())?;
    /// store.finish_compactions()?;
    /// assert_eq!(Some(store.compaction_finished()), store.view().compacted());
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors.
    pub fn finish_compactions(&self) -> Result<(), Error> {
        loop {
            match self.compact_step(1000)? {
                CompactionStep::Idle => return Ok(()),
                CompactionStep::Waiting => std::thread::yield_now(),
                CompactionStep::Worked { .. } | CompactionStep::Finished(_) => {}
            }
        }
    }

    /// The revision up to which no space work is left.
    pub fn compaction_finished(&self) -> Revision {
        self.compactor.lock().finished
    }
}

/// What the changes of a revision make superfluous, in bytes: kept while it is the compacted revision. It
/// regards no more than `most` changes.
pub(crate) fn owed_bytes(view: &View, at: Revision, most: usize) -> Result<u64, Error> {
    let (from, end) = (ChangeId { revision: at, sub: 0 }, ChangeId { revision: at.next(), sub: 0 });
    let mut records = view.records_between(from, end)?.take(most);
    let mut bytes = 0;
    loop {
        let some = records.by_ref().take(OWED_RECORDS).collect::<Result<Vec<_>, _>>()?;
        if some.is_empty() {
            return Ok(bytes);
        }
        bytes += doomed(view, &some)?.iter().map(|(_, bytes)| bytes).sum::<u64>();
    }
}

/// What the records make superfluous, with its size; without what an earlier, interrupted pass has
/// already deleted.
fn doomed(view: &View, records: &[Record]) -> Result<Vec<(ChangeId, u64)>, Error> {
    let superseded: Vec<ChangeId> = records.iter().filter_map(|r| r.previous).collect();
    let keys: Vec<[u8; 12]> = superseded.iter().map(|id| id.to_bytes()).collect();
    let values = view.state().engine.get_many(Family::History, &keys)?;
    let mut doomed = Vec::with_capacity(records.len());
    for (id, value) in superseded.into_iter().zip(values) {
        if let Some(value) = value {
            let record = Record::decode(id, value).map_err(|e| Error::unreadable(id, e))?;
            doomed.push((id, record.logical_bytes()));
        }
    }
    doomed.extend(records.iter().filter(|r| r.is_delete()).map(|r| (r.id, r.logical_bytes())));
    doomed.sort_unstable();
    // A tombstone can be named by the record after it too.
    doomed.dedup_by_key(|(id, _)| *id);
    Ok(doomed)
}
