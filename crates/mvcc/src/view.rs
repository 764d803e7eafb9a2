use std::sync::Arc;

use stentor_proto::etcdserverpb::{RangeRequest, TxnRequest, TxnResponse};
use stentor_proto::mvccpb::KeyValue;
use stentor_proto::{EtcdError, KeyRange, Revision};

use crate::alarm::{self, Alarm};
use crate::engine::Family;
use crate::key_index::IndexView;
use crate::lease::Leases;
use crate::member::Members;
use crate::read::{self, RangeResult};
use crate::record::Record;
use crate::source::Source;
use crate::state::State;
use crate::{ChangeId, Error, LogPosition, txn};

/// The store at one moment. It stays as it is however the store goes on, and takes no lock; while it is
/// held, compaction keeps what it can read, so hold it for a request, not for a connection.
///
/// ```
/// use stentor_mvcc::{Store, engine::memory};
/// use stentor_proto::etcdserverpb::PutRequest;
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
/// let view = store.view();
/// store.put(PutRequest { key: "later".into(), ..Default::default() })?;
/// assert_eq!((view.revision().get(), view.compacted(), view.keys()), (2, None, 1));
/// assert_eq!((view.applied().index, store.view().applied().index), (1, 2));
/// assert!(view.leases().is_empty() && view.all_alarms().next().is_none());
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
#[derive(Clone)]
pub struct View {
    state: Arc<State>,
}

impl View {
    pub(crate) fn new(state: Arc<State>) -> View {
        View { state }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    /// The revision below which history is gone; `None` if nothing was ever compacted (etcd shows that
    /// as -1).
    pub fn compacted(&self) -> Option<Revision> {
        self.state.compacted
    }

    /// The last log entry whose effects are in it.
    pub fn applied(&self) -> LogPosition {
        self.state.applied
    }

    /// Bytes of keys and values kept in history, older revisions included.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
    /// let one = store.view().logical_bytes();
    /// store.put(PutRequest { key: "k".into(), value: vec![0; 1000].into(), ..Default::default() })?;
    /// assert!(store.view().logical_bytes() > one + 1000);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    pub fn logical_bytes(&self) -> u64 {
        self.state.logical_bytes
    }

    /// As [`View::logical_bytes`], without what the compacted revision superseded: that is kept as the
    /// previous pairs that a watch from there owes, and goes with the next compaction. This is what the space
    /// quota counts: else a store whose every key was deleted at the compacted revision could stay full,
    /// with nothing left to delete.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// store.put(PutRequest { key: "k".into(), value: vec![0; 1000].into(), ..Default::default() })?;
    /// store.delete_range(DeleteRangeRequest { key: "k".into(), ..Default::default() })?;
    /// store.compact(store.view().revision())?;
    /// store.finish_compactions()?;
    /// // The value is kept for watches from the compacted revision, and not counted.
    /// let view = store.view();
    /// assert!(view.logical_bytes() > 1000 && view.used_bytes() < 100);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    pub fn used_bytes(&self) -> u64 {
        self.state.logical_bytes.saturating_sub(self.state.owed_bytes)
    }

    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.state.index.live_keys()
    }

    /// How many keys of a range there are at the newest revision, in O(log n).
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::KeyRange;
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// for key in ["/a/1", "/a/2", "/b"] {
    ///     store.put(PutRequest { key: key.into(), ..Default::default() })?;
    /// }
    /// assert_eq!(store.view().count(&KeyRange::prefix("/a/")), 2);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    pub fn count(&self, range: &KeyRange) -> u64 {
        self.state.index.count(range, self.state.revision)
    }

    /// The key index: every key with its changes.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
    /// let view = store.view();
    /// let found = view.index().get(b"k", view.revision());
    /// assert_eq!(found.map(|found| found.change.revision), Some(view.revision()));
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    pub fn index(&self) -> &IndexView {
        &self.state.index
    }

    /// The leases and their keys.
    pub fn leases(&self) -> &Leases {
        &self.state.leases
    }

    /// The alarms that a request asks for.
    ///
    /// ```
    /// use stentor_mvcc::{AlarmKind, Store, engine::memory};
    /// use stentor_proto::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
    /// use stentor_proto::storagepb::log_entry::Op;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// let (action, alarm) = (AlarmAction::Activate.into(), AlarmType::Corrupt.into());
    /// store.execute(Op::Alarm(AlarmRequest { action, member_id: 1, alarm }))?;
    /// // With nothing named it asks for all.
    /// let all = store.view().alarms(&AlarmRequest::default());
    /// assert!(all.iter().map(|alarm| alarm.kind).eq([AlarmKind::Corrupt]));
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    pub fn alarms(&self, request: &stentor_proto::etcdserverpb::AlarmRequest) -> Vec<Alarm> {
        alarm::select(&self.state.alarms, request)
    }

    /// Every alarm.
    pub fn all_alarms(&self) -> impl Iterator<Item = Alarm> + '_ {
        self.state.alarms.iter().copied()
    }

    /// The members of the cluster.
    pub fn members(&self) -> &Members {
        &self.state.members
    }

    /// Reads a range, as etcd's Range does. Its form must have been checked ([`crate::check::range`]).
    ///
    /// # Errors
    /// [`EtcdError::FutureRev`] and [`EtcdError::Compacted`] for revisions that can't be read; engine
    /// errors.
    ///
    /// # Example
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::{PutRequest, RangeRequest};
    /// let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// store.put(PutRequest { key: "/a".into(), value: "1".into(), ..Default::default() })?;
    /// let all = RangeRequest { key: "/".into(), range_end: "0".into(), ..Default::default() };
    /// let found = store.view().range(&all)?;
    /// assert_eq!((found.count, &found.kvs[0].value[..]), (1, &b"1"[..]));
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResult, Error> {
        read::range(&*self.state, request)
    }

    /// Runs a transaction that only reads ([`crate::txn::is_read_only`]).
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::request_op::Request;
    /// use stentor_proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
    /// let range = RangeRequest { key: "k".into(), ..Default::default() };
    /// let success = vec![RequestOp { request: Some(Request::RequestRange(range)) }];
    /// let answer = store.view().txn(&TxnRequest { success, ..Default::default() })?;
    /// assert!(answer.succeeded && answer.responses.len() == 1);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for a range; one failing range fails the transaction.
    pub fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        txn::run_read_only(&*self.state, request)
    }

    /// The pair of a key as of a revision; `None` if it was not there. Also one below the compacted
    /// revision can be asked for, if a change at the compacted revision superseded the pair: that is the
    /// previous value that a watch from there owes.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// for value in ["old", "new"] {
    ///     store.put(PutRequest { key: "k".into(), value: value.into(), ..Default::default() })?;
    /// }
    /// let view = store.view();
    /// let before = view.pair_at(b"k", view.revision().previous())?;
    /// assert_eq!(before.map(|pair| pair.value), Some("old".into()));
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors.
    pub fn pair_at(&self, key: &[u8], at: Revision) -> Result<Option<KeyValue>, Error> {
        let Some(found) = self.state.index.get(key, at) else { return Ok(None) };
        let record = self.state.record(found.change)?;
        record.pair().map(Some).map_err(|e| Error::unreadable(record.id, e))
    }

    /// The changes from revision `from` to `to`, both included, in order. It reads forwards from disk
    /// and takes no lock.
    ///
    /// ```
    /// use stentor_mvcc::{ChangeKind, Error, Store, engine::memory};
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
    /// let view = store.view();
    /// let kinds: Vec<ChangeKind> =
    ///     view.history(view.revision(), view.revision())?.map(|r| Ok(r?.kind)).collect::<Result<_, Error>>()?;
    /// assert_eq!(kinds, [ChangeKind::Put]);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`EtcdError::Compacted`] if `from` is below the compacted revision (at it, history is whole);
    /// engine errors, also from the iterator.
    pub fn history(
        &self,
        from: Revision,
        to: Revision,
    ) -> Result<impl Iterator<Item = Result<Record, Error>> + Send + '_, Error> {
        if self.compacted().is_some_and(|compacted| from < compacted) {
            return Err(EtcdError::Compacted.into());
        }
        self.records_between(ChangeId { revision: from, sub: 0 }, ChangeId { revision: to.next(), sub: 0 })
    }

    /// The records that are on disk between two changes, superseded ones too.
    pub(crate) fn records_between(
        &self,
        from: ChangeId,
        before: ChangeId,
    ) -> Result<impl Iterator<Item = Result<Record, Error>> + Send + '_, Error> {
        let scan = self.state.engine.scan(Family::History, &from.to_bytes(), Some(&before.to_bytes()))?;
        Ok(scan.map(|entry| {
            let (key, value) = entry?;
            let Some(id) = ChangeId::from_bytes(&key) else {
                return Err(Error::inconsistent(format!("history has the key {}", key.escape_ascii())));
            };
            Record::decode(id, value).map_err(|e| Error::unreadable(id, e))
        }))
    }
}
