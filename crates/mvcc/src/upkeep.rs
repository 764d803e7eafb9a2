//! What whoever runs a store does with its engine, beside reading and writing.

use prost::Message;
use stentor_proto::storagepb::Identity;

use crate::engine::{Batch, Durability, Engine, Family, Sizes};
use crate::{Error, LogPosition, Store, failpoints, meta};

/// The place in the log of the store that an engine holds; `None` if it holds none, or one that was not
/// restored to its end.
///
/// ```
/// use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
/// use stentor_mvcc::{LogPosition, Store, applied_position};
/// let disk = Disk::new();
/// assert_eq!(applied_position(&MemoryEngine::open(&disk)?)?, None);
/// let last = LogPosition { term: 1, index: 5 };
/// Store::open(MemoryEngine::open(&disk)?, Default::default())?.apply(&[], last)?;
/// assert_eq!(applied_position(&MemoryEngine::open(&disk)?)?, Some(last));
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
///
/// # Errors
/// Engine errors.
pub fn applied_position(engine: &dyn Engine) -> Result<Option<LogPosition>, Error> {
    if engine.get(Family::Meta, meta::RESTORING)?.is_some() {
        return Ok(None);
    }
    let progress = meta::progress(engine)?;
    Ok(progress.map(|p| LogPosition { term: p.applied_term, index: p.applied_index }))
}

/// Who the store belongs to that an engine holds, if that was ever said.
///
/// ```
/// use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
/// assert_eq!(stentor_mvcc::identity(&MemoryEngine::open(&Disk::new())?)?, None);
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
///
/// # Errors
/// Engine errors; a record that can't be read.
pub fn identity(engine: &dyn Engine) -> Result<Option<Identity>, Error> {
    meta::identity(engine)
}

/// Says who the store belongs to that an engine is to hold; it may be empty still.
///
/// ```
/// use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
/// use stentor_mvcc::{Store, identity, set_identity};
/// use stentor_proto::storagepb::Identity;
/// let engine = MemoryEngine::open(&Disk::new())?;
/// set_identity(&engine, &Identity::default())?;
/// assert!(identity(&engine)?.is_some());
/// assert!(Store::open(engine, Default::default())?.identity()?.is_some());
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
///
/// # Errors
/// Engine errors.
pub fn set_identity(engine: &dyn Engine, identity: &Identity) -> Result<(), Error> {
    let mut batch = Batch::default();
    batch.put(Family::Meta, meta::IDENTITY, identity.encode_to_vec());
    Ok(engine.write(batch, Durability::Synced)?)
}

impl Store {
    /// Who the store belongs to, if that was ever said.
    ///
    /// # Errors
    /// Engine errors.
    pub fn identity(&self) -> Result<Option<Identity>, Error> {
        meta::identity(&*self.engine())
    }

    /// Says who the store belongs to.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::storagepb::Identity;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// assert_eq!(store.identity()?, None);
    /// store.set_identity(&Identity::default())?;
    /// assert_eq!(store.identity()?, Some(Identity::default()));
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), Error> {
        set_identity(&*self.engine(), identity)
    }

    /// What the store takes on disk.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::PutRequest;
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// let before = store.sizes()?;
    /// store.put(PutRequest { key: "k".into(), value: vec![0; 1000].into(), ..Default::default() })?;
    /// assert!(store.sizes()?.total > before.total + 1000);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors.
    pub fn sizes(&self) -> Result<Sizes, Error> {
        Ok(self.engine().sizes()?)
    }

    /// The last entry whose effects would survive a crash of the machine right now: a log outside need not
    /// keep what is up to it. An engine that cannot tell makes all that was applied survive first.
    ///
    /// ```
    /// use stentor_mvcc::engine::{Durability, memory};
    /// use stentor_mvcc::{LogPosition, Options, Store};
    /// let options = Options { durability: Durability::Buffered, ..Default::default() };
    /// let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, options)?;
    /// store.apply(&[], LogPosition { term: 1, index: 1 })?;
    /// assert_eq!(store.persisted_position()?, LogPosition::default());
    /// store.flush()?;
    /// assert_eq!(store.persisted_position()?, LogPosition { term: 1, index: 1 });
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors; a record that can't be read.
    pub fn persisted_position(&self) -> Result<LogPosition, Error> {
        let progress = meta::persisted_progress(&*self.engine())?.unwrap_or_default();
        Ok(LogPosition { term: progress.applied_term, index: progress.applied_index })
    }

    /// Everything applied so far survives a crash of the machine when this returns.
    ///
    /// ```
    /// use stentor_mvcc::engine::{Durability, memory};
    /// use stentor_mvcc::{Options, Store};
    /// let disk = memory::Disk::new();
    /// let options = Options { durability: Durability::Buffered, ..Default::default() };
    /// let store = Store::open(memory::MemoryEngine::open(&disk)?, options)?;
    /// # store.put(stentor_proto::etcdserverpb::PutRequest { key: "k".into(), ..Default::default() })?;
    /// store.flush()?;
    /// disk.crash();
    /// let store = Store::open(memory::MemoryEngine::open(&disk)?, Default::default())?;
    /// assert_eq!(store.view().revision().get(), 2);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors.
    pub fn flush(&self) -> Result<(), Error> {
        Ok(self.engine().flush()?)
    }

    /// Ends long work of the engine soon and unfinished, before the process ends. Nothing may be written
    /// after it.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// store.flush()?;
    /// // A defragmentation on another thread does not hold the end up.
    /// store.interrupt();
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    pub fn interrupt(&self) {
        self.engine().interrupt();
    }

    /// Gives the space of everything deleted back to the system: etcd's defragmentation. Reads and
    /// writes go on meanwhile.
    ///
    /// ```
    /// # use stentor_mvcc::{Store, engine::memory};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// let before = store.sizes()?;
    /// store.finish_compactions()?;
    /// store.defragment()?;
    /// assert!(store.sizes()?.total <= before.total);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors.
    pub fn defragment(&self) -> Result<(), Error> {
        let engine = self.engine();
        failpoints::BEFORE_DEFRAGMENT.hit();
        engine.reclaim(Family::History, None)?;
        Ok(engine.reclaim(Family::Meta, None)?)
    }
}
