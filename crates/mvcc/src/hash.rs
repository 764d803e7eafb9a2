//! The hash by which members compare what they hold.

use stentor_proto::Revision;

use crate::engine::Family;
use crate::source::Source;
use crate::{ChangeId, Error, Record, View};

/// What [`View::hash_kv`] found.
///
/// ```
/// use stentor_mvcc::{KvHash, Store, engine::memory};
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// let KvHash { hash, compacted, revision } = store.view().hash_kv(0)?;
/// // The CRC-32C of nothing: the first revision has no change.
/// assert_eq!((hash, compacted, revision.get()), (0, None, 1));
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// Over all that can be read at or below the revision hashed.
    pub hash: u32,
    /// The compacted revision it was taken with: equal hashes can be expected only where this is equal.
    pub compacted: Option<Revision>,
    /// The revision hashed.
    pub revision: Revision,
}

impl View {
    /// Hashes history up to a revision, 0 or less meaning the newest: equal on all members with equal
    /// history and compaction, however far the space work of the compaction has come on each.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// let before = store.view().hash_kv(0)?;
    /// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
    /// assert_eq!(store.view().hash_kv(before.revision.get())?, before);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`FutureRev`](stentor_proto::EtcdError::FutureRev) and [`Compacted`](stentor_proto::EtcdError::Compacted); engine errors.
    pub fn hash_kv(&self, revision: i64) -> Result<KvHash, Error> {
        let at = self.state().readable(revision)?;
        let first = ChangeId { revision: Revision::ZERO, sub: 0 };
        let mut hash = 0;
        for record in self.records_between(first, ChangeId { revision: at.next(), sub: 0 })? {
            let record = record?;
            if self.is_visible(&record) {
                hash = crc32c::crc32c_append(hash, &record.id.to_bytes());
                hash = crc32c::crc32c_append(hash, &[u8::from(record.is_delete())]);
                hash = crc32c::crc32c_append(hash, record.encoded_pair());
            }
        }
        Ok(KvHash { hash, compacted: self.compacted(), revision: at })
    }

    /// Whether the compaction in force keeps a record: it is above it, or what a read at it finds, or a
    /// tombstone just at it.
    fn is_visible(&self, record: &Record) -> bool {
        let Some(compacted) = self.compacted().filter(|c| record.id.revision <= *c) else { return true };
        let newest = self.state().index.change_at(record.key(), compacted);
        newest.is_some_and(|newest| newest.id == record.id) && !(record.is_delete() && record.id.revision < compacted)
    }

    /// Hashes everything the engine holds, as it holds it: two members never need agree.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// let before = store.view().hash_engine()?;
    /// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
    /// assert_ne!(store.view().hash_engine()?, before);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors.
    pub fn hash_engine(&self) -> Result<u32, Error> {
        let engine = self.state().engine.view();
        let mut hash = 0;
        for family in [Family::History, Family::Meta] {
            for entry in engine.scan(family, &[], None)? {
                let (key, value) = entry?;
                hash = crc32c::crc32c_append(hash, &key);
                hash = crc32c::crc32c_append(hash, &value);
            }
        }
        Ok(hash)
    }
}
