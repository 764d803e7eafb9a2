use std::sync::Arc;

use stentor_proto::{KeyRange, Revision};

use super::count::count;
use super::entry::Entry;
use super::log::Log;
use super::node::{Node, Summary};
use super::reached::{Point, reached};
use super::walk::Walk;
use super::{Found, Generation, KeyChange};

/// The key index as it was at one moment. Cloning is O(1), and no change to the index is ever seen.
///
/// Revisions to read at may be any that is not compacted; of several changes of a key in one revision
/// a read sees the last. What reads at compacted revisions find is unspecified.
#[derive(Clone, Debug)]
pub struct IndexView {
    pub(super) root: Arc<Node>,
    pub(super) summary: Summary,
    pub(super) keys: u64,
    pub(super) log: Log,
}

impl IndexView {
    /// What a read of `key` at `at` finds; `None` if the key was not live then. O(log n), and for old
    /// revisions O(versions / 64) more.
    pub fn get(&self, key: &[u8], at: Revision) -> Option<Found> {
        self.entry(key)?.find(at)
    }

    /// The newest change of `key` at or below `at`, tombstones included.
    pub fn change_at(&self, key: &[u8], at: Revision) -> Option<KeyChange> {
        self.entry(key)?.change_at(at)
    }

    /// The keys of `range` that are live at `at`, ascending. Lazy: beginning costs O(log n), and each
    /// key O(1) as long as few keys between have only changes that do not count at `at`; where a whole
    /// subtree is deleted by `at` or came after it, it is skipped.
    pub fn range(&self, range: &KeyRange, at: Revision) -> Range<'_> {
        Range { walk: Walk::new(&self.root, range, Some(at), false), at }
    }

    /// As [`IndexView::range`], descending.
    pub fn range_rev(&self, range: &KeyRange, at: Revision) -> Range<'_> {
        Range { walk: Walk::new(&self.root, range, Some(at), true), at }
    }

    /// The number of keys of `range` that are live at `at`.
    ///
    /// At the newest revision O(log n). At an older one the keys that came to life or ceased to live
    /// since are taken back, by some 50 binary searches in a log of the newest 131,072 of them at most
    /// (fewer if their keys add up to more than 32 MiB). For what is older than the log reaches, the
    /// nodes of the tree in which something changed since are scanned.
    pub fn count(&self, range: &KeyRange, at: Revision) -> u64 {
        if self.summary.newest <= at {
            return count(&self.root, self.summary, range, Revision::MAX);
        }
        if at < self.log.floor() || range.single().is_some() {
            reached(Point::CountedByScan);
            return count(&self.root, self.summary, range, at);
        }
        reached(Point::CountedByLog);
        let now = count(&self.root, self.summary, range, Revision::MAX);
        now.saturating_add_signed(-self.log.sum_after(range, at))
    }

    /// Every key with all of its changes, ascending: what a checkpoint of the index writes.
    pub fn entries(&self) -> Entries<'_> {
        Entries { walk: Walk::over_all(&self.root) }
    }

    /// The keys of `range` with all of their changes, ascending, deleted ones included.
    pub fn entries_in(&self, range: &KeyRange) -> Entries<'_> {
        Entries { walk: Walk::new(&self.root, range, None, false) }
    }

    /// The number of keys, deleted ones that are not compacted included.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The number of keys that are live at the newest revision.
    pub fn live_keys(&self) -> u64 {
        self.summary.live
    }

    /// The revision of the newest change that the index has; compaction can lower it by removing the
    /// tombstone that was the newest.
    pub fn newest_revision(&self) -> Revision {
        self.summary.newest
    }

    /// Bytes of memory that it takes, within a few percent. O(n): it looks at every node. What views
    /// share is counted in each of them.
    pub fn memory_bytes(&self) -> usize {
        size_of::<IndexView>() + self.root.memory_bytes() + self.log.memory_bytes()
    }

    pub(super) fn entry(&self, key: &[u8]) -> Option<Entry<'_>> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.find(key),
                Node::Inner(inner) => node = &inner.children.get(inner.route(key))?.node,
            }
        }
    }
}

/// Live keys with what a read finds under them; see [`IndexView::range`].
#[derive(Debug)]
pub struct Range<'a> {
    walk: Walk<'a>,
    at: Revision,
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a [u8], Found);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (key, entry) = self.walk.next()?;
            if let Some(found) = entry.find(self.at) {
                return Some((key, found));
            }
        }
    }
}

/// Keys with all of their changes; see [`IndexView::entries`].
#[derive(Debug)]
pub struct Entries<'a> {
    walk: Walk<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = KeyEntry<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.walk.next().map(|(key, entry)| KeyEntry { key, entry })
    }
}

/// A key with all of its changes.
#[derive(Clone, Copy, Debug)]
pub struct KeyEntry<'a> {
    key: &'a [u8],
    entry: Entry<'a>,
}

impl<'a> KeyEntry<'a> {
    /// The key.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Its changes, newest first; there is at least one.
    pub fn changes(&self) -> impl Iterator<Item = KeyChange> + use<'a> {
        self.entry.changes()
    }

    /// The generation as the newest change left it; `None` if that is a tombstone.
    pub fn generation(&self) -> Option<Generation> {
        self.entry.head.generation()
    }
}
