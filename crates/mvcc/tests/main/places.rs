//! Where a store under test keeps its records, and how that place crashes.

use std::sync::Arc;

use stentor_mvcc::engine::Engine;
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};

/// A place that outlives the engines opened on it.
pub(crate) trait Place {
    /// What the property test can't come by here.
    const OUT_OF_REACH: &'static [&'static str];

    /// An empty place of the same kind.
    fn another(&self) -> Self;

    fn open(&self) -> Arc<dyn Engine>;

    /// The host crashes. Engines opened before are of no more use.
    fn crash(&mut self);

    /// Makes what was written so far durable without the engine's knowing, if that can be done.
    fn write_back(&self) -> bool;
}

/// The memory engine's simulated disk.
pub(crate) struct Memory(pub Disk);

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory(Disk::new())
    }
}

impl Place for Memory {
    const OUT_OF_REACH: &'static [&'static str] = &[];

    fn another(&self) -> Memory {
        Memory::new()
    }

    fn open(&self) -> Arc<dyn Engine> {
        Arc::new(MemoryEngine::open(&self.0).expect("opening a healthy disk"))
    }

    fn crash(&mut self) {
        self.0.crash();
    }

    fn write_back(&self) -> bool {
        self.0.write_back();
        true
    }
}

/// A directory for RocksDB. A crash leaves what its files hold at that moment.
#[cfg(feature = "rocksdb")]
pub(crate) struct RocksDb {
    directory: tempfile::TempDir,
    options: stentor_mvcc::engine::rocksdb::Options,
    /// As it was before the last crash: an engine may still be open on it.
    left_behind: Option<tempfile::TempDir>,
}

#[cfg(feature = "rocksdb")]
impl RocksDb {
    pub(crate) fn new(durability: stentor_mvcc::engine::Durability) -> RocksDb {
        use stentor_mvcc::engine::{Durability, rocksdb::Options};
        let options = match durability {
            Durability::Synced => Options::default(),
            Durability::Buffered => Options::replayed(),
        };
        RocksDb { directory: temporary(), options, left_behind: None }
    }
}

/// A directory in memory where the system has one: these tests sync all the time, and none of them can
/// tell whether a disk did.
#[cfg(feature = "rocksdb")]
pub(crate) fn temporary() -> tempfile::TempDir {
    let in_memory = tempfile::Builder::new().prefix("stentor-test-").tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a temporary directory")
}

/// Copies the files of a directory as they are at one moment: again, if the engine's threads have changed
/// some meanwhile.
#[cfg(feature = "rocksdb")]
fn copy_at_once(from: &std::path::Path) -> tempfile::TempDir {
    let files = || {
        let listed = std::fs::read_dir(from).expect("listing a data directory");
        let file = |entry: std::fs::DirEntry| {
            let metadata = entry.metadata().ok()?;
            Some((entry.file_name(), metadata.len(), metadata.modified().ok()?))
        };
        let mut files: Vec<_> = listed.filter_map(|entry| file(entry.expect("listing a data directory"))).collect();
        files.sort();
        files
    };
    for _ in 0..1000 {
        let (before, copy) = (files(), temporary());
        let copied = before.iter().all(|(name, ..)| std::fs::copy(from.join(name), copy.path().join(name)).is_ok());
        if copied && files() == before {
            return copy;
        }
    }
    panic!("{} does not come to rest", from.display());
}

#[cfg(feature = "rocksdb")]
impl Place for RocksDb {
    const OUT_OF_REACH: &'static [&'static str] = &[];

    fn another(&self) -> RocksDb {
        RocksDb { directory: temporary(), options: self.options.clone(), left_behind: None }
    }

    fn open(&self) -> Arc<dyn Engine> {
        let engine = stentor_mvcc::engine::rocksdb::RocksDbEngine::open(self.directory.path(), &self.options);
        Arc::new(engine.expect("opening a healthy directory"))
    }

    fn crash(&mut self) {
        let left = copy_at_once(self.directory.path());
        self.left_behind = Some(std::mem::replace(&mut self.directory, left));
    }

    fn write_back(&self) -> bool {
        false
    }
}
