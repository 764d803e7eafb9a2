//! The engine on disk, by RocksDB.

mod directory;
mod errors;
mod log;
mod options;
mod read;
mod torn;

use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::rocksdb::properties::{BACKGROUND_ERRORS, CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_LIVE_DATA_SIZE, SIZE_ALL_MEM_TABLES};
use ::rocksdb::{
    ColumnFamily, CompactOptions, DB, DBRecoveryMode, FlushOptions, ReadOptions, ReadTier, WriteBatch, WriteOptions,
};
use bytes::Bytes;

use super::{Batch, BlobWriter, Durability, Engine, EngineError, Family, Op, Read, Sizes};
use directory::Directory;
use errors::{engine_error, is_stall};
use log::BackgroundError;
pub use options::Options;
use options::family_name;

const FAMILIES: [Family; 2] = [Family::History, Family::Meta];

/// How long a write that has to wait looks away at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// The engine on disk.
///
/// Writes of several threads at once share a sync. Dropping it writes what is still in memory to
/// tables; an end without that loses what [`Durability`] says, and never more.
///
/// ```
/// use stentor_mvcc::engine::rocksdb::{Options, RocksDbEngine};
/// use stentor_mvcc::engine::{Batch, Durability, Engine, Family, Read};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// let engine = RocksDbEngine::open(path, &Options::default())?;
/// let mut batch = Batch::default();
/// batch.put(Family::Meta, "a", "1");
/// engine.write(batch, Durability::Synced)?;
/// assert_eq!(engine.get(Family::Meta, b"a")?.as_deref(), Some(&b"1"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RocksDbEngine {
    db: DB,
    /// With a write-ahead log.
    log: bool,
    /// For single reads.
    reads: ReadOptions,
    synced: WriteOptions,
    buffered: WriteOptions,
    /// Buffered writes that returned, and how many of them a sync has covered.
    written: AtomicU64,
    persisted: AtomicU64,
    /// Why writes are refused.
    failed: OnceLock<String>,
    background: BackgroundError,
    /// Declared last: its lock is held until the database is closed.
    directory: Directory,
}

impl RocksDbEngine {
    /// Opens a data directory, or makes a new one. All that it finds is durable.
    ///
    /// ```
    /// use stentor_mvcc::engine::EngineError;
    /// use stentor_mvcc::engine::rocksdb::{Options, RocksDbEngine};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path();
    /// let _in_use = RocksDbEngine::open(path, &Options::default())?;
    /// let refused = RocksDbEngine::open(path, &Options::default()).err();
    /// assert!(matches!(refused, Some(EngineError::Locked(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::Locked`] if it is open already, here or in another process; [`EngineError::TooNew`]
    /// and [`EngineError::Corrupt`] if it is not for this version to read.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<RocksDbEngine, EngineError> {
        RocksDbEngine::open_with(path.as_ref(), options, options.database())
    }

    fn open_with(
        path: &Path,
        options: &Options,
        mut database: ::rocksdb::Options,
    ) -> Result<RocksDbEngine, EngineError> {
        let directory = Directory::open(path, options.write_ahead_log)?;
        let background = BackgroundError::default();
        database.set_info_logger(background.logger());
        let open = |database: &::rocksdb::Options| {
            DB::open_cf_descriptors(database, directory.path(), options.families()).map_err(engine_error)
        };
        let db = match open(&database) {
            Err(EngineError::Corrupt(error)) if torn::is_torn(directory.path())? => {
                tracing::warn!(error, "the end of the log was torn by a crash before it was synced: it is dropped");
                database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
                open(&database)?
            }
            result => result?,
        };
        let log = options.write_ahead_log;
        let write_options = |sync| {
            let mut options = WriteOptions::default();
            options.set_sync(sync && log);
            options.disable_wal(!log);
            // RocksDB would wait for ever if what it waits for failed: `put_batch` waits.
            options.set_no_slowdown(true);
            // History's keys come in order: each finds its place in the memtable next to the last one.
            options.set_memtable_insert_hint_per_batch(true);
            options
        };
        Ok(RocksDbEngine {
            db,
            log,
            reads: ReadOptions::default(),
            synced: write_options(true),
            buffered: write_options(false),
            written: AtomicU64::new(0),
            persisted: AtomicU64::new(0),
            failed: OnceLock::new(),
            background,
            directory,
        })
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, EngineError> {
        let name = family_name(family);
        self.db.cf_handle(name).ok_or_else(|| EngineError::Corrupt(format!("the family {name} is missing")))
    }

    /// Runs something that writes, unless something failed before; remembers if this fails.
    fn writing<T>(&self, run: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
        if let Some(cause) = self.failed.get() {
            return Err(EngineError::Failed(cause.clone()));
        }
        run().inspect_err(|error| self.fail(error))
    }

    fn fail(&self, error: &EngineError) {
        // Of several at once the first one is the cause.
        if self.failed.set(error.to_string()).is_ok() {
            tracing::error!(%error, directory = %self.directory.path().display(), "the engine refuses writes from now on");
        }
    }

    /// An error of a read. One about damage also ends writing: nothing good is built on a damaged store.
    fn read_error(&self, error: ::rocksdb::Error) -> EngineError {
        let error = engine_error(error);
        if matches!(error, EngineError::Corrupt(_)) {
            self.fail(&error);
        }
        error
    }

    /// Runs something that makes all buffered writes before it durable.
    fn persisting(&self, run: impl FnOnce() -> Result<(), EngineError>) -> Result<(), EngineError> {
        let written = self.written.load(Ordering::SeqCst);
        run()?;
        self.persisted.fetch_max(written, Ordering::SeqCst);
        Ok(())
    }

    /// Writes all memtables to tables.
    fn flush_tables(&self) -> Result<(), EngineError> {
        let families = [self.family(Family::History)?, self.family(Family::Meta)?];
        self.persisting(|| self.db.flush_cfs_opt(&families, &FlushOptions::default()).map_err(engine_error))?;
        self.check_background()
    }

    fn sync_all(&self) -> Result<(), EngineError> {
        if self.persisted.load(Ordering::SeqCst) >= self.written.load(Ordering::SeqCst) {
            return Ok(());
        }
        if self.log { self.persisting(|| self.db.flush_wal(true).map_err(engine_error)) } else { self.flush_tables() }
    }

    /// Errors that RocksDB met while no call was waiting for it, such as a table that found no space. It
    /// fails later writes by itself only for some of them.
    fn check_background(&self) -> Result<(), EngineError> {
        match self.property(None, BACKGROUND_ERRORS)? {
            0 => Ok(()),
            _ => Err(self.background.get()),
        }
    }

    fn property(&self, family: Option<Family>, name: &::rocksdb::properties::PropName) -> Result<u64, EngineError> {
        let value = match family {
            Some(family) => self.db.property_int_value_cf(self.family(family)?, name),
            None => self.db.property_int_value(name),
        };
        Ok(value.map_err(engine_error)?.unwrap_or(0))
    }

    fn sum(&self, name: &::rocksdb::properties::PropName) -> Result<u64, EngineError> {
        FAMILIES.iter().map(|family| self.property(Some(*family), name)).sum()
    }

    /// Writes a batch. Waits as long as tables are written more slowly than memtables fill up.
    fn put_batch(&self, batch: &Batch, options: &WriteOptions) -> Result<(), EngineError> {
        let mut pause = Duration::from_millis(1);
        loop {
            self.check_background()?;
            match self.db.write_opt(self.encode(batch)?, options) {
                Err(error) if is_stall(&error) => std::thread::sleep(pause),
                result => return result.map_err(engine_error),
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    fn encode(&self, batch: &Batch) -> Result<WriteBatch, EngineError> {
        let (history, meta) = (self.family(Family::History)?, self.family(Family::Meta)?);
        let handle = |family| match family {
            Family::History => history,
            Family::Meta => meta,
        };
        // The lengths and tags of an entry take up to a dozen bytes.
        let mut writes = WriteBatch::with_capacity_bytes(16 + batch.bytes() + 12 * batch.ops().len());
        for op in batch.ops() {
            match op {
                Op::Put(family, key, value) => writes.put_cf(handle(*family), key, value),
                Op::Delete(family, key) => writes.delete_cf(handle(*family), key),
            }
        }
        Ok(writes)
    }
}

impl Engine for RocksDbEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.writing(|| {
            if self.log && durability == Durability::Synced && !batch.is_empty() {
                return self.persisting(|| self.put_batch(&batch, &self.synced));
            }
            if !batch.is_empty() {
                self.put_batch(&batch, &self.buffered)?;
                self.written.fetch_add(1, Ordering::SeqCst);
            }
            match durability {
                Durability::Synced => self.sync_all(),
                Durability::Buffered => Ok(()),
            }
        })
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.writing(|| self.sync_all())
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.writing(|| self.flush_tables())
    }

    fn get_persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if self.log {
            // The log does not tell what of it is synced: what is read is made durable.
            let value = self.get(family, key)?;
            self.sync()?;
            return Ok(value);
        }
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        self.get_with(family, key, &options)
    }

    fn view(&self) -> Box<dyn Read + '_> {
        Box::new(read::View::new(self))
    }

    fn reclaim(&self, family: Family, to: Option<&[u8]>) -> Result<(), EngineError> {
        self.writing(|| {
            self.flush_tables()?;
            let mut options = CompactOptions::default();
            // Other compactions and writes go on beside it.
            options.set_exclusive_manual_compaction(false);
            self.db.compact_range_cf_opt(self.family(family)?, None::<&[u8]>, to, &options);
            // It does not say whether it succeeded.
            self.check_background()
        })
    }

    fn save_blob(&self, name: &str, write: &mut BlobWriter<'_>) -> Result<(), EngineError> {
        self.directory.save_blob(name, write)
    }

    fn load_blob(&self, name: &str) -> Result<Option<Box<dyn io::Read + Send>>, EngineError> {
        Ok(self.directory.load_blob(name)?.map(|file| Box::new(file) as Box<dyn io::Read + Send>))
    }

    fn interrupt(&self) {
        self.db.cancel_all_background_work(false);
    }

    fn sizes(&self) -> Result<Sizes, EngineError> {
        // With a log, what is in memory is in a file too.
        let memory = if self.log { 0 } else { self.sum(SIZE_ALL_MEM_TABLES)? };
        let total = self.directory.size()? + memory;
        let live = self.sum(ESTIMATE_LIVE_DATA_SIZE)? + self.sum(CUR_SIZE_ALL_MEM_TABLES)?;
        Ok(Sizes { total, live: live.min(total) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use ::rocksdb::statistics::Ticker;

    use super::*;

    #[test]
    fn writes_of_several_threads_share_syncs() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::default();
        let mut database = options.database();
        database.enable_statistics();
        let engine = RocksDbEngine::open_with(directory.path(), &options, database.clone()).unwrap();
        let write = |thread: u64, n: u64| {
            let mut batch = Batch::default();
            batch.put(Family::History, format!("{thread}/{n}"), "value");
            engine.write(batch, Durability::Synced).unwrap();
        };
        let syncs = || database.get_ticker_count(Ticker::WalFileSynced);

        let before = syncs();
        (0..50).for_each(|n| write(0, n));
        assert_eq!(syncs() - before, 50, "each write of a single thread has a sync of its own");

        // While a large batch is written, the others come and wait, and then go together. Whether they come
        // in time is up to the system: there are rounds until they have, with ever larger batches.
        for round in 0..200u64 {
            let before = syncs();
            let start = Barrier::new(9);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut batch = Batch::default();
                    for n in 0..16 << round.min(5) {
                        batch.put(Family::History, format!("large/{n}"), vec![b'v'; 64 << 10]);
                    }
                    start.wait();
                    engine.write(batch, Durability::Synced).unwrap();
                });
                for thread in 1..9 {
                    let (start, write) = (&start, &write);
                    scope.spawn(move || {
                        start.wait();
                        write(thread, round);
                    });
                }
            });
            let syncs = syncs() - before;
            if syncs <= 5 {
                return;
            }
        }
        panic!("9 writes of 9 threads always take more than 5 syncs");
    }
}
