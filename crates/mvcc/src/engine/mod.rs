//! Where records are kept: two families of ordered keys with atomic batches.
//!
//! An engine knows nothing of revisions. It promises that a batch is there whole or not at all, also
//! after a crash, that batches survive in the order in which they were written (never a later one
//! without an earlier one), and that a failed write or sync is reported and never papered over.

mod error;
pub mod memory;
// For the fuzz targets; not part of what this crate promises.
#[doc(hidden)]
pub mod parse;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
#[cfg(test)]
mod tests;

pub use error::EngineError;

use std::io;

use bytes::Bytes;

/// Which of the engine's ordered key spaces. History has its own, so that its files only ever grow at
/// the end and are never rewritten for the sake of a small key that changes with every batch.
///
/// ```
/// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, Read, memory};
/// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
/// let mut batch = Batch::default();
/// batch.put(Family::Meta, "a", "1");
/// engine.write(batch, Durability::Synced)?;
/// // The same key of the other family is another one.
/// assert_eq!(engine.get(Family::History, b"a")?, None);
/// # Ok::<(), stentor_mvcc::engine::EngineError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Changes by (revision, sub-revision).
    History,
    /// The few small records beside history: progress, compaction, leases, alarms.
    Meta,
}

/// Changes that take effect together.
///
/// ```
/// use stentor_mvcc::engine::{Batch, Family};
/// let mut batch = Batch::default();
/// batch.put(Family::Meta, "a", "123");
/// batch.delete(Family::Meta, "b");
/// assert!(batch.ops().len() == 2 && !batch.is_empty());
/// // Two keys of one byte and a value of three.
/// assert_eq!(batch.bytes(), 5);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch {
    ops: Vec<Op>,
    bytes: usize,
}

/// One change of a [`Batch`].
///
/// ```
/// use stentor_mvcc::engine::{Batch, Family, Op};
/// let mut batch = Batch::default();
/// batch.put(Family::Meta, "a", "1");
/// batch.delete(Family::Meta, "b");
/// for op in batch.ops() {
///     match op {
///         Op::Put(_, key, value) => assert_eq!((&key[..], &value[..]), (&b"a"[..], &b"1"[..])),
///         Op::Delete(_, key) => assert_eq!(key, "b"),
///     }
/// }
/// ```
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
///
/// ```
/// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, Read, memory};
/// let disk = memory::Disk::new();
/// let engine = memory::MemoryEngine::open(&disk)?;
/// for (key, durability) in [("a", Durability::Synced), ("b", Durability::Buffered)] {
///     let mut batch = Batch::default();
///     batch.put(Family::Meta, key, "1");
///     engine.write(batch, durability)?;
/// }
/// disk.crash();
/// let left = memory::MemoryEngine::open(&disk)?;
/// assert!(left.get(Family::Meta, b"a")?.is_some() && left.get(Family::Meta, b"b")?.is_none());
/// # Ok::<(), stentor_mvcc::engine::EngineError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When [`Engine::write`] returns, the batch and all before it survive a crash of the machine.
    Synced,
    /// The batch survives once [`Engine::sync`] or [`Engine::flush`] has returned.
    Buffered,
}

/// A key with its value, in the order of the keys.
///
/// ```
/// use stentor_mvcc::engine::{Batch, Durability, Engine, Entry, Family, Read, memory};
/// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
/// # let mut batch = Batch::default();
/// # batch.put(Family::Meta, "a", "1");
/// # batch.put(Family::Meta, "b", "2");
/// # engine.write(batch, Durability::Synced)?;
/// // The engine holds "a" and "b".
/// let entries: Vec<Entry> = engine.scan(Family::Meta, b"", None)?.collect::<Result<_, _>>()?;
/// assert_eq!(entries, [("a".into(), "1".into()), ("b".into(), "2".into())]);
/// # Ok::<(), stentor_mvcc::engine::EngineError>(())
/// ```
pub type Entry = (Bytes, Bytes);

/// Entries as a scan finds them.
///
/// ```
/// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, Read, Scan, memory};
/// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
/// # let mut batch = Batch::default();
/// # batch.put(Family::Meta, "a", "1");
/// # batch.put(Family::Meta, "b", "2");
/// # engine.write(batch, Durability::Synced)?;
/// // The engine holds "a" and "b"; the end of a scan is not in it.
/// let mut scan: Scan<'_> = engine.scan(Family::Meta, b"a", Some(b"b"))?;
/// assert_eq!(scan.next(), Some(Ok(("a".into(), "1".into()))));
/// assert!(scan.next().is_none());
/// # Ok::<(), stentor_mvcc::engine::EngineError>(())
/// ```
pub type Scan<'a> = Box<dyn Iterator<Item = Result<Entry, EngineError>> + Send + 'a>;

/// Something that can be read: the engine as it is now, or a view of it as it was.
///
/// A read that finds damage ends with [`EngineError::Corrupt`], and from then on the engine refuses
/// writes: nothing good is built on a damaged store.
///
/// ```
/// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, Read, memory};
/// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
/// let mut batch = Batch::default();
/// batch.put(Family::Meta, "a", "1");
/// batch.put(Family::Meta, "b", "2");
/// engine.write(batch, Durability::Synced)?;
/// assert_eq!(engine.get(Family::Meta, b"a")?, Some("1".into()));
/// // From "b" on, without an end.
/// let found = engine.scan(Family::Meta, b"b", None)?.collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(found, [("b".into(), "2".into())]);
/// // Keys of history, of which there are none.
/// assert_eq!(engine.get_many(Family::History, &[[0; 12], [1; 12]])?, [None, None]);
/// # Ok::<(), stentor_mvcc::engine::EngineError>(())
/// ```
pub trait Read: Send + Sync {
    /// The value of one key.
    ///
    /// # Errors
    /// [`EngineError::Io`] if the disk fails, [`EngineError::Corrupt`] for damage.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The entries from `from` to before `to`, forwards. Reads ahead and leaves no trace in caches: it
    /// is meant for long scans. It ends after its first error.
    ///
    /// # Errors
    /// As [`Read::get`], also from the iterator.
    fn scan(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Result<Scan<'_>, EngineError>;

    /// The values of many keys, in their order. One call for all lets the engine share its work.
    ///
    /// # Errors
    /// As [`Read::get`]; one value that cannot be read fails the call.
    fn get_many(&self, family: Family, keys: &[[u8; 12]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        keys.iter().map(|key| self.get(family, key)).collect()
    }
}

/// What the engine takes, in bytes.
///
/// ```
/// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, memory};
/// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
/// let mut batch = Batch::default();
/// batch.put(Family::Meta, "a", "123");
/// engine.write(batch, Durability::Synced)?;
/// let sizes = engine.sizes()?;
/// assert!(sizes.live >= 4 && sizes.total >= sizes.live);
/// # Ok::<(), stentor_mvcc::engine::EngineError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// All files, or all memory of the in-memory engine.
    pub total: u64,
    /// The part of it that live entries need, as far as the engine can tell.
    pub live: u64,
}

/// Writes the content of a blob.
///
/// ```
/// use std::io;
/// use stentor_mvcc::engine::{BlobWriter, Engine, memory};
/// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
/// let write: &mut BlobWriter<'_> = &mut |to: &mut dyn io::Write| to.write_all(b"long");
/// engine.save_blob("notes", write)?;
/// # Ok::<(), stentor_mvcc::engine::EngineError>(())
/// ```
pub type BlobWriter<'a> = dyn FnMut(&mut dyn io::Write) -> io::Result<()> + 'a;

/// A store of records. All methods may be called from any thread at once. What an engine finds when it
/// is opened is durable.
///
/// ```
/// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, Read, memory};
/// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
/// let put = |value: &'static str| {
///     let mut batch = Batch::default();
///     batch.put(Family::Meta, "a", value);
///     batch
/// };
/// engine.write(put("1"), Durability::Synced)?;
/// let before = engine.view();
/// engine.write(put("2"), Durability::Buffered)?;
/// assert_eq!(before.get(Family::Meta, b"a")?, Some("1".into()));
/// assert_eq!(engine.get(Family::Meta, b"a")?, Some("2".into()));
/// // The second write is safe from here on.
/// engine.sync()?;
/// assert_eq!(engine.get_persisted(Family::Meta, b"a")?, Some("2".into()));
/// # Ok::<(), stentor_mvcc::engine::EngineError>(())
/// ```
pub trait Engine: Read + 'static {
    /// Applies a batch. After an error nothing of the batch is to be relied on, and the engine refuses
    /// every later write with [`EngineError::Failed`]: what a failed sync left on disk is unknown, so
    /// only a restart finds out.
    ///
    /// # Errors
    /// [`EngineError::Full`] or [`EngineError::Io`] when it fails, [`EngineError::Failed`] ever after.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError>;

    /// Everything written before this call survives a crash when it returns.
    ///
    /// # Errors
    /// As [`Engine::write`].
    fn sync(&self) -> Result<(), EngineError>;

    /// As [`Engine::sync`], and moves it from the write-ahead log or memory to where it stays.
    ///
    /// # Errors
    /// As [`Engine::write`].
    fn flush(&self) -> Result<(), EngineError>;

    /// The value that a key would have after a crash right now. An engine that cannot tell makes what it
    /// reads durable first, as [`Engine::sync`] does.
    ///
    /// ```
    /// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, Read, memory};
    /// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
    /// let mut batch = Batch::default();
    /// batch.put(Family::Meta, "a", "1");
    /// engine.write(batch, Durability::Buffered)?;
    /// // The engine in memory knows what a crash would leave.
    /// assert!(engine.get(Family::Meta, b"a")?.is_some());
    /// assert!(engine.get_persisted(Family::Meta, b"a")?.is_none());
    /// # Ok::<(), stentor_mvcc::engine::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Read::get`] and, where it makes anything durable, as [`Engine::sync`].
    fn get_persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// A view of the engine as it is now, which stays as it is until dropped. Holding one keeps deleted
    /// entries on disk.
    fn view(&self) -> Box<dyn Read + '_>;

    /// Gives the space of deleted entries below `to` back to the system. May take long; writes go on.
    ///
    /// ```
    /// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, memory};
    /// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
    /// let mut batch = Batch::default();
    /// batch.delete(Family::History, vec![0; 12]);
    /// engine.write(batch, Durability::Synced)?;
    /// // All of history: nothing bounds it.
    /// engine.reclaim(Family::History, None)?;
    /// # Ok::<(), stentor_mvcc::engine::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Engine::write`].
    fn reclaim(&self, family: Family, to: Option<&[u8]>) -> Result<(), EngineError>;

    /// Keeps what `write` writes under a name, in the place of what was there: beside the entries, and
    /// durable on return. After an error, which is none of later writes, what was there is still there.
    ///
    /// ```
    /// use std::io::Read;
    /// use stentor_mvcc::engine::{Engine, memory};
    /// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
    /// engine.save_blob("notes", &mut |to| to.write_all(b"long"))?;
    /// let mut notes = String::new();
    /// engine.load_blob("notes")?.ok_or("no notes")?.read_to_string(&mut notes)?;
    /// assert_eq!(notes, "long");
    /// assert!(engine.load_blob("other")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::Full`] or [`EngineError::Io`], those of `write` too.
    fn save_blob(&self, name: &str, write: &mut BlobWriter<'_>) -> Result<(), EngineError>;

    /// What was last kept under a name.
    ///
    /// # Errors
    /// [`EngineError::Io`]. Whether the content is whole, its reader must find out.
    fn load_blob(&self, name: &str) -> Result<Option<Box<dyn io::Read + Send>>, EngineError>;

    /// Ends long work, such as [`Engine::reclaim`], soon and unfinished: the process is about to end, and
    /// nothing is written any more.
    fn interrupt(&self) {}

    /// What it takes now.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    fn sizes(&self) -> Result<Sizes, EngineError>;
}
