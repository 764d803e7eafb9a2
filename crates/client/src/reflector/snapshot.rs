use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::entry::Pair;
use crate::{KeyValue, Revision};

/// A [`Reflector`](crate::Reflector)'s copy as it was at one revision, in the order of keys.
pub struct Snapshot<V = KeyValue> {
    entries: Vec<Arc<V>>,
    revision: Revision,
}

impl<V: Pair> Snapshot<V> {
    /// `entries` are in the order of their keys.
    pub(super) fn new(entries: Vec<Arc<V>>, revision: Revision) -> Snapshot<V> {
        Snapshot { entries, revision }
    }

    /// What it is of; [`Revision::ZERO`] if the copy was not complete yet, and then it is empty.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// One key.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&Arc<V>> {
        let at = self.entries.binary_search_by(|entry| entry.pair().key().as_ref().cmp(key.as_ref())).ok()?;
        self.entries.get(at)
    }

    /// Everything, in the order of keys.
    pub fn entries(&self) -> &[Arc<V>] {
        &self.entries
    }

    /// What lies between two keys.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> &[Arc<V>] {
        let first_at = |key: &K, after_it: bool| {
            let key = key.as_ref();
            self.entries.partition_point(|entry| {
                let mine = entry.pair().key().as_ref();
                mine < key || (after_it && mine == key)
            })
        };
        let start = match range.start_bound() {
            Bound::Included(key) => first_at(key, false),
            Bound::Excluded(key) => first_at(key, true),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(key) => first_at(key, true),
            Bound::Excluded(key) => first_at(key, false),
            Bound::Unbounded => self.entries.len(),
        };
        self.entries.get(start..end).unwrap_or_default()
    }

    /// Everything, in the order of keys.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<V>> {
        self.entries.iter()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<'a, V> IntoIterator for &'a Snapshot<V> {
    type Item = &'a Arc<V>;
    type IntoIter = std::slice::Iter<'a, Arc<V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

impl<V> Clone for Snapshot<V> {
    fn clone(&self) -> Self {
        Snapshot { entries: self.entries.clone(), revision: self.revision }
    }
}

impl<V: fmt::Debug> fmt::Debug for Snapshot<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("revision", &self.revision).field("entries", &self.entries).finish()
    }
}
