//! Reads: of the engine as it is now, and of a view.

use ::rocksdb::{DBRawIterator, ReadOptions, Snapshot};
use bytes::Bytes;

use super::super::{EngineError, Entry, Family, Read, Scan};
use super::RocksDbEngine;

impl RocksDbEngine {
    pub(super) fn get_with(
        &self,
        family: Family,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Option<Bytes>, EngineError> {
        let value = self.db.get_pinned_cf_opt(self.family(family)?, key, options);
        let value = value.map_err(|error| self.read_error(error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn get_many_with(
        &self,
        family: Family,
        keys: &[[u8; 12]],
        options: &ReadOptions,
    ) -> Result<Vec<Option<Bytes>>, EngineError> {
        let values = self.db.batched_multi_get_cf_opt(self.family(family)?, keys, keys.is_sorted(), options);
        let bytes = |value: Option<::rocksdb::DBPinnableSlice<'_>>| value.map(|value| Bytes::copy_from_slice(&value));
        values.into_iter().map(|value| value.map(bytes).map_err(|error| self.read_error(error))).collect()
    }

    fn scan_with(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        mut options: ReadOptions,
    ) -> Result<Scan<'_>, EngineError> {
        // RocksDB reads ahead by itself, more the longer the scan gets. A fixed readahead is no faster for
        // long ones, and makes a short one a hundred times slower.
        options.fill_cache(false);
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(family)?, options);
        iterator.seek(from);
        Ok(Box::new(Entries { engine: self, iterator: Some(iterator) }))
    }
}

impl Read for RocksDbEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.get_with(family, key, &self.reads)
    }

    fn scan(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Result<Scan<'_>, EngineError> {
        self.scan_with(family, from, to, ReadOptions::default())
    }

    fn get_many(&self, family: Family, keys: &[[u8; 12]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        self.get_many_with(family, keys, &self.reads)
    }
}

/// The engine as it was.
pub(super) struct View<'a> {
    engine: &'a RocksDbEngine,
    /// Reads as of the snapshot below.
    reads: ReadOptions,
    snapshot: Snapshot<'a>,
}

impl<'a> View<'a> {
    pub(super) fn new(engine: &'a RocksDbEngine) -> View<'a> {
        let snapshot = engine.db.snapshot();
        let reads = as_of(&snapshot);
        View { engine, reads, snapshot }
    }
}

fn as_of(snapshot: &Snapshot<'_>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_snapshot(snapshot);
    options
}

impl Read for View<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine.get_with(family, key, &self.reads)
    }

    fn scan(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Result<Scan<'_>, EngineError> {
        self.engine.scan_with(family, from, to, as_of(&self.snapshot))
    }

    fn get_many(&self, family: Family, keys: &[[u8; 12]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        self.engine.get_many_with(family, keys, &self.reads)
    }
}

/// A scan.
struct Entries<'a> {
    engine: &'a RocksDbEngine,
    /// `None` once it has ended.
    iterator: Option<DBRawIterator<'a>>,
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let iterator = self.iterator.as_mut()?;
        if let Some((key, value)) = iterator.item() {
            let entry = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            iterator.next();
            return Some(Ok(entry));
        }
        let status = iterator.status();
        self.iterator = None;
        status.err().map(|error| Err(self.engine.read_error(error)))
    }
}
