//! The engine in memory, on a simulated disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rpds::RedBlackTreeMapSync;

use super::{Batch, BlobWriter, Durability, Engine, EngineError, Entry, Family, Op, Read, Scan, Sizes};

/// Entries that a scan takes from the map at a time.
const SCAN_CHUNK: usize = 128;

/// How a simulated disk fails.
///
/// ```
/// use stentor_mvcc::engine::memory::{Disk, Fault, MemoryEngine};
/// use stentor_mvcc::engine::{Batch, Durability, Engine, EngineError};
/// let disk = Disk::new();
/// let engine = MemoryEngine::open(&disk)?;
/// disk.fail_next_write(Fault::Full);
/// let failed = engine.write(Batch::default(), Durability::Synced);
/// assert!(matches!(failed, Err(EngineError::Full(_))));
/// # Ok::<(), EngineError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No space is left.
    Full,
    /// The device reports an error.
    Io,
}

impl Fault {
    fn error(self, during: &str) -> EngineError {
        match self {
            Fault::Full => EngineError::Full(format!("simulated, during a {during}")),
            Fault::Io => EngineError::Io(format!("simulated, during a {during}")),
        }
    }
}

/// A persistent map: a clone shares everything, and a change copies a path.
type Map = RedBlackTreeMapSync<Bytes, Bytes>;

/// Both families as they were at one moment. A clone shares everything.
#[derive(Clone, Default)]
struct Maps {
    history: Map,
    meta: Map,
    /// Bytes of all keys and values.
    bytes: u64,
}

impl Maps {
    fn family(&self, family: Family) -> &Map {
        match family {
            Family::History => &self.history,
            Family::Meta => &self.meta,
        }
    }

    fn family_mut(&mut self, family: Family) -> &mut Map {
        match family {
            Family::History => &mut self.history,
            Family::Meta => &mut self.meta,
        }
    }

    fn apply(&mut self, op: &Op) {
        let (Op::Put(family, key, _) | Op::Delete(family, key)) = op;
        let map = self.family_mut(*family);
        let before = map.get(key).map_or(0, |value| key.len() + value.len());
        let after = match op {
            Op::Put(_, key, value) => {
                map.insert_mut(key.clone(), value.clone());
                key.len() + value.len()
            }
            Op::Delete(_, key) => {
                map.remove_mut(key);
                0
            }
        };
        self.bytes = self.bytes + after as u64 - before as u64;
    }
}

/// What only writers and the test's commands touch.
#[derive(Default)]
struct Writing {
    /// What a crash leaves.
    durable: Arc<Maps>,
    /// What the next write and the next sync meet.
    write_fault: Option<Fault>,
    sync_fault: Option<Fault>,
    /// By name; durable as soon as they are here.
    blobs: BTreeMap<String, Bytes>,
    /// An engine has the disk open.
    in_use: bool,
}

#[derive(Default)]
struct Inner {
    /// All that was written, durable or not.
    current: ArcSwap<Maps>,
    writing: Mutex<Writing>,
    /// Keys whose value is damaged. The flag spares readers the lock while there are none.
    damaged: RwLock<BTreeSet<(Family, Bytes)>>,
    any_damaged: AtomicBool,
    /// Goes up with each crash: engines opened before are of a host that is gone.
    crashes: AtomicU64,
    writes: AtomicU64,
    syncs: AtomicU64,
}

/// A simulated disk. Clones are handles of the same disk: keep one to crash it, to make it fail, and to
/// open it again.
///
/// ```
/// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, Read, memory};
///
/// let disk = memory::Disk::default();
/// let engine = memory::MemoryEngine::open(&disk)?;
/// let mut batch = Batch::default();
/// batch.put(Family::Meta, "a", "1");
/// engine.write(batch, Durability::Buffered)?;
/// disk.crash();
/// let engine = memory::MemoryEngine::open(&disk)?;
/// assert_eq!(engine.get(Family::Meta, b"a")?, None);
/// # Ok::<(), stentor_mvcc::engine::EngineError>(())
/// ```
#[derive(Clone)]
pub struct Disk {
    inner: Arc<Inner>,
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Disk {
        let inner = Inner::default();
        inner.current.store(inner.writing.lock().durable.clone());
        Disk { inner: Arc::new(inner) }
    }

    /// The host loses power: what was not synced is gone. An engine that is open is dead from here on,
    /// and the disk can be opened anew.
    ///
    /// ```
    /// use stentor_mvcc::engine::{Batch, Durability, Engine, EngineError, memory};
    /// let disk = memory::Disk::new();
    /// let engine = memory::MemoryEngine::open(&disk)?;
    /// disk.crash();
    /// assert!(matches!(engine.write(Batch::default(), Durability::Synced), Err(EngineError::Failed(_))));
    /// assert!(memory::MemoryEngine::open(&disk).is_ok());
    /// # Ok::<(), EngineError>(())
    /// ```
    pub fn crash(&self) {
        let mut writing = self.inner.writing.lock();
        self.inner.crashes.fetch_add(1, Ordering::SeqCst);
        self.inner.current.store(writing.durable.clone());
        writing.in_use = false;
    }

    /// Makes all that was written so far durable, as a system does at moments of its own choosing.
    /// No sync is counted and no fault is met. Called between buffered writes, it lets a crash keep any
    /// number of them.
    ///
    /// ```
    /// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, Read, memory};
    /// let disk = memory::Disk::new();
    /// let engine = memory::MemoryEngine::open(&disk)?;
    /// let mut batch = Batch::default();
    /// batch.put(Family::Meta, "a", "1");
    /// engine.write(batch, Durability::Buffered)?;
    /// disk.write_back();
    /// disk.crash();
    /// let engine = memory::MemoryEngine::open(&disk)?;
    /// assert!(engine.get(Family::Meta, b"a")?.is_some());
    /// assert_eq!((disk.writes(), disk.syncs()), (1, 0));
    /// # Ok::<(), stentor_mvcc::engine::EngineError>(())
    /// ```
    pub fn write_back(&self) {
        let mut writing = self.inner.writing.lock();
        writing.durable = self.inner.current.load_full();
    }

    /// The next write fails, and nothing of it is stored.
    ///
    /// ```
    /// use stentor_mvcc::engine::{Batch, Durability, Engine, EngineError, memory};
    /// let disk = memory::Disk::new();
    /// let engine = memory::MemoryEngine::open(&disk)?;
    /// disk.fail_next_write(memory::Fault::Io);
    /// let write = || engine.write(Batch::default(), Durability::Buffered);
    /// assert!(matches!(write(), Err(EngineError::Io(_))));
    /// // The fault is gone, but the engine writes no more.
    /// assert!(matches!(write(), Err(EngineError::Failed(_))));
    /// # Ok::<(), EngineError>(())
    /// ```
    pub fn fail_next_write(&self, fault: Fault) {
        self.inner.writing.lock().write_fault = Some(fault);
    }

    /// The next sync fails, be it by [`Engine::sync`], [`Engine::flush`], a synced write or the opening
    /// of a disk with unsynced data. A synced write that fails so is seen by readers, and by the next
    /// engine unless the disk crashes first.
    ///
    /// ```
    /// use stentor_mvcc::engine::{Batch, Durability, Engine, EngineError, Family, Read, memory};
    /// let disk = memory::Disk::new();
    /// let engine = memory::MemoryEngine::open(&disk)?;
    /// let mut batch = Batch::default();
    /// batch.put(Family::Meta, "a", "1");
    /// disk.fail_next_sync(memory::Fault::Io);
    /// assert!(matches!(engine.write(batch, Durability::Synced), Err(EngineError::Io(_))));
    /// // It was written, only not synced.
    /// assert!(engine.get(Family::Meta, b"a")?.is_some());
    /// # Ok::<(), EngineError>(())
    /// ```
    pub fn fail_next_sync(&self, fault: Fault) {
        self.inner.writing.lock().sync_fault = Some(fault);
    }

    /// From now on, reading this key, or scanning across it, finds its value damaged.
    ///
    /// ```
    /// use stentor_mvcc::engine::{EngineError, Family, Read, memory};
    /// let disk = memory::Disk::new();
    /// let engine = memory::MemoryEngine::open(&disk)?;
    /// disk.damage(Family::Meta, b"a");
    /// assert!(matches!(engine.get(Family::Meta, b"a"), Err(EngineError::Corrupt(_))));
    /// disk.repair();
    /// assert_eq!(engine.get(Family::Meta, b"a"), Ok(None));
    /// # Ok::<(), EngineError>(())
    /// ```
    pub fn damage(&self, family: Family, key: &[u8]) {
        self.inner.damaged.write().insert((family, Bytes::copy_from_slice(key)));
        self.inner.any_damaged.store(true, Ordering::Release);
    }

    /// Undoes every [`Disk::damage`].
    ///
    /// ```
    /// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, Read, memory};
    /// let disk = memory::Disk::new();
    /// let engine = memory::MemoryEngine::open(&disk)?;
    /// disk.damage(Family::Meta, b"a");
    /// assert!(engine.get(Family::Meta, b"a").is_err());
    /// disk.repair();
    /// // Reads are well again; writes only with an engine that has not seen the damage.
    /// assert!(engine.write(Batch::default(), Durability::Synced).is_err());
    /// drop(engine);
    /// assert!(memory::MemoryEngine::open(&disk)?.write(Batch::default(), Durability::Synced).is_ok());
    /// # Ok::<(), stentor_mvcc::engine::EngineError>(())
    /// ```
    pub fn repair(&self) {
        self.inner.damaged.write().clear();
        self.inner.any_damaged.store(false, Ordering::Release);
    }

    /// How many batches were written since the disk was made.
    ///
    /// ```
    /// use stentor_mvcc::engine::{Batch, Durability, Engine, memory};
    /// let disk = memory::Disk::new();
    /// let engine = memory::MemoryEngine::open(&disk)?;
    /// engine.write(Batch::default(), Durability::Buffered)?;
    /// engine.write(Batch::default(), Durability::Synced)?;
    /// assert_eq!((disk.writes(), disk.syncs()), (2, 1));
    /// # Ok::<(), stentor_mvcc::engine::EngineError>(())
    /// ```
    pub fn writes(&self) -> u64 {
        self.inner.writes.load(Ordering::SeqCst)
    }

    /// How many syncs succeeded since the disk was made.
    pub fn syncs(&self) -> u64 {
        self.inner.syncs.load(Ordering::SeqCst)
    }
}

impl Default for Disk {
    fn default() -> Disk {
        Disk::new()
    }
}

impl Inner {
    /// Damage that is found also ends writing.
    fn check_damage(&self, failed: &Failed, family: Family, key: &[u8]) -> Result<(), EngineError> {
        if !self.any_damaged.load(Ordering::Acquire) {
            return Ok(());
        }
        let key = Bytes::copy_from_slice(key);
        let description = format!("simulated, {family:?} key {key:?}");
        if self.damaged.read().contains(&(family, key)) {
            let error = EngineError::Corrupt(description);
            fail(failed, &error);
            return Err(error);
        }
        Ok(())
    }

    /// Makes durable what is there.
    fn sync(&self, writing: &mut Writing, during: &str) -> Result<(), EngineError> {
        if let Some(fault) = writing.sync_fault.take() {
            return Err(fault.error(during));
        }
        writing.durable = self.current.load_full();
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// An engine that keeps everything in memory, on a [`Disk`] that may outlive it.
///
/// A view costs nothing and neither blocks nor is blocked by writes. No threads are started, and two
/// runs with the same calls behave the same. As with the durable engine, what it finds when it is opened
/// is durable: dropping it and opening the disk again keeps unsynced writes, a crash does not.
///
/// ```
/// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, Read, memory};
/// let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
/// let mut batch = Batch::default();
/// batch.put(Family::Meta, "a", "1");
/// engine.write(batch, Durability::Buffered)?;
/// let disk = engine.disk().clone();
/// drop(engine);
/// let again = memory::MemoryEngine::open(&disk)?;
/// assert_eq!(again.get(Family::Meta, b"a")?, Some("1".into()));
/// # Ok::<(), stentor_mvcc::engine::EngineError>(())
/// ```
pub struct MemoryEngine {
    disk: Disk,
    /// Of the disk when this was opened.
    crashes: u64,
    failed: Failed,
}

/// Why writes are refused. Views share it with their engine.
type Failed = Arc<OnceLock<String>>;

impl MemoryEngine {
    /// Opens a disk.
    ///
    /// # Errors
    /// [`EngineError::Locked`] while another engine has it open; a fault that the disk was told to have.
    pub fn open(disk: &Disk) -> Result<MemoryEngine, EngineError> {
        let mut writing = disk.inner.writing.lock();
        if writing.in_use {
            return Err(EngineError::Locked("an engine has this simulated disk open".to_owned()));
        }
        if !Arc::ptr_eq(&writing.durable, &disk.inner.current.load()) {
            disk.inner.sync(&mut writing, "sync on opening")?;
        }
        writing.in_use = true;
        let crashes = disk.inner.crashes.load(Ordering::SeqCst);
        Ok(MemoryEngine { disk: disk.clone(), crashes, failed: Failed::default() })
    }

    /// The disk below.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    fn alive(&self) -> Result<(), EngineError> {
        if self.disk.inner.crashes.load(Ordering::SeqCst) == self.crashes {
            return Ok(());
        }
        Err(EngineError::Failed("the simulated host crashed".to_owned()))
    }

    fn as_of(&self, maps: Arc<Maps>) -> MemoryView {
        MemoryView { maps, disk: self.disk.clone(), failed: self.failed.clone() }
    }

    fn now(&self) -> MemoryView {
        self.as_of(self.disk.inner.current.load_full())
    }

    /// Runs something that writes, unless something failed before; remembers if this fails.
    fn writing(&self, run: impl FnOnce(&Inner, &mut Writing) -> Result<(), EngineError>) -> Result<(), EngineError> {
        let mut writing = self.disk.inner.writing.lock();
        self.alive()?;
        if let Some(cause) = self.failed.get() {
            return Err(EngineError::Failed(cause.clone()));
        }
        run(&self.disk.inner, &mut writing).inspect_err(|error| fail(&self.failed, error))
    }
}

fn fail(failed: &Failed, error: &EngineError) {
    // Of several the first one is the cause.
    let _ = failed.set(error.to_string());
}

impl Drop for MemoryEngine {
    fn drop(&mut self) {
        let mut writing = self.disk.inner.writing.lock();
        if self.alive().is_ok() {
            writing.in_use = false;
        }
    }
}

impl Read for MemoryEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.alive()?;
        self.now().get(family, key)
    }

    fn scan(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Result<Scan<'_>, EngineError> {
        self.alive()?;
        Ok(Box::new(self.now().entries(family, from, to)))
    }
}

impl Engine for MemoryEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.writing(|inner, writing| {
            if let Some(fault) = writing.write_fault.take() {
                return Err(fault.error("write"));
            }
            let mut maps = Maps::clone(&inner.current.load());
            batch.ops().iter().for_each(|op| maps.apply(op));
            inner.current.store(Arc::new(maps));
            inner.writes.fetch_add(1, Ordering::SeqCst);
            match durability {
                Durability::Synced => inner.sync(writing, "synced write"),
                Durability::Buffered => Ok(()),
            }
        })
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.writing(|inner, writing| inner.sync(writing, "sync"))
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.writing(|inner, writing| inner.sync(writing, "flush"))
    }

    fn get_persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.alive()?;
        let durable = self.disk.inner.writing.lock().durable.clone();
        self.as_of(durable).get(family, key)
    }

    fn view(&self) -> Box<dyn Read + '_> {
        Box::new(self.now())
    }

    fn reclaim(&self, _: Family, _: Option<&[u8]>) -> Result<(), EngineError> {
        // A deleted entry's memory is free once no view holds it.
        self.alive()
    }

    fn save_blob(&self, name: &str, write: &mut BlobWriter<'_>) -> Result<(), EngineError> {
        let mut blob = Vec::new();
        write(&mut blob).map_err(|error| EngineError::Io(error.to_string()))?;
        let mut writing = self.disk.inner.writing.lock();
        self.alive()?;
        if let Some(fault) = writing.sync_fault.take() {
            return Err(fault.error("sync of a blob"));
        }
        writing.blobs.insert(name.to_owned(), blob.into());
        Ok(())
    }

    fn load_blob(&self, name: &str) -> Result<Option<Box<dyn io::Read + Send>>, EngineError> {
        self.alive()?;
        let blob = self.disk.inner.writing.lock().blobs.get(name).cloned();
        Ok(blob.map(|blob| Box::new(io::Cursor::new(blob)) as Box<dyn io::Read + Send>))
    }

    fn sizes(&self) -> Result<Sizes, EngineError> {
        self.alive()?;
        let bytes = self.disk.inner.current.load().bytes;
        Ok(Sizes { total: bytes, live: bytes })
    }
}

/// The families as they were when it was made.
struct MemoryView {
    maps: Arc<Maps>,
    disk: Disk,
    failed: Failed,
}

impl MemoryView {
    fn entries(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Entries {
        Entries {
            map: self.maps.family(family).clone(),
            disk: self.disk.clone(),
            failed: self.failed.clone(),
            family,
            next: Some(Bound::Included(Bytes::copy_from_slice(from))),
            to: to.map(Bytes::copy_from_slice),
            chunk: VecDeque::new(),
        }
    }
}

impl Read for MemoryView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.disk.inner.check_damage(&self.failed, family, key)?;
        Ok(self.maps.family(family).get(key).cloned())
    }

    fn scan(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Result<Scan<'_>, EngineError> {
        Ok(Box::new(self.entries(family, from, to)))
    }
}

/// A scan. It owns its map, so that it needs no lock, and takes a chunk of entries at a time.
struct Entries {
    map: Map,
    disk: Disk,
    failed: Failed,
    family: Family,
    /// Where the next chunk begins; `None` when the last one was taken.
    next: Option<Bound<Bytes>>,
    to: Option<Bytes>,
    chunk: VecDeque<Entry>,
}

impl Entries {
    fn fill(&mut self) {
        let Some(next) = self.next.take() else { return };
        let start: Bound<&[u8]> = next.as_ref().map(Bytes::as_ref);
        let before_end = |key: &Bytes| self.to.as_ref().is_none_or(|to| key < to);
        let range = self.map.range::<[u8], _>((start, Bound::Unbounded));
        let found = range.take_while(|(key, _)| before_end(key)).take(SCAN_CHUNK);
        self.chunk.extend(found.map(|(key, value)| (key.clone(), value.clone())));
        if self.chunk.len() == SCAN_CHUNK {
            self.next = self.chunk.back().map(|(key, _)| Bound::Excluded(key.clone()));
        }
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.chunk.is_empty() {
            self.fill();
        }
        let (key, value) = self.chunk.pop_front()?;
        match self.disk.inner.check_damage(&self.failed, self.family, &key) {
            Ok(()) => Some(Ok((key, value))),
            Err(error) => {
                // A scan ends at its first error.
                self.chunk.clear();
                self.next = None;
                Some(Err(error))
            }
        }
    }
}
