use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use stentor_proto::{Revision, mvccpb};

use crate::error::Shown;

/// A key and its value as the store had them at some revision.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyValue {
    key: Bytes,
    value: Bytes,
    created: Revision,
    modified: Revision,
    version: u64,
    lease: Option<LeaseId>,
}

/// The number of a lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(i64);

impl KeyValue {
    /// The key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The key as text, if it is UTF-8.
    pub fn key_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.key).ok()
    }

    /// The value.
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// The value as text, if it is UTF-8.
    pub fn value_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.value).ok()
    }

    /// Key and value.
    pub fn into_parts(self) -> (Bytes, Bytes) {
        (self.key, self.value)
    }

    /// The revision that created the key: a key deleted and put again has a new one.
    pub fn create_revision(&self) -> Revision {
        self.created
    }

    /// The revision of its last change.
    pub fn mod_revision(&self) -> Revision {
        self.modified
    }

    /// How many times it was put since it was created: 1 for a new key.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The lease it ends with.
    pub fn lease(&self) -> Option<LeaseId> {
        self.lease
    }

    /// The same in memory of its own. What comes from the network lies in the message it came with, and
    /// keeps all of that in memory.
    pub(crate) fn detached(&self) -> KeyValue {
        let mut own = BytesMut::with_capacity(self.key.len() + self.value.len());
        own.put_slice(&self.key);
        own.put_slice(&self.value);
        let mut value = own.freeze();
        let key = value.split_to(self.key.len());
        KeyValue { key, value, ..*self }
    }

    /// Without the first bytes of its key.
    pub(crate) fn without(mut self, bytes: usize) -> KeyValue {
        if bytes > 0 {
            self.key = self.key.split_off(bytes.min(self.key.len()));
        }
        self
    }

    /// Roughly what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.len() + size_of::<KeyValue>()
    }
}

impl From<mvccpb::KeyValue> for KeyValue {
    fn from(kv: mvccpb::KeyValue) -> KeyValue {
        KeyValue {
            created: revision(kv.create_revision),
            modified: revision(kv.mod_revision),
            version: u64::try_from(kv.version).unwrap_or(0),
            lease: LeaseId::new(kv.lease),
            key: kv.key,
            value: kv.value,
        }
    }
}

/// A revision as a server sent it; no store is below zero.
pub(crate) fn revision(n: i64) -> Revision {
    Revision::new(n).unwrap_or(Revision::ZERO)
}

impl LeaseId {
    /// The lease with this number; 0 is none.
    pub fn new(id: i64) -> Option<LeaseId> {
        (id != 0).then_some(LeaseId(id))
    }

    /// The number as it goes over the wire.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue")
            .field("key", &Shown(&self.key))
            .field("value", &Shown(&self.value))
            .field("created", &self.created.get())
            .field("modified", &self.modified.get())
            .field("version", &self.version)
            .field("lease", &self.lease)
            .finish()
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As etcdctl shows leases.
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
