//! Where a member keeps its data.

use std::sync::Arc;

use stentor_mvcc::engine::memory::MemoryEngine;
use stentor_mvcc::engine::{Engine, EngineError, memory};
use stentor_raft::log;

/// The two parts of a member's data. They belong together: neither must be opened without the other, nor with
/// another's.
#[derive(Clone)]
pub struct Storage {
    /// What the log has led to so far. It may lose its newest writes in a crash: they come again from the log.
    pub engine: Arc<dyn Engine>,
    /// The log.
    pub log: Arc<dyn log::Disk>,
}

/// A store in memory, and its log beside it, which is gone when this is dropped. A member refuses to be started
/// on the store a second time without it.
impl From<Arc<MemoryEngine>> for Storage {
    fn from(engine: Arc<MemoryEngine>) -> Storage {
        Storage { engine, log: Arc::new(log::memory::Disk::new()) }
    }
}

/// The disks of a member in memory, which outlive it.
#[derive(Clone, Default)]
pub struct Disks {
    /// The store's.
    pub engine: memory::Disk,
    /// The log's.
    pub log: log::memory::Disk,
}

impl Disks {
    /// Empty ones.
    pub fn new() -> Disks {
        Disks::default()
    }

    /// What they hold, for one member at a time.
    ///
    /// # Errors
    /// What is on the first is no engine's.
    pub fn storage(&self) -> Result<Storage, EngineError> {
        Ok(Storage { engine: Arc::new(MemoryEngine::open(&self.engine)?), log: Arc::new(self.log.clone()) })
    }

    /// The machine has lost its power: what was not synced is gone, from the log some of it at random.
    pub fn crash(&self, random: &mut dyn FnMut() -> u64) {
        self.engine.crash();
        self.log.crash(random);
    }
}
