//! Where a member keeps its data.

use std::sync::Arc;

use parking_lot::Mutex;
use stentor_mvcc::engine::memory::MemoryEngine;
use stentor_mvcc::engine::{Engine, EngineError, memory};
use stentor_raft::log;

/// The parts of a member's data. They belong together: none must be opened without the others, nor with
/// another's.
#[derive(Clone)]
pub struct Storage {
    /// What the log has led to so far. It may lose its newest writes in a crash: they come again from the log.
    pub engine: Arc<dyn Engine>,
    /// The log.
    pub log: Arc<dyn log::Disk>,
    /// Where a store that another member sends is put, beside the present one.
    pub received: Arc<dyn Received>,
}

/// A place for a store that comes from another member. It takes the place of the present one only after the
/// log was reset to it: until then the log goes with the present one.
pub trait Received: Send + Sync {
    /// An empty engine for it. What was there and is not in use is removed.
    ///
    /// # Errors
    /// It can't be made.
    fn begin(&self) -> Result<Arc<dyn Engine>, EngineError>;

    /// What is there from before, perhaps unfinished; asked at the start.
    ///
    /// # Errors
    /// It can't be opened.
    fn find(&self) -> Result<Option<Arc<dyn Engine>>, EngineError>;

    /// What was begun or found last is the present one from the next start on.
    ///
    /// # Errors
    /// That can't be written down.
    fn adopt(&self) -> Result<(), EngineError>;

    /// Removes what nobody uses any more, as far as that is possible now.
    fn tidy(&self);
}

/// A store in memory, and its log beside it, which is gone when this is dropped. A member refuses to be started
/// on the store a second time without it.
impl From<Arc<MemoryEngine>> for Storage {
    fn from(engine: Arc<MemoryEngine>) -> Storage {
        let received = Arc::new(Disks::new());
        Storage { engine, log: Arc::new(log::memory::Disk::new()), received }
    }
}

/// The disks of a member in memory, which outlive it.
#[derive(Clone, Default)]
pub struct Disks {
    engine: Arc<Mutex<Engines>>,
    /// The log's.
    pub log: log::memory::Disk,
}

#[derive(Default)]
struct Engines {
    present: memory::Disk,
    received: Option<memory::Disk>,
}

impl Disks {
    /// Empty ones.
    pub fn new() -> Disks {
        Disks::default()
    }

    /// These.
    pub fn of(engine: memory::Disk, log: log::memory::Disk) -> Disks {
        let engines = Engines { present: engine, received: None };
        Disks { engine: Arc::new(Mutex::new(engines)), log }
    }

    /// The store's.
    pub fn engine(&self) -> memory::Disk {
        self.engine.lock().present.clone()
    }

    /// What they hold, for one member at a time.
    ///
    /// # Errors
    /// What is on the first is no engine's.
    pub fn storage(&self) -> Result<Storage, EngineError> {
        let engine = Arc::new(MemoryEngine::open(&self.engine())?);
        Ok(Storage { engine, log: Arc::new(self.log.clone()), received: Arc::new(self.clone()) })
    }

    /// The machine has lost its power: what was not synced is gone, from the log some of it at random.
    pub fn crash(&self, random: &mut dyn FnMut() -> u64) {
        let engines = self.engine.lock();
        engines.present.crash();
        if let Some(received) = &engines.received {
            received.crash();
        }
        self.log.crash(random);
    }
}

impl Received for Disks {
    fn begin(&self) -> Result<Arc<dyn Engine>, EngineError> {
        let disk = memory::Disk::new();
        self.engine.lock().received = Some(disk.clone());
        Ok(Arc::new(MemoryEngine::open(&disk)?))
    }

    fn find(&self) -> Result<Option<Arc<dyn Engine>>, EngineError> {
        let received = self.engine.lock().received.clone();
        Ok(match received {
            Some(disk) => Some(Arc::new(MemoryEngine::open(&disk)?)),
            None => None,
        })
    }

    fn adopt(&self) -> Result<(), EngineError> {
        let mut engines = self.engine.lock();
        if let Some(received) = engines.received.take() {
            engines.present = received;
        }
        Ok(())
    }

    fn tidy(&self) {}
}
