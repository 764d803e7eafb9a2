//! Leases as the store knows them: which there are, and which keys die with each. When one expires is
//! decided outside, by whoever has a clock.

use bytes::Bytes;
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

/// A lease's number; any but 0, negative ones too.
///
/// ```
/// use stentor_mvcc::LeaseId;
/// assert_eq!(LeaseId::new(-7).map(LeaseId::get), Some(-7));
/// assert_eq!(LeaseId::new(0), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(i64);

impl LeaseId {
    /// The lease `id`, or `None` for 0, which stands for "no lease".
    pub fn new(id: i64) -> Option<LeaseId> {
        (id != 0).then_some(LeaseId(id))
    }

    /// The number as it goes over the wire.
    pub fn get(self) -> i64 {
        self.0
    }
}

/// One lease.
///
/// ```
/// use stentor_mvcc::{LeaseId, Store, engine::memory};
/// use stentor_proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
/// use stentor_proto::storagepb::log_entry::Op;
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// store.execute(Op::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 }))?;
/// store.put(PutRequest { key: "k".into(), lease: 7, ..Default::default() })?;
/// let view = store.view();
/// let lease = LeaseId::new(7).and_then(|id| view.leases().get(id));
/// assert!(lease.is_some_and(|lease| lease.ttl_seconds == 60 && lease.keys.iter().eq(["k"])));
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How long it lives without being kept alive, in seconds.
    pub ttl_seconds: i64,
    /// The keys that are deleted when it ends.
    pub keys: RedBlackTreeSetSync<Bytes>,
}

/// All leases at one moment; cheap to clone.
///
/// ```
/// use stentor_mvcc::{LeaseId, Store, engine::memory};
/// use stentor_proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
/// use stentor_proto::storagepb::log_entry::Op;
/// let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// store.execute(Op::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 }))?;
/// store.put(PutRequest { key: "k".into(), lease: 7, ..Default::default() })?;
/// let view = store.view();
/// let leases = view.leases();
/// assert_eq!((leases.len(), leases.of_key(b"k")), (1, LeaseId::new(7)));
/// assert!(leases.iter().all(|(id, lease)| lease.keys.size() == 1 && leases.get(id) == Some(lease)));
/// assert!(leases.attached().all(|(key, id)| key == "k" && id.get() == 7));
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Leases {
    by_id: HashTrieMapSync<LeaseId, Lease>,
    by_key: HashTrieMapSync<Bytes, LeaseId>,
}

impl Leases {
    /// One lease.
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    /// Every lease, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.size()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The lease that a key is attached to.
    pub fn of_key(&self, key: &[u8]) -> Option<LeaseId> {
        self.by_key.get(key).copied()
    }

    /// Every key with a lease, in no particular order.
    pub fn attached(&self) -> impl Iterator<Item = (&Bytes, LeaseId)> {
        self.by_key.iter().map(|(key, id)| (key, *id))
    }

    pub(crate) fn insert(&mut self, id: LeaseId, ttl_seconds: i64) {
        self.by_id.insert_mut(id, Lease { ttl_seconds, keys: RedBlackTreeSetSync::default() });
    }

    /// Removes the lease; its keys are detached.
    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.by_id.get(&id)?.clone();
        self.by_id.remove_mut(&id);
        for key in &lease.keys {
            self.by_key.remove_mut(key);
        }
        Some(lease)
    }

    /// Moves a key to a lease, or to none.
    pub(crate) fn attach(&mut self, key: &Bytes, to: Option<LeaseId>) {
        let from = self.of_key(key);
        if from == to {
            return;
        }
        if let Some(lease) = from.and_then(|id| self.by_id.get_mut(&id)) {
            lease.keys.remove_mut(key);
        }
        match to {
            None => {
                self.by_key.remove_mut(key);
            }
            Some(id) => {
                if let Some(lease) = self.by_id.get_mut(&id) {
                    lease.keys.insert_mut(key.clone());
                }
                self.by_key.insert_mut(key.clone(), id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_attached_to_its_last_lease_only() {
        let (one, two) = (LeaseId(1), LeaseId(-2));
        let key = Bytes::from("k");
        let mut leases = Leases::default();
        leases.insert(one, 5);
        leases.insert(two, 6);
        leases.attach(&key, Some(one));
        leases.attach(&key, Some(two));
        assert!(leases.get(one).unwrap().keys.is_empty());
        assert_eq!(leases.of_key(b"k"), Some(two));
        let gone = leases.remove(two).unwrap();
        assert!(gone.keys.iter().eq([&key]));
        assert_eq!(leases.of_key(b"k"), None);
        leases.attach(&key, None);
        assert_eq!(leases.len(), 1);
    }
}
