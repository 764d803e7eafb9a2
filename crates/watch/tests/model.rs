//! The store as plainly as it can be written: every event that ever was, with what it superseded.

use std::collections::BTreeMap;

use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use stentor_proto::mvccpb::KeyValue;
use stentor_proto::{KeyRange, mvccpb::Event};

#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    pub(crate) delete: bool,
    pub(crate) pair: KeyValue,
    /// The key's pair at revision - 1.
    pub(crate) before: Option<KeyValue>,
}

impl Change {
    pub(crate) fn is(&self, event: &Event) -> bool {
        (event.r#type == 1) == self.delete && event.kv.as_ref() == Some(&self.pair)
    }

    pub(crate) fn is_creation(&self) -> bool {
        !self.delete && self.pair.create_revision == self.pair.mod_revision
    }
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) changes: Vec<Change>,
    pairs: BTreeMap<Vec<u8>, KeyValue>,
    revision: i64,
}

#[derive(Clone, Debug)]
pub(crate) enum Write {
    Put(String, String),
    Delete(String, String),
}

impl Model {
    pub(crate) fn new() -> Model {
        Model { revision: 1, ..Model::default() }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Applies the writes of one transaction.
    pub(crate) fn apply(&mut self, writes: &[Write]) {
        let (revision, before) = (self.revision + 1, self.pairs.clone());
        let first = self.changes.len();
        for write in writes {
            match write {
                Write::Put(key, value) => {
                    let old = self.pairs.get(key.as_bytes());
                    let pair = KeyValue {
                        key: key.clone().into(),
                        value: value.clone().into(),
                        create_revision: old.map_or(revision, |o| o.create_revision),
                        mod_revision: revision,
                        version: old.map_or(1, |o| o.version + 1),
                        lease: 0,
                    };
                    self.pairs.insert(key.clone().into(), pair.clone());
                    let before = before.get(key.as_bytes()).cloned();
                    self.changes.push(Change { revision, delete: false, pair, before });
                }
                Write::Delete(key, end) => {
                    let range = KeyRange::from_wire(key.clone().into(), end.clone().into());
                    let gone: Vec<Vec<u8>> = self.pairs.keys().filter(|k| range.contains(k)).cloned().collect();
                    for key in gone {
                        self.pairs.remove(&key);
                        let before = before.get(&key).cloned();
                        let pair = KeyValue { key: key.into(), mod_revision: revision, ..KeyValue::default() };
                        self.changes.push(Change { revision, delete: true, pair, before });
                    }
                }
            }
        }
        if self.changes.len() > first {
            self.revision = revision;
        }
    }
}

/// The same writes as a transaction.
pub(crate) fn txn_of(writes: &[Write]) -> TxnRequest {
    let success = writes.iter().map(|write| {
        let request = match write {
            Write::Put(key, value) => Request::RequestPut(PutRequest {
                key: key.clone().into(),
                value: value.clone().into(),
                ..PutRequest::default()
            }),
            Write::Delete(key, end) => Request::RequestDeleteRange(DeleteRangeRequest {
                key: key.clone().into(),
                range_end: end.clone().into(),
                ..DeleteRangeRequest::default()
            }),
        };
        RequestOp { request: Some(request) }
    });
    TxnRequest { success: success.collect(), ..TxnRequest::default() }
}
