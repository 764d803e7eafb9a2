//! How RocksDB is set up, and why.

use ::rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Options as DbOptions,
};

use super::super::Family;

/// Overlapping tables, at most: each one more makes reads slower.
const L0_STOP: i32 = 36;

/// What a user of the engine chooses.
///
/// ```
/// use stentor_mvcc::engine::rocksdb::Options;
/// let options = Options { block_cache_bytes: 256 << 20, ..Options::default() };
/// assert!(options.write_ahead_log && options.memtable_bytes == 32 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Write a log of RocksDB's own, as must be when nothing else can replay what was written. Without
    /// it a buffered write is lost by any end of the process but a clean one, and a synced write writes
    /// a table. Default: true.
    pub write_ahead_log: bool,
    /// Bytes of memory for blocks of tables, shared by all reads but scans. Default: 64 MiB.
    pub block_cache_bytes: usize,
    /// Bytes of new history in memory before it becomes a table. Up to three times as much is in
    /// memory while tables are written, and about as much is read again after a crash. Default: 32 MiB.
    pub memtable_bytes: usize,
    /// Tables held open at once; each takes a file descriptor. Default: 512.
    pub max_open_tables: u16,
    /// Write the log over old log files, which makes a sync up to 40 % faster. But the end of such a log
    /// looks like damage: if the log is damaged, what was written after the damage is lost without a
    /// word, where otherwise opening is refused. Default: false.
    pub reuse_log_files: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            write_ahead_log: true,
            block_cache_bytes: 64 << 20,
            memtable_bytes: 32 << 20,
            max_open_tables: 512,
            reuse_log_files: false,
        }
    }
}

impl Options {
    /// For an outer log that owns durability: no log of RocksDB's own.
    ///
    /// ```
    /// use stentor_mvcc::engine::rocksdb::Options;
    /// let options = Options { max_open_tables: 4096, ..Options::replayed() };
    /// assert!(!options.write_ahead_log);
    /// ```
    pub fn replayed() -> Options {
        Options { write_ahead_log: false, ..Options::default() }
    }

    /// Settings of the whole database.
    pub(super) fn database(&self) -> DbOptions {
        let mut options = DbOptions::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
        // One for new tables, one for compaction: more only takes the server's processors.
        options.set_max_background_jobs(2);
        options.set_max_open_files(i32::from(self.max_open_tables.max(16)));
        options.set_skip_stats_update_on_db_open(true);
        // The end of a scan must not delete files on the reader's time.
        options.set_avoid_unnecessary_blocking_io(true);
        options.set_max_manifest_file_size(8 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        if self.write_ahead_log {
            // The family with few writes would keep the log of the other one for ever.
            options.set_max_total_wal_size(3 * self.memtable_bytes as u64);
            if self.reuse_log_files {
                options.set_recycle_log_file_num(2);
                options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
            } else {
                options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
            }
            options.set_track_and_verify_wals_in_manifest(true);
        } else {
            // Without a log, families that are flushed apart would be of different times after a crash.
            options.set_atomic_flush(true);
        }
        options
    }

    /// The families with their settings.
    pub(super) fn families(&self) -> Vec<ColumnFamilyDescriptor> {
        let cache = Cache::new_lru_cache(self.block_cache_bytes);
        let family = |family, memtable_bytes| {
            ColumnFamilyDescriptor::new(family_name(family), family_options(&cache, memtable_bytes))
        };
        vec![
            family(Family::History, self.memtable_bytes),
            family(Family::Meta, self.memtable_bytes / 4),
            // RocksDB insists on it. Nothing is in it.
            ColumnFamilyDescriptor::new(::rocksdb::DEFAULT_COLUMN_FAMILY_NAME, family_options(&cache, 1 << 20)),
        ]
    }
}

pub(super) fn family_name(family: Family) -> &'static str {
    match family {
        Family::History => "history",
        Family::Meta => "meta",
    }
}

fn family_options(cache: &Cache, memtable_bytes: usize) -> DbOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    // Larger blocks compress better and scan faster, smaller ones suit single reads that miss the cache.
    tables.set_block_size(16 << 10);
    // No bloom filters: nearly every key that is looked up exists, and tables of history do not overlap.
    let mut options = DbOptions::default();
    options.set_block_based_table_factory(&tables);
    // The same at every level, or tables could not move down without being rewritten.
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(memtable_bytes.max(64 << 10));
    options.set_max_write_buffer_number(3);
    // Writes wait when they must, and are not slowed down before: waiting is done by the engine.
    options.set_level_zero_slowdown_writes_trigger(L0_STOP);
    options.set_level_zero_stop_writes_trigger(L0_STOP);
    options.set_soft_pending_compaction_bytes_limit(0);
    // A table of which half is deletions is compacted without being asked.
    options.add_compact_on_deletion_collector_factory(4096, 2048, 0.5);
    options
}
