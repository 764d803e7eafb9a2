//! The store as simply as it can be said: every revision's whole state, and the list of all events.

mod check;
mod read;
mod txn;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use stentor_mvcc::{Alarm, AlarmKind, Answer, Outcome};
use stentor_proto::etcdserverpb::{
    AlarmRequest, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader,
};
use stentor_proto::mvccpb::KeyValue;
use stentor_proto::storagepb::{LogEntry, log_entry::Op};
use stentor_proto::{EtcdError, Revision};

pub(crate) use check::{check_key, check_put, check_txn};
pub(crate) use read::Found;
use read::{in_range, range};

/// The live keys at a revision.
pub(crate) type State = BTreeMap<Bytes, KeyValue>;

/// A change, as a watcher learns of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub revision: i64,
    pub sub: u32,
    pub delete: bool,
    /// The whole pair of a put; key and mod_revision of a delete.
    pub pair: KeyValue,
    pub time_unix_ms: u64,
}

/// A store.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// By revision; those at 0 and 1 are empty.
    states: Vec<Rc<State>>,
    pub events: Vec<Rc<Event>>,
    /// -1 if never compacted.
    pub compacted: i64,
    /// Each with its TTL.
    pub leases: BTreeMap<i64, i64>,
    pub alarms: BTreeSet<Alarm>,
    /// Transactions that failed when some of their operations had run.
    pub taken_back: Cell<u32>,
}

/// An entry on its way: what it has changed so far.
struct Change {
    state: State,
    events: Vec<Rc<Event>>,
    revision: i64,
    time_unix_ms: u64,
}

impl Model {
    pub(crate) fn new() -> Model {
        Model {
            states: vec![Rc::default(), Rc::default()],
            events: Vec::new(),
            compacted: -1,
            leases: BTreeMap::new(),
            alarms: BTreeSet::new(),
            taken_back: Cell::new(0),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    pub(crate) fn state(&self, revision: i64) -> &State {
        &self.states[revision as usize]
    }

    pub(crate) fn newest(&self) -> &State {
        self.state(self.revision())
    }

    /// The keys that die with a lease.
    pub(crate) fn keys_of(&self, lease: i64) -> Vec<Bytes> {
        self.newest().values().filter(|p| p.lease == lease).map(|p| p.key.clone()).collect()
    }

    /// Events from a revision on.
    pub(crate) fn history(&self, from: i64) -> impl Iterator<Item = &Rc<Event>> {
        self.events.iter().filter(move |e| e.revision >= from)
    }

    /// The changes that the compaction in force keeps readable.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &Rc<Event>> {
        let mut newest_at_compacted = BTreeMap::new();
        for event in self.events.iter().filter(|e| e.revision <= self.compacted) {
            newest_at_compacted.insert(event.pair.key.clone(), (event.revision, event.sub));
        }
        self.events.iter().filter(move |e| {
            e.revision > self.compacted
                || newest_at_compacted.get(&e.pair.key) == Some(&(e.revision, e.sub))
                    && !(e.delete && e.revision < self.compacted)
        })
    }

    /// The changes that are left on disk once a compaction at `finished` has no space work any more.
    pub(crate) fn kept(&self, finished: i64) -> impl Iterator<Item = &Rc<Event>> {
        let mut newest_below = BTreeMap::new();
        for event in self.events.iter().filter(|e| e.revision < finished) {
            newest_below.insert(event.pair.key.clone(), (event.revision, event.sub));
        }
        self.events.iter().filter(move |e| {
            e.revision >= finished || newest_below.get(&e.pair.key) == Some(&(e.revision, e.sub)) && !e.delete
        })
    }

    /// The hash that every member with this content must show for a revision.
    pub(crate) fn hash(&self, revision: i64) -> u32 {
        let mut hash = 0;
        for event in self.visible().filter(|e| e.revision <= revision) {
            hash = crc32c::crc32c_append(hash, &event.revision.to_be_bytes());
            hash = crc32c::crc32c_append(hash, &event.sub.to_be_bytes());
            hash = crc32c::crc32c_append(hash, &[u8::from(event.delete)]);
            hash = crc32c::crc32c_append(hash, &prost::Message::encode_to_vec(&event.pair));
        }
        hash
    }

    /// What becomes of an entry.
    pub(crate) fn apply(&mut self, entry: &LogEntry) -> Outcome {
        let mut change = Change {
            state: self.newest().clone(),
            events: Vec::new(),
            revision: self.revision() + 1,
            time_unix_ms: entry.time_unix_ms,
        };
        let op = entry.op.as_ref().expect("an entry has an operation");
        if self.alarms.iter().any(|a| a.kind == AlarmKind::Corrupt) && !matches!(op, Op::Alarm(_)) {
            return Err(EtcdError::Corrupt);
        }
        if self.refuses_for_space(op) {
            return Err(EtcdError::NoSpace);
        }
        let answer = match op {
            Op::Put(put) => {
                self.lease_exists(put.lease)?;
                Answer::Put(change.put(put)?)
            }
            Op::DeleteRange(delete) => Answer::DeleteRange(change.delete_range(delete)),
            Op::Txn(request) => Answer::Txn(self.txn(&mut change, request)?),
            Op::Compact(request) => {
                if request.revision <= self.compacted {
                    return Err(EtcdError::Compacted);
                } else if request.revision > self.revision() {
                    return Err(EtcdError::FutureRev);
                }
                self.compacted = request.revision;
                Answer::Compact(revision(self.revision()))
            }
            Op::LeaseGrant(grant) => {
                if self.leases.contains_key(&grant.id) {
                    return Err(EtcdError::LeaseExist);
                }
                self.leases.insert(grant.id, grant.ttl);
                Answer::LeaseGrant(revision(self.revision()))
            }
            Op::LeaseRevoke(revoke) => {
                self.leases.remove(&revoke.id).ok_or(EtcdError::LeaseNotFound)?;
                for key in self.keys_of(revoke.id) {
                    change.delete(&key);
                }
                Answer::LeaseRevoke { revision: revision(change.current()), deleted: change.events.len() as u64 }
            }
            Op::Alarm(request) => Answer::Alarm(self.alarm(request)),
            Op::Member(_) => unreachable!("members touch nothing else, and have tests of their own"),
        };
        if !change.events.is_empty() {
            self.states.push(Rc::new(change.state));
            self.events.extend(change.events);
        }
        Ok(answer)
    }

    fn lease_exists(&self, lease: i64) -> Result<(), EtcdError> {
        if lease == 0 || self.leases.contains_key(&lease) { Ok(()) } else { Err(EtcdError::LeaseNotFound) }
    }

    fn refuses_for_space(&self, op: &Op) -> bool {
        if !self.alarms.iter().any(|a| a.kind == AlarmKind::NoSpace) {
            return false;
        }
        let small = |put: &PutRequest| {
            put.key.len() + put.value.len() <= stentor_mvcc::SMALL_OVERWRITE_BYTES
                && self.newest().contains_key(&put.key)
        };
        match op {
            Op::Put(put) => !small(put),
            Op::Txn(request) => txn::puts(request).into_iter().any(|put| !small(put)),
            Op::LeaseGrant(_) => true,
            _ => false,
        }
    }

    fn alarm(&mut self, request: &AlarmRequest) -> Vec<Alarm> {
        let kind = match request.alarm {
            1 => Some(AlarmKind::NoSpace),
            2 => Some(AlarmKind::Corrupt),
            _ => None,
        };
        let Some(kind) = kind else {
            let all = |a: &&Alarm| request.member_id == 0 || a.member_id == request.member_id;
            return if request.action == 0 { self.alarms.iter().filter(all).copied().collect() } else { Vec::new() };
        };
        let alarm = Alarm { member_id: request.member_id, kind };
        match request.action {
            0 => self
                .alarms
                .iter()
                .filter(|a| a.kind == kind && (request.member_id == 0 || a.member_id == request.member_id))
                .copied()
                .collect(),
            1 => {
                self.alarms.insert(alarm);
                vec![alarm]
            }
            _ => self.alarms.take(&alarm).into_iter().collect(),
        }
    }
}

impl Change {
    /// The revision that reads of the entry see.
    fn current(&self) -> i64 {
        if self.events.is_empty() { self.revision - 1 } else { self.revision }
    }

    fn add(&mut self, delete: bool, pair: KeyValue) {
        let sub = self.events.len() as u32;
        let (revision, time_unix_ms) = (self.revision, self.time_unix_ms);
        self.events.push(Rc::new(Event { revision, sub, delete, pair, time_unix_ms }));
    }

    fn put(&mut self, put: &PutRequest) -> Result<PutResponse, EtcdError> {
        let old = self.state.get(&put.key).cloned();
        if old.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(EtcdError::KeyNotFound);
        }
        let kept = old.clone().unwrap_or_default();
        let pair = KeyValue {
            key: put.key.clone(),
            create_revision: if old.is_some() { kept.create_revision } else { self.revision },
            mod_revision: self.revision,
            version: kept.version + 1,
            value: if put.ignore_value { kept.value } else { put.value.clone() },
            lease: if put.ignore_lease { kept.lease } else { put.lease },
        };
        self.state.insert(put.key.clone(), pair.clone());
        self.add(false, pair);
        Ok(PutResponse { header: header(self.revision), prev_kv: old.filter(|_| put.prev_kv) })
    }

    fn delete(&mut self, key: &Bytes) -> Option<KeyValue> {
        let old = self.state.remove(key)?;
        let pair = KeyValue { key: key.clone(), mod_revision: self.revision, ..KeyValue::default() };
        self.add(true, pair);
        Some(old)
    }

    fn delete_range(&mut self, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
        let keys: Vec<Bytes> =
            self.state.keys().filter(|k| in_range(k, &delete.key, &delete.range_end)).cloned().collect();
        let old: Vec<KeyValue> = keys.iter().filter_map(|key| self.delete(key)).collect();
        DeleteRangeResponse {
            header: header(self.current()),
            deleted: old.len() as i64,
            prev_kvs: if delete.prev_kv { old } else { Vec::new() },
        }
    }
}

/// A header as the store fills it in.
fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// A revision that is not negative.
pub(crate) fn revision(n: i64) -> Revision {
    Revision::new(n).expect("a revision is not negative")
}
