//! A group of log entries on its way into the store: evaluated one after the other on a private copy of
//! the state, and written as one batch.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::response_op::Response;
use stentor_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse,
};
use stentor_proto::mvccpb::KeyValue;
use stentor_proto::storagepb::{LeaseRecord, LogEntry, log_entry::Op};
use stentor_proto::{EtcdError, KeyRange, Revision};

use crate::alarm::{Alarm, AlarmKind};
use crate::answer::{Answer, Outcome};
use crate::engine::{Batch, Engine, Family};
use crate::key_index::{IndexView, KeyIndex};
use crate::lease::{LeaseId, Leases};
use crate::member::Members;
use crate::meta;
use crate::record::Record;
use crate::source::{Source, read_records};
use crate::txn::{self, Path, revision_header};
use crate::{ChangeId, Error};

/// A put that overwrites a key with no more than this many bytes passes even while the NOSPACE alarm is
/// raised: Kubernetes must write a small key before it can compact.
///
/// ```
/// use stentor_mvcc::{SMALL_OVERWRITE_BYTES, Store, engine::memory};
/// use stentor_proto::etcdserverpb::{AlarmRequest, AlarmType, PutRequest, alarm_request::AlarmAction};
/// use stentor_proto::storagepb::log_entry::Op;
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// let put = |bytes| PutRequest { key: "k".into(), value: vec![0; bytes].into(), ..Default::default() };
/// store.put(put(1))?;
/// let (action, alarm) = (AlarmAction::Activate.into(), AlarmType::Nospace.into());
/// store.execute(Op::Alarm(AlarmRequest { action, member_id: 1, alarm }))?;
/// // The key is one byte of it.
/// assert!(store.put(put(SMALL_OVERWRITE_BYTES - 1)).is_ok());
/// assert!(store.put(put(SMALL_OVERWRITE_BYTES)).is_err());
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
pub const SMALL_OVERWRITE_BYTES: usize = 1024;

/// The state that entries are evaluated on, and what they have changed so far.
pub(crate) struct Group<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) index: KeyIndex,
    pub(crate) leases: Leases,
    pub(crate) alarms: BTreeSet<Alarm>,
    pub(crate) members: Arc<Members>,
    /// The newest finished revision.
    pub(crate) revision: Revision,
    pub(crate) compacted: Option<Revision>,
    pub(crate) logical_bytes: u64,
    /// The changes of the group, in order; not yet in the engine.
    pub(crate) records: Vec<Record>,
    /// What changes beside history.
    pub(crate) meta: Batch,
    /// Wall clock of the entry being evaluated, milliseconds since 1970.
    time_unix_ms: u64,
    /// Changes that the entry being evaluated has made.
    changes: u32,
}

impl<'a> Group<'a> {
    pub(crate) fn new(state: &crate::state::State, index: KeyIndex) -> Group<'_> {
        Group {
            engine: &*state.engine,
            index,
            leases: state.leases.clone(),
            alarms: state.alarms.clone(),
            members: state.members.clone(),
            revision: state.revision,
            compacted: state.compacted,
            logical_bytes: state.logical_bytes,
            records: Vec::new(),
            meta: Batch::default(),
            time_unix_ms: 0,
            changes: 0,
        }
    }

    /// Evaluates one entry. `Ok(Err(..))` is an answer too: the entry was refused and left no trace. An
    /// outer error means that the store can't go on; the group is lost as a whole.
    pub(crate) fn evaluate(&mut self, entry: &LogEntry) -> Result<Outcome, Error> {
        self.time_unix_ms = entry.time_unix_ms;
        self.changes = 0;
        let outcome = match &entry.op {
            Some(op) => match self.refused_by_alarm(op) {
                Some(refusal) => Err(refusal.into()),
                None => self.run(op),
            },
            // An entry of a later version: nothing is known of it, so nothing is done, on every member.
            None => Ok(Answer::Nothing),
        };
        if self.changes > 0 {
            self.revision = self.revision.next();
            self.changes = 0;
        }
        match outcome {
            Ok(answer) => Ok(Ok(answer)),
            Err(Error::Refused(error)) => Ok(Err(error)),
            Err(fatal) => Err(fatal),
        }
    }

    fn run(&mut self, op: &Op) -> Result<Answer, Error> {
        match op {
            Op::Put(put) => self.put_entry(put).map(Answer::Put),
            Op::DeleteRange(delete) => self.delete_entry(delete).map(Answer::DeleteRange),
            Op::Txn(txn) => self.txn_entry(txn).map(Answer::Txn),
            Op::Compact(compact) => self.compact_entry(compact.revision).map(Answer::Compact),
            Op::LeaseGrant(grant) => self.grant(grant.id, grant.ttl).map(Answer::LeaseGrant),
            Op::LeaseRevoke(revoke) => self.revoke(revoke.id),
            Op::Alarm(alarm) => Ok(Answer::Alarm(self.alarm(alarm))),
            Op::Member(change) => Ok(Answer::Members(self.change_members(change)?)),
        }
    }

    fn put_entry(&mut self, put: &PutRequest) -> Result<PutResponse, Error> {
        txn::check_lease(self, put.lease)?;
        self.put(put)
    }

    fn delete_entry(&mut self, delete: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        self.delete_range(delete)
    }

    fn txn_entry(&mut self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        let path = txn::choose(self, request)?;
        txn::check(self, request, &path)?;
        // After the checks only two double changes that etcd overlooks can still fail: an ignoring put
        // of a key that the transaction itself has deleted. Then all of it is taken back.
        let before = keeps_old(request).then(|| self.save());
        let responses = self.run_branch(request, &path);
        if responses.is_err()
            && let Some(before) = before
        {
            self.restore(before);
        }
        let header = Some(revision_header(self.current()));
        Ok(TxnResponse { header, succeeded: path.succeeded, responses: responses? })
    }

    fn run_branch(&mut self, request: &TxnRequest, path: &Path) -> Result<Vec<ResponseOp>, Error> {
        let mut nested = path.nested.iter();
        let mut responses = Vec::new();
        for op in txn::branch(request, path.succeeded) {
            let response = match &op.request {
                Some(Request::RequestRange(range)) => Response::ResponseRange(txn::inner_range(self, range)?),
                Some(Request::RequestPut(put)) => Response::ResponsePut(self.put(put)?),
                Some(Request::RequestDeleteRange(delete)) => Response::ResponseDeleteRange(self.delete_range(delete)?),
                Some(Request::RequestTxn(inner)) => {
                    let Some(path) = nested.next() else { continue };
                    let responses = self.run_branch(inner, path)?;
                    let header = Some(ResponseHeader::default());
                    Response::ResponseTxn(TxnResponse { header, succeeded: path.succeeded, responses })
                }
                None => continue,
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        Ok(responses)
    }

    fn put(&mut self, put: &PutRequest) -> Result<PutResponse, Error> {
        let found = self.index.get(&put.key, Revision::MAX);
        if found.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(EtcdError::KeyNotFound.into());
        }
        let old = match found {
            Some(found) if put.prev_kv || put.ignore_value => Some(self.pair(found.change)?),
            _ => None,
        };
        let lease = if put.ignore_lease { self.leases.of_key(&put.key) } else { LeaseId::new(put.lease) };
        let value = match &old {
            Some(old) if put.ignore_value => old.value.clone(),
            _ => put.value.clone(),
        };
        let id = self.next_change();
        let placed = self.index.put(&put.key, id);
        self.leases.attach(&put.key, lease);
        let pair = KeyValue {
            key: put.key.clone(),
            create_revision: placed.create.get(),
            mod_revision: id.revision.get(),
            version: placed.version,
            value,
            lease: lease.map_or(0, LeaseId::get),
        };
        self.add(Record::put(id, self.time_unix_ms, placed.previous, &pair));
        Ok(PutResponse { header: Some(revision_header(id.revision)), prev_kv: old.filter(|_| put.prev_kv) })
    }

    fn delete_range(&mut self, delete: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        let range = KeyRange::from_wire(delete.key.clone(), delete.range_end.clone());
        let live: Vec<(Bytes, ChangeId)> = self
            .index
            .range(&range, Revision::MAX)
            .map(|(key, found)| (Bytes::copy_from_slice(key), found.change))
            .collect();
        let mut prev_kvs = Vec::new();
        if delete.prev_kv {
            let ids: Vec<ChangeId> = live.iter().map(|(_, id)| *id).collect();
            for record in self.records(&ids)? {
                prev_kvs.push(record.pair().map_err(|e| Error::unreadable(record.id, e))?);
            }
        }
        let deleted = live.len() as i64;
        for (key, _) in live {
            self.delete(key);
        }
        Ok(DeleteRangeResponse { header: Some(revision_header(self.current())), deleted, prev_kvs })
    }

    /// Deletes a key if it is live.
    fn delete(&mut self, key: Bytes) {
        let id = self.next_change();
        if let Some(was) = self.index.delete(&key, id) {
            self.leases.attach(&key, None);
            self.add(Record::delete(id, self.time_unix_ms, Some(was.change), key));
        }
    }

    fn compact_entry(&mut self, revision: i64) -> Result<Revision, Error> {
        if revision <= self.compacted.map_or(-1, Revision::get) {
            return Err(EtcdError::Compacted.into());
        }
        let revision = Revision::new(revision).filter(|r| *r <= self.revision).ok_or(EtcdError::FutureRev)?;
        self.compacted = Some(revision);
        Ok(self.revision)
    }

    fn grant(&mut self, id: i64, ttl_seconds: i64) -> Result<Revision, Error> {
        let lease = LeaseId::new(id).ok_or(EtcdError::LeaseNotFound)?;
        if self.leases.get(lease).is_some() {
            return Err(EtcdError::LeaseExist.into());
        }
        self.leases.insert(lease, ttl_seconds);
        let record = LeaseRecord { id, ttl_seconds };
        self.meta.put(Family::Meta, meta::lease_key(lease), record.encode_to_vec());
        Ok(self.revision)
    }

    /// Ends a lease and deletes its keys, in key order, in one revision.
    fn revoke(&mut self, id: i64) -> Result<Answer, Error> {
        let lease = LeaseId::new(id).ok_or(EtcdError::LeaseNotFound)?;
        let ended = self.leases.remove(lease).ok_or(EtcdError::LeaseNotFound)?;
        self.meta.delete(Family::Meta, meta::lease_key(lease));
        for key in &ended.keys {
            self.delete(key.clone());
        }
        let deleted = ended.keys.size() as u64;
        Ok(Answer::LeaseRevoke { revision: self.current(), deleted })
    }

    /// Why an alarm keeps `op` from being carried out. A corrupt cluster takes only alarms and changes of its
    /// members; one out of space
    /// what frees some, and small overwrites.
    fn refused_by_alarm(&self, op: &Op) -> Option<EtcdError> {
        let is_raised = |kind| self.alarms.iter().any(|alarm| alarm.kind == kind);
        if is_raised(AlarmKind::Corrupt) && !matches!(op, Op::Alarm(_) | Op::Member(_)) {
            return Some(EtcdError::Corrupt);
        }
        (is_raised(AlarmKind::NoSpace) && self.needs_space(op)).then_some(EtcdError::NoSpace)
    }

    fn needs_space(&self, op: &Op) -> bool {
        match op {
            Op::Put(put) => !self.is_small_overwrite(put),
            Op::Txn(txn) => has_put(txn, &|put| !self.is_small_overwrite(put)),
            Op::LeaseGrant(_) => true,
            _ => false,
        }
    }

    fn is_small_overwrite(&self, put: &PutRequest) -> bool {
        put.key.len() + put.value.len() <= SMALL_OVERWRITE_BYTES && self.index.get(&put.key, Revision::MAX).is_some()
    }

    fn next_change(&self) -> ChangeId {
        ChangeId { revision: self.revision.next(), sub: self.changes }
    }

    fn add(&mut self, record: Record) {
        self.logical_bytes += record.logical_bytes();
        self.records.push(record);
        self.changes += 1;
    }

    fn pair(&self, id: ChangeId) -> Result<KeyValue, Error> {
        self.record(id)?.pair().map_err(|e| Error::unreadable(id, e))
    }

    fn save(&self) -> Saved {
        Saved {
            index: self.index.clone(),
            leases: self.leases.clone(),
            logical_bytes: self.logical_bytes,
            records: self.records.len(),
        }
    }

    fn restore(&mut self, saved: Saved) {
        self.index = saved.index;
        self.leases = saved.leases;
        self.logical_bytes = saved.logical_bytes;
        self.records.truncate(saved.records);
        self.changes = 0;
    }
}

/// The state before a transaction that may have to be taken back. A transaction changes no meta record.
struct Saved {
    index: KeyIndex,
    leases: Leases,
    logical_bytes: u64,
    records: usize,
}

/// Whether some put of a transaction, in any branch, satisfies `which`.
pub(crate) fn has_put(request: &TxnRequest, which: &impl Fn(&PutRequest) -> bool) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(Request::RequestPut(put)) => which(put),
        Some(Request::RequestTxn(nested)) => has_put(nested, which),
        _ => false,
    })
}

fn keeps_old(request: &TxnRequest) -> bool {
    has_put(request, &|put| put.ignore_value || put.ignore_lease)
}

impl Source for Group<'_> {
    fn index(&self) -> &IndexView {
        &self.index
    }

    /// While an entry has made changes, what it reads is the revision it is making.
    fn current(&self) -> Revision {
        if self.changes > 0 { self.revision.next() } else { self.revision }
    }

    fn compacted(&self) -> Option<Revision> {
        self.compacted
    }

    fn leases(&self) -> &Leases {
        &self.leases
    }

    fn records(&self, ids: &[ChangeId]) -> Result<Vec<Record>, Error> {
        let own = |id: &ChangeId| self.records.binary_search_by_key(id, |r| r.id).ok().map(|at| &self.records[at]);
        if self.records.is_empty() || ids.iter().all(|id| own(id).is_none()) {
            return read_records(self.engine, ids);
        }
        ids.iter()
            .map(|id| match own(id) {
                Some(record) => Ok(record.clone()),
                None => read_records(self.engine, &[*id])?.pop().ok_or_else(|| Error::missing(*id)),
            })
            .collect()
    }
}
