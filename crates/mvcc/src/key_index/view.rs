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
///
/// ```
/// use stentor_mvcc::key_index::KeyIndex;
/// # use stentor_mvcc::ChangeId;
/// # use stentor_proto::Revision;
/// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
/// let mut index = KeyIndex::new();
/// index.put(b"a", at(2));
/// index.put(b"b", at(3));
/// index.delete(b"a", at(4));
/// let view = index.view();
/// index.put(b"c", at(5));
/// // The deleted key is there until it is compacted; the third came later.
/// assert_eq!((view.keys(), view.live_keys(), view.newest_revision()), (2, 1, at(4).revision));
/// assert!(view.memory_bytes() < index.memory_bytes());
/// ```
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
    ///
    /// ```
    /// use stentor_mvcc::key_index::KeyIndex;
    /// # use stentor_mvcc::ChangeId;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let mut index = KeyIndex::new();
    /// index.put(b"a", at(2));
    /// index.put(b"b", at(3));
    /// index.delete(b"a", at(4));
    /// assert_eq!(index.get(b"a", at(3).revision).map(|found| found.change), Some(at(2)));
    /// // Deleted; not there yet.
    /// assert_eq!(index.get(b"a", at(4).revision), None);
    /// assert_eq!(index.get(b"b", at(2).revision), None);
    /// ```
    pub fn get(&self, key: &[u8], at: Revision) -> Option<Found> {
        self.entry(key)?.find(at)
    }

    /// The newest change of `key` at or below `at`, tombstones included.
    ///
    /// ```
    /// use stentor_mvcc::key_index::KeyIndex;
    /// # use stentor_mvcc::ChangeId;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let mut index = KeyIndex::new();
    /// index.put(b"a", at(2));
    /// index.put(b"b", at(3));
    /// index.delete(b"a", at(4));
    /// let deleted = index.change_at(b"a", at(9).revision);
    /// assert!(deleted.is_some_and(|change| change.tombstone && change.id == at(4)));
    /// assert!(index.change_at(b"a", at(3).revision).is_some_and(|change| !change.tombstone));
    /// ```
    pub fn change_at(&self, key: &[u8], at: Revision) -> Option<KeyChange> {
        self.entry(key)?.change_at(at)
    }

    /// The keys of `range` that are live at `at`, ascending. Lazy: beginning costs O(log n), and each
    /// key O(1) as long as few keys between have only changes that do not count at `at`; where a whole
    /// subtree is deleted by `at` or came after it, it is skipped.
    ///
    /// ```
    /// use stentor_mvcc::key_index::KeyIndex;
    /// # use stentor_mvcc::ChangeId;
    /// use stentor_proto::KeyRange;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let mut index = KeyIndex::new();
    /// index.put(b"a", at(2));
    /// index.put(b"b", at(3));
    /// index.delete(b"a", at(4));
    /// let keys = |at| index.range(&KeyRange::all(), at).map(|(key, _)| key).collect::<Vec<_>>();
    /// assert_eq!(keys(at(3).revision), [b"a", b"b"]);
    /// assert_eq!(keys(at(4).revision), [b"b"]);
    /// ```
    pub fn range(&self, range: &KeyRange, at: Revision) -> Range<'_> {
        Range { walk: Walk::new(&self.root, range, Some(at), false), at }
    }

    /// As [`IndexView::range`], descending.
    ///
    /// ```
    /// use stentor_mvcc::key_index::KeyIndex;
    /// # use stentor_mvcc::ChangeId;
    /// use stentor_proto::KeyRange;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let mut index = KeyIndex::new();
    /// index.put(b"a", at(2));
    /// index.put(b"b", at(3));
    /// index.delete(b"a", at(4));
    /// let mut keys = index.range_rev(&KeyRange::all(), at(3).revision).map(|(key, _)| key);
    /// assert_eq!((keys.next(), keys.next()), (Some(&b"b"[..]), Some(&b"a"[..])));
    /// ```
    pub fn range_rev(&self, range: &KeyRange, at: Revision) -> Range<'_> {
        Range { walk: Walk::new(&self.root, range, Some(at), true), at }
    }

    /// The number of keys of `range` that are live at `at`.
    ///
    /// At the newest revision O(log n). At an older one the keys that came to life or ceased to live
    /// since are taken back, by some 50 binary searches in a log of the newest 131,072 of them at most
    /// (fewer if their keys add up to more than 32 MiB). For what is older than the log reaches, the
    /// nodes of the tree in which something changed since are scanned.
    ///
    /// ```
    /// use stentor_mvcc::key_index::KeyIndex;
    /// # use stentor_mvcc::ChangeId;
    /// use stentor_proto::KeyRange;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let mut index = KeyIndex::new();
    /// index.put(b"a", at(2));
    /// index.put(b"b", at(3));
    /// index.delete(b"a", at(4));
    /// assert_eq!(index.count(&KeyRange::all(), at(3).revision), 2);
    /// assert_eq!(index.count(&KeyRange::all(), at(4).revision), 1);
    /// assert_eq!(index.count(&KeyRange::prefix("a"), at(4).revision), 0);
    /// ```
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
    ///
    /// ```
    /// use stentor_mvcc::key_index::KeyIndex;
    /// # use stentor_mvcc::ChangeId;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let mut index = KeyIndex::new();
    /// index.put(b"a", at(2));
    /// index.put(b"b", at(3));
    /// index.delete(b"a", at(4));
    /// for entry in index.entries() {
    ///     let live = entry.generation().is_some();
    ///     assert_eq!((entry.changes().count(), live), if entry.key() == b"a" { (2, false) } else { (1, true) });
    /// }
    /// ```
    pub fn entries(&self) -> Entries<'_> {
        Entries { walk: Walk::over_all(&self.root) }
    }

    /// The keys of `range` with all of their changes, ascending, deleted ones included.
    ///
    /// ```
    /// use stentor_mvcc::key_index::KeyIndex;
    /// # use stentor_mvcc::ChangeId;
    /// use stentor_proto::KeyRange;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let mut index = KeyIndex::new();
    /// index.put(b"a", at(2));
    /// index.put(b"b", at(3));
    /// index.delete(b"a", at(4));
    /// let mut entries = index.entries_in(&KeyRange::key("a"));
    /// // Its put and its tombstone.
    /// assert_eq!(entries.next().map(|entry| entry.changes().count()), Some(2));
    /// assert!(entries.next().is_none());
    /// ```
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
///
/// ```
/// use stentor_mvcc::key_index::{KeyIndex, Range};
/// # use stentor_mvcc::ChangeId;
/// use stentor_proto::KeyRange;
/// # use stentor_proto::Revision;
/// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
/// let mut index = KeyIndex::new();
/// index.put(b"a", at(2));
/// index.put(b"b", at(3));
/// index.delete(b"a", at(4));
/// let mut range: Range<'_> = index.range(&KeyRange::from_key("b"), at(3).revision);
/// assert!(range.next().is_some_and(|(key, found)| key == b"b" && found.change == at(3)));
/// assert!(range.next().is_none());
/// ```
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
///
/// ```
/// use stentor_mvcc::key_index::{Entries, KeyIndex};
/// # use stentor_mvcc::ChangeId;
/// # use stentor_proto::Revision;
/// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
/// let mut index = KeyIndex::new();
/// index.put(b"a", at(2));
/// index.put(b"b", at(3));
/// index.delete(b"a", at(4));
/// let entries: Entries<'_> = index.entries();
/// assert!(entries.map(|entry| entry.key()).eq([b"a", b"b"]));
/// ```
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
///
/// ```
/// use stentor_mvcc::key_index::{KeyEntry, KeyIndex};
/// # use stentor_mvcc::ChangeId;
/// # use stentor_proto::Revision;
/// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
/// let mut index = KeyIndex::new();
/// index.put(b"a", at(2));
/// index.put(b"b", at(3));
/// index.delete(b"a", at(4));
/// let first: Option<KeyEntry<'_>> = index.entries().next();
/// // Newest first: the tombstone and the put before it.
/// let changes = first.map(|entry| (entry.key(), entry.changes().map(|change| change.id).collect()));
/// assert_eq!(changes, Some((&b"a"[..], vec![at(4), at(2)])));
/// assert!(first.is_some_and(|entry| entry.generation().is_none()));
/// ```
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
