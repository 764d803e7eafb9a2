//! Where records are kept: two families of ordered keys with atomic batches.
//!
//! An engine knows nothing of revisions. It promises that a batch is there whole or not at all, also
//! after a crash, that batches survive in the order in which they were written (never a later one
//! without an earlier one), and that a failed write or sync is reported and never papered over.

mod error;
pub mod memory;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
#[cfg(test)]
mod tests;

pub use error::EngineError;

use std::io;

use bytes::Bytes;

/// Which of the engine's ordered key spaces. History has its own, so that its files only ever grow at
/// the end and are never rewritten for the sake of a small key that changes with every batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Changes by (revision, sub-revision).
    History,
    /// The few small records beside history: progress, compaction, leases, alarms.
    Meta,
}

/// Changes that take effect together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    ops: Vec<Op>,
    bytes: usize,
}

/// One change of a [`Batch`].
#[derive(Clone, Debug)]
pub enum Op {
    /// Sets a key.
    Put(Family, Bytes, Bytes),
    /// Removes a key; one that is not there is no error.
    Delete(Family, Bytes),
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, family: Family, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.ops.push(Op::Put(family, key, value));
    }

    /// Removes a key.
    pub fn delete(&mut self, family: Family, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.ops.push(Op::Delete(family, key));
    }

    /// The changes in order; of two of the same key the later one counts.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// When a write is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When [`Engine::write`] returns, the batch and all before it survive a crash of the machine.
    Synced,
    /// The batch survives once [`Engine::sync`] or [`Engine::flush`] has returned.
    Buffered,
}

/// A key with its value, in the order of the keys.
pub type Entry = (Bytes, Bytes);

/// Entries as a scan finds them.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<Entry, EngineError>> + Send + 'a>;

/// Something that can be read: the engine as it is now, or a view of it as it was.
///
/// A read that finds damage ends with [`EngineError::Corrupt`], and from then on the engine refuses
/// writes: nothing good is built on a damaged store.
pub trait Read: Send + Sync {
    /// The value of one key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The entries from `from` to before `to`, forwards. Reads ahead and leaves no trace in caches: it
    /// is meant for long scans. It ends after its first error.
    fn scan(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Result<Scan<'_>, EngineError>;

    /// The values of many keys, in their order. One call for all lets the engine share its work.
    fn get_many(&self, family: Family, keys: &[[u8; 12]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        keys.iter().map(|key| self.get(family, key)).collect()
    }
}

/// What the engine takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// All files, or all memory of the in-memory engine.
    pub total: u64,
    /// The part of it that live entries need, as far as the engine can tell.
    pub live: u64,
}

/// Writes the content of a blob.
pub type BlobWriter<'a> = dyn FnMut(&mut dyn io::Write) -> io::Result<()> + 'a;

/// A store of records. All methods may be called from any thread at once. What an engine finds when it
/// is opened is durable.
pub trait Engine: Read + 'static {
    /// Applies a batch. After an error nothing of the batch is to be relied on, and the engine refuses
    /// every later write with [`EngineError::Failed`]: what a failed sync left on disk is unknown, so
    /// only a restart finds out.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError>;

    /// Everything written before this call survives a crash when it returns.
    fn sync(&self) -> Result<(), EngineError>;

    /// As [`Engine::sync`], and moves it from the write-ahead log or memory to where it stays.
    fn flush(&self) -> Result<(), EngineError>;

    /// The value that a key would have after a crash right now. An engine that cannot tell makes what it
    /// reads durable first, as [`Engine::sync`] does.
    fn get_persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// A view of the engine as it is now, which stays as it is until dropped. Holding one keeps deleted
    /// entries on disk.
    fn view(&self) -> Box<dyn Read + '_>;

    /// Gives the space of deleted entries below `to` back to the system. May take long; writes go on.
    fn reclaim(&self, family: Family, to: Option<&[u8]>) -> Result<(), EngineError>;

    /// Keeps what `write` writes under a name, in the place of what was there: beside the entries, and
    /// durable on return. After an error, which is none of later writes, what was there is still there.
    fn save_blob(&self, name: &str, write: &mut BlobWriter<'_>) -> Result<(), EngineError>;

    /// What was last kept under a name.
    fn load_blob(&self, name: &str) -> Result<Option<Box<dyn io::Read + Send>>, EngineError>;

    /// Ends long work, such as [`Engine::reclaim`], soon and unfinished: the process is about to end, and
    /// nothing is written any more.
    fn interrupt(&self) {}

    /// What it takes now.
    fn sizes(&self) -> Result<Sizes, EngineError>;
}
