use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prost::Message;
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, TxnRequest, TxnResponse,
};
use stentor_proto::storagepb::{self, LogEntry, log_entry::Op};

use crate::answer::{Answer, Outcome};
use crate::compaction::Compactor;
use crate::engine::{Batch, Durability, Engine, EngineError, Family};
use crate::group::Group;
use crate::index_checkpoint::Last;
use crate::key_index::KeyIndex;
use crate::member::Members;
use crate::observer::{Commit, Observer};
use crate::options::{LogPosition, Options};
use crate::state::{Epoch, State};
use crate::{Error, View, check, failpoints, meta, open};

/// A multi-version key-value store.
///
/// Writes are evaluated one after the other; reads take a [`View`] and never wait for them. All methods
/// may be called from any thread; those that write or read from disk block.
///
/// ```
/// use stentor_mvcc::{Store, engine::memory};
/// use stentor_proto::etcdserverpb::PutRequest;
/// let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// let answer = store.put(PutRequest { key: "hello".into(), value: "world".into(), ..Default::default() })?;
/// assert_eq!(answer.header.map(|h| h.revision), Some(2));
/// assert_eq!(store.view().revision().get(), 2);
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
pub struct Store {
    published: ArcSwap<State>,
    writer: Mutex<Writer>,
    queue: Mutex<Vec<Queued>>,
    observers: Mutex<Vec<Weak<dyn Observer>>>,
    pub(crate) compactor: Mutex<Compactor>,
    pub(crate) checkpoint: Mutex<Last>,
    /// Held while a checkpoint is written: one at a time.
    pub(crate) checkpointing: Mutex<()>,
    /// Changes made or read from history, ever upwards: how much a checkpoint would save.
    changes: AtomicU64,
    options: Options,
}

struct Writer {
    index: KeyIndex,
    /// Epochs that readers may still hold.
    retired: Vec<Weak<Epoch>>,
    /// The first failed write; the store takes no more after it.
    failed: Option<Error>,
}

/// Tells at its end, whatever that is, that answers are out.
struct Answered<'a>(&'a Store);

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        self.0.tell_answered();
    }
}

struct Queued {
    entry: LogEntry,
    result: Arc<OnceLock<Result<Outcome, Error>>>,
}

impl Store {
    /// Opens the store that an engine holds, or begins one, at revision 1, on an empty engine.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// let disk = memory::Disk::new();
    /// let store = Store::open(memory::MemoryEngine::open(&disk)?, Default::default())?;
    /// assert_eq!(store.view().revision().get(), 1);
    /// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
    /// drop(store);
    /// let store = Store::open(memory::MemoryEngine::open(&disk)?, Default::default())?;
    /// assert_eq!(store.view().revision().get(), 2);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors; records that can't be read or contradict each other.
    pub fn open(engine: impl Engine, options: Options) -> Result<Store, Error> {
        Store::open_shared(Arc::new(engine), options)
    }

    /// As [`Store::open`], for an engine that others hold too.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stentor_mvcc::engine::{Engine, memory};
    /// use stentor_mvcc::Store;
    /// let engine: Arc<dyn Engine> = Arc::new(memory::MemoryEngine::open(&memory::Disk::new())?);
    /// let store = Store::open_shared(engine.clone(), Default::default())?;
    /// assert_eq!(store.sizes()?, engine.sizes()?);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_shared(engine: Arc<dyn Engine>, options: Options) -> Result<Store, Error> {
        let opened = open::load(engine)?;
        Ok(Store {
            published: ArcSwap::from_pointee(opened.state),
            writer: Mutex::new(Writer { index: opened.index, retired: Vec::new(), failed: None }),
            queue: Mutex::default(),
            observers: Mutex::default(),
            compactor: Mutex::new(Compactor::resume_at(opened.compaction_finished)),
            checkpoint: Mutex::new(opened.checkpoint),
            checkpointing: Mutex::new(()),
            changes: AtomicU64::new(opened.changes),
            options,
        })
    }

    /// The store as it is now.
    pub fn view(&self) -> View {
        View::new(self.published.load_full())
    }

    /// From the next group on, `observer` is told of each until it is dropped. Returns the state that
    /// the first one told of follows upon.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stentor_mvcc::{Commit, Observer, Store, engine::memory};
    /// # struct Follower;
    /// # impl Observer for Follower {
    /// #     fn committed(&self, _: &Commit) {}
    /// # }
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// let follower = Arc::new(Follower);
    /// let before = store.observe(&follower);
    /// // The first commit that it is told of is the one of the revision after this.
    /// assert_eq!(before.revision(), store.view().revision());
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    pub fn observe(&self, observer: &Arc<impl Observer + 'static>) -> View {
        let _no_group_between = self.writer.lock();
        let observer: Weak<dyn Observer> = Arc::<_>::downgrade(observer) as Weak<dyn Observer>;
        self.observers.lock().push(observer);
        self.view()
    }

    /// Applies log entries, in order, as one group: one batch, one sync (if the store answers for
    /// durability), published together. `last` is the place of the last of them.
    ///
    /// Entries must have been checked ([`crate::check`]); an unchecked one is applied as it is.
    ///
    /// ```
    /// use stentor_mvcc::{LogPosition, Store, engine::memory};
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// use stentor_proto::storagepb::{LogEntry, log_entry::Op};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// let put = Op::Put(PutRequest { key: "k".into(), ..Default::default() });
    /// let entry = LogEntry { time_unix_ms: 1_700_000_000_000, op: Some(put), ..LogEntry::default() };
    /// let outcomes = store.apply(&[entry.clone(), entry], LogPosition { term: 1, index: 2 })?;
    /// assert!(outcomes.iter().all(|outcome| outcome.is_ok()));
    /// assert_eq!(store.view().applied().index, 2);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only what keeps the store from going on, with nothing of the group visible. That an entry was
    /// refused is an outcome.
    pub fn apply(&self, entries: &[LogEntry], last: LogPosition) -> Result<Vec<Outcome>, Error> {
        self.apply_and_answer(entries, last, |outcomes| outcomes)
    }

    /// As [`Store::apply`]; those who follow are told that the answers are out ([`Observer::answered`]) only
    /// after `answer` has returned, which must not write to the store.
    ///
    /// ```
    /// use stentor_mvcc::{LogPosition, Store, engine::memory};
    /// use stentor_proto::storagepb::LogEntry;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// let last = LogPosition { term: 1, index: 1 };
    /// store.apply_and_answer(&[LogEntry::default()], last, |outcomes| sender.send(outcomes))?;
    /// assert_eq!(receiver.recv()??.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `answer` is given those of [`Store::apply`].
    pub fn apply_and_answer<T>(
        &self,
        entries: &[LogEntry],
        last: LogPosition,
        answer: impl FnOnce(Result<Vec<Outcome>, Error>) -> T,
    ) -> T {
        let _told = Answered(self);
        let outcomes = self.apply_locked(&mut self.writer.lock(), entries, Some(last));
        answer(outcomes)
    }

    fn apply_locked(
        &self,
        writer: &mut Writer,
        entries: &[LogEntry],
        last: Option<LogPosition>,
    ) -> Result<Vec<Outcome>, Error> {
        if let Some(failed) = &writer.failed {
            return Err(failed.clone());
        }
        let base = self.published.load_full();
        // On a copy, which costs nothing: whatever ends the group early, be it a panic, leaves the index as
        // it was.
        let mut group = Group::new(&base, writer.index.clone());
        // Reading may fail; nothing was written then, and the store stays where it was.
        let outcomes = entries.iter().map(|e| group.evaluate(e)).collect::<Result<Vec<Outcome>, Error>>()?;
        let applied = last.unwrap_or(LogPosition { index: base.applied.index + entries.len() as u64, ..base.applied });
        if let Err(error) = self.commit(&group, &base, applied) {
            writer.failed = Some(error.clone().into());
            return Err(error.into());
        }
        self.finish(writer, &base, group, applied);
        Ok(outcomes)
    }

    /// Writes an evaluated group.
    fn commit(&self, group: &Group<'_>, base: &State, applied: LogPosition) -> Result<(), EngineError> {
        let is_compaction = group.compacted != base.compacted;
        if let Some(why) = failpoints::BEFORE_COMMIT.hit_value() {
            return Err(EngineError::Io(why));
        }
        if is_compaction {
            failpoints::BEFORE_COMPACTION_COMMIT.hit();
        }
        base.engine.write(batch_of(group, base, applied), self.options.durability)?;
        if is_compaction {
            failpoints::AFTER_COMPACTION_COMMIT.hit();
        }
        failpoints::AFTER_COMMIT.hit();
        Ok(())
    }

    /// Publishes a written group and tells those who follow.
    fn finish(&self, writer: &mut Writer, base: &Arc<State>, group: Group<'_>, applied: LogPosition) {
        let compacting = group.compacted != base.compacted;
        let epoch = if compacting {
            writer.retired.push(Arc::downgrade(&base.epoch));
            Arc::new(Epoch)
        } else {
            base.epoch.clone()
        };
        let Group { index, leases, alarms, members, revision, compacted, logical_bytes, records, .. } = group;
        self.published.store(Arc::new(State {
            engine: base.engine.clone(),
            index: index.view(),
            leases,
            alarms,
            members,
            revision,
            compacted,
            compaction_finished: base.compaction_finished,
            logical_bytes,
            owed_bytes: base.owed_bytes,
            applied,
            epoch,
        }));
        writer.index = index;
        self.changes.fetch_add(records.len() as u64, Ordering::Relaxed);
        if !records.is_empty() || compacting {
            self.tell(&Commit { records: records.into(), revision, compacted });
        }
    }

    fn tell_answered(&self) {
        // Not under the lock: the next group need not wait.
        let observers: Vec<_> = self.observers.lock().iter().filter_map(Weak::upgrade).collect();
        observers.iter().for_each(|observer| observer.answered());
    }

    fn tell(&self, commit: &Commit) {
        self.observers.lock().retain(|observer| {
            let Some(observer) = observer.upgrade() else { return false };
            observer.committed(commit);
            true
        });
    }

    /// Publishes members that were written beside any group.
    pub(crate) fn publish_members(&self, write: impl FnOnce(&State) -> Result<Members, Error>) -> Result<(), Error> {
        let _no_group_between = self.writer.lock();
        let base = self.published.load_full();
        let members = Arc::new(write(&base)?);
        self.published.store(Arc::new(State { members, ..State::clone(&base) }));
        Ok(())
    }

    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        self.published.load().engine.clone()
    }

    pub(crate) fn durability(&self) -> Durability {
        self.options.durability
    }

    /// The count of changes.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Wall clock, milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        (self.options.wall_clock)()
    }

    /// Proposes one operation to the store itself, without a log outside. Callers at the same time share
    /// one batch and one sync.
    ///
    /// ```
    /// use stentor_mvcc::{Answer, Store, engine::memory};
    /// use stentor_proto::etcdserverpb::LeaseRevokeRequest;
    /// use stentor_proto::storagepb::log_entry::Op;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// # let grant = stentor_proto::etcdserverpb::LeaseGrantRequest { id: 7, ttl: 60 };
    /// # store.execute(Op::LeaseGrant(grant))?;
    /// let answer = store.execute(Op::LeaseRevoke(LeaseRevokeRequest { id: 7 }))?;
    /// assert!(matches!(answer, Answer::LeaseRevoke { deleted: 0, .. }));
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Why it was refused, or what keeps the store from going on.
    pub fn execute(&self, op: Op) -> Result<Answer, Error> {
        let entry = LogEntry { time_unix_ms: (self.options.wall_clock)(), op: Some(op), ..LogEntry::default() };
        let result = Arc::new(OnceLock::new());
        self.queue.lock().push(Queued { entry, result: result.clone() });
        let _told = Answered(self);
        // Whoever gets the lock writes for all who wait for it.
        let mut writer = self.writer.lock();
        if result.get().is_none() {
            let queued = mem::take(&mut *self.queue.lock());
            let (entries, results): (Vec<_>, Vec<_>) = queued.into_iter().map(|q| (q.entry, q.result)).unzip();
            let outcomes = match self.apply_locked(&mut writer, &entries, None) {
                Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error); results.len()],
            };
            for (result, outcome) in results.iter().zip(outcomes) {
                // Each is set by the one who took it out of the queue, and once.
                let _ = result.set(outcome);
            }
        }
        drop(writer);
        match result.get() {
            Some(outcome) => outcome.clone()?.map_err(Error::from),
            None => Err(Error::inconsistent("a queued write was lost")),
        }
    }

    /// Writes one pair.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// let put = PutRequest { key: "k".into(), value: "1".into(), prev_kv: true, ..Default::default() };
    /// assert_eq!(store.put(put.clone())?.prev_kv, None);
    /// assert_eq!(store.put(put)?.prev_kv.map(|pair| pair.value), Some("1".into()));
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// What [`crate::check::put`] finds, a lease that is not there, an ignoring put of a key that is
    /// not there; engine errors.
    pub fn put(&self, request: PutRequest) -> Result<PutResponse, Error> {
        check::put(&request)?;
        match self.execute(Op::Put(request))? {
            Answer::Put(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes the keys of a range.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// store.put(PutRequest { key: "/a/1".into(), ..Default::default() })?;
    /// let all = DeleteRangeRequest { key: "/a/".into(), range_end: "/a0".into(), ..Default::default() };
    /// assert_eq!(store.delete_range(all)?.deleted, 1);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// An empty key; engine errors.
    pub fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        check::delete_range(&request)?;
        match self.execute(Op::DeleteRange(request))? {
            Answer::DeleteRange(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs a transaction.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::compare::CompareTarget;
    /// use stentor_proto::etcdserverpb::request_op::Request;
    /// use stentor_proto::etcdserverpb::{Compare, PutRequest, RequestOp, TxnRequest};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// // Create the key unless it is there.
    /// let put = PutRequest { key: "k".into(), value: "mine".into(), ..Default::default() };
    /// let absent = Compare { key: "k".into(), target: CompareTarget::Create.into(), ..Default::default() };
    /// let create = TxnRequest {
    ///     compare: vec![absent],
    ///     success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
    ///     failure: vec![],
    /// };
    /// assert!(store.txn(create.clone())?.succeeded);
    /// assert!(!store.txn(create)?.succeeded);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// What [`crate::check::txn`] finds, and what is tested against the store before anything runs;
    /// engine errors.
    pub fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        check::txn(&request, self.options.max_txn_ops)?;
        match self.execute(Op::Txn(request))? {
            Answer::Txn(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes history below `revision` unreadable at once; [`Store::compact_step`] gives the space back.
    ///
    /// ```
    /// use stentor_mvcc::{Error, Store, engine::memory};
    /// use stentor_proto::EtcdError;
    /// use stentor_proto::etcdserverpb::{PutRequest, RangeRequest};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// for _ in 0..3 {
    ///     store.put(PutRequest { key: "k".into(), ..Default::default() })?;
    /// }
    /// let newest = store.view().revision();
    /// store.compact(newest)?;
    /// let old = RangeRequest { key: "k".into(), revision: 2, ..Default::default() };
    /// assert!(matches!(store.view().range(&old), Err(Error::Refused(EtcdError::Compacted))));
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// A revision above the newest, or at or below the last compacted; engine errors.
    pub fn compact(&self, revision: Revision) -> Result<Revision, Error> {
        let request = stentor_proto::etcdserverpb::CompactionRequest { revision: revision.get(), ..Default::default() };
        match self.execute(Op::Compact(request))? {
            Answer::Compact(revision) => Ok(revision),
            other => Err(unexpected(&other)),
        }
    }

    /// Puts the content of another engine in the place of this one, as a snapshot from another member
    /// does. Views taken before go on with the old one; later ones, and whoever follows, see the new.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stentor_mvcc::{Store, engine::memory};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// # let disk = memory::Disk::new();
    /// # Store::open(memory::MemoryEngine::open(&disk)?, Default::default())?
    /// #     .put(stentor_proto::etcdserverpb::PutRequest { key: "k".into(), ..Default::default() })?;
    /// // The disk of another store, which has a key.
    /// store.replace(Arc::new(memory::MemoryEngine::open(&disk)?))?;
    /// assert_eq!((store.view().keys(), store.view().revision().get()), (1, 2));
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::open`]; the store stays as it was.
    pub fn replace(&self, engine: Arc<dyn Engine>) -> Result<(), Error> {
        let opened = open::load(engine)?;
        let mut checkpoint = self.checkpoint.lock();
        let mut compactor = self.compactor.lock();
        let mut writer = self.writer.lock();
        *checkpoint = opened.checkpoint;
        self.changes.store(opened.changes, Ordering::Relaxed);
        *compactor = Compactor::resume_at(opened.compaction_finished);
        *writer = Writer { index: opened.index, retired: Vec::new(), failed: None };
        let commit =
            Commit { records: Arc::new([]), revision: opened.state.revision, compacted: opened.state.compacted };
        self.published.store(Arc::new(opened.state));
        self.tell(&commit);
        Ok(())
    }

    /// Whether readers from before the last compaction are still there.
    pub(crate) fn has_old_readers(&self) -> bool {
        let mut writer = self.writer.lock();
        writer.retired.retain(|epoch| epoch.strong_count() > 0);
        !writer.retired.is_empty()
    }

    /// Deletes what a compaction step found, in the engine and in the index.
    pub(crate) fn drop_history(
        &self,
        mut batch: Batch,
        keys: impl IntoIterator<Item = bytes::Bytes>,
        freed_bytes: u64,
        compact: Revision,
    ) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        if let Some(failed) = &writer.failed {
            return Err(failed.clone());
        }
        let base = self.published.load_full();
        let logical_bytes = base.logical_bytes.saturating_sub(freed_bytes);
        // What was owed goes first, for a pass begins where the one before ended.
        let owed_bytes = base.owed_bytes.saturating_sub(freed_bytes);
        batch.put(Family::Meta, meta::PROGRESS, progress(base.revision, logical_bytes, base.applied).encode_to_vec());
        if let Err(error) = base.engine.write(batch, Durability::Buffered) {
            writer.failed = Some(error.clone().into());
            return Err(error.into());
        }
        for key in keys {
            writer.index.compact_key(&key, compact);
        }
        self.published.store(Arc::new(State {
            index: writer.index.view(),
            logical_bytes,
            owed_bytes,
            ..State::clone(&base)
        }));
        Ok(())
    }

    /// Notes that no space work is left up to a revision, and what is owed at it.
    pub(crate) fn set_compaction_finished(&self, finished: Revision, owed_bytes: u64) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        let base = self.published.load_full();
        let mut batch = Batch::default();
        let compacted = base.compacted.unwrap_or(finished);
        batch.put(Family::Meta, meta::COMPACTION, compaction(compacted, finished).encode_to_vec());
        if let Err(error) = base.engine.write(batch, Durability::Buffered) {
            writer.failed = Some(error.clone().into());
            return Err(error.into());
        }
        self.published.store(Arc::new(State { compaction_finished: finished, owed_bytes, ..State::clone(&base) }));
        Ok(())
    }
}

/// The batch that makes a group durable.
fn batch_of(group: &Group<'_>, base: &State, applied: LogPosition) -> Batch {
    let mut batch = group.meta.clone();
    for record in &group.records {
        batch.put(Family::History, record.id.to_bytes().to_vec(), record.encode());
    }
    if let Some(compacted) = group.compacted.filter(|_| group.compacted != base.compacted) {
        batch.put(Family::Meta, meta::COMPACTION, compaction(compacted, base.compaction_finished).encode_to_vec());
    }
    let progress = progress(group.revision, group.logical_bytes, applied);
    batch.put(Family::Meta, meta::PROGRESS, progress.encode_to_vec());
    batch
}

pub(crate) fn progress(revision: Revision, logical_bytes: u64, applied: LogPosition) -> storagepb::Progress {
    storagepb::Progress {
        applied_index: applied.index,
        applied_term: applied.term,
        revision: revision.get(),
        logical_bytes,
    }
}

pub(crate) fn compaction(revision: Revision, finished: Revision) -> storagepb::Compaction {
    storagepb::Compaction { revision: revision.get(), finished: finished.get() }
}

fn unexpected(answer: &Answer) -> Error {
    Error::inconsistent(format!("an operation was answered as another: {answer:?}"))
}
