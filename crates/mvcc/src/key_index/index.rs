use std::ops::Deref;
use std::sync::Arc;

use stentor_proto::Revision;

use super::edit::{self, Changed};
use super::entry::{Compaction, Edit};
use super::log::{Log, LogLimits};
use super::node::{Node, Shape, Summary};
use super::view::IndexView;
use super::{Generation, Newest};
use crate::ChangeId;

/// The key index in the hands of its writer. It dereferences to an [`IndexView`] of its current state,
/// so a transaction reads its own writes.
///
/// Cloning is O(1): a copy kept from before some changes takes them back by being put in place again.
///
/// ```
/// use stentor_mvcc::ChangeId;
/// use stentor_mvcc::key_index::KeyIndex;
/// use stentor_proto::{KeyRange, Revision};
///
/// let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
/// let mut index = KeyIndex::new();
/// index.put(b"a", at(2));
/// let view = index.view();
/// index.put(b"a", at(3));
/// index.delete(b"a", at(4));
///
/// assert_eq!(index.get(b"a", at(3).revision).unwrap().change, at(3));
/// assert_eq!(index.get(b"a", at(4).revision), None);
/// assert_eq!(index.count(&KeyRange::all(), at(3).revision), 1);
/// assert_eq!(view.live_keys(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct KeyIndex {
    view: IndexView,
    shape: Shape,
}

/// What a put made of a key.
///
/// ```
/// use stentor_mvcc::key_index::{KeyIndex, Placed};
/// # use stentor_mvcc::ChangeId;
/// # use stentor_proto::Revision;
/// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
/// let mut index = KeyIndex::new();
/// index.put(b"a", at(2));
/// let placed = Placed { create: at(2).revision, version: 2, previous: Some(at(2)) };
/// assert_eq!(index.put(b"a", at(3)), placed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Placed {
    /// The revision at which the key came to life: that of the put, if it was not live.
    pub create: Revision,
    /// The number of puts since, this one included.
    pub version: i64,
    /// The change of the key before this one, tombstones included; `None` if the index knows none.
    pub previous: Option<ChangeId>,
}

impl Default for KeyIndex {
    fn default() -> KeyIndex {
        KeyIndex::new()
    }
}

impl KeyIndex {
    /// Without keys. To fill it with many at once see [`Builder`](super::Builder).
    pub fn new() -> KeyIndex {
        KeyIndex::with_limits(Shape::DEFAULT, LogLimits::DEFAULT)
    }

    pub(super) fn with_limits(shape: Shape, log: LogLimits) -> KeyIndex {
        let view = IndexView {
            root: Arc::new(Node::default()),
            summary: Summary::EMPTY,
            keys: 0,
            log: Log::new(log, Revision::ZERO),
        };
        KeyIndex::from_view(view, shape)
    }

    pub(super) fn from_view(view: IndexView, shape: Shape) -> KeyIndex {
        KeyIndex { view, shape }
    }

    /// The index as it is now, for readers. O(1).
    pub fn view(&self) -> IndexView {
        self.view.clone()
    }

    /// Notes a put at `at`, which must be above all earlier changes of the index. O(log n).
    ///
    /// ```
    /// use stentor_mvcc::key_index::KeyIndex;
    /// # use stentor_mvcc::ChangeId;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let mut index = KeyIndex::new();
    /// assert_eq!(index.put(b"a", at(2)).version, 1);
    /// index.delete(b"a", at(3));
    /// // It lives anew, after its tombstone.
    /// let placed = index.put(b"a", at(4));
    /// assert_eq!((placed.version, placed.create, placed.previous), (1, at(4).revision, Some(at(3))));
    /// ```
    pub fn put(&mut self, key: &[u8], at: ChangeId) -> Placed {
        let changed = self.change(key, at, Edit::Put);
        let Generation { create, version } = changed.after.unwrap_or(Generation { create: at.revision, version: 1 });
        Placed { create, version, previous: changed.before.map(|(change, _)| change.id) }
    }

    /// Notes a tombstone at `at`, which must be above all earlier changes of the index, and returns what
    /// was live before. `None`, and nothing has changed, if the key is not live. O(log n).
    ///
    /// ```
    /// use stentor_mvcc::key_index::KeyIndex;
    /// # use stentor_mvcc::ChangeId;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let mut index = KeyIndex::new();
    /// index.put(b"a", at(2));
    /// assert_eq!(index.delete(b"a", at(3)).map(|was| was.change), Some(at(2)));
    /// // Nothing is left to delete.
    /// assert_eq!(index.delete(b"a", at(4)), None);
    /// ```
    pub fn delete(&mut self, key: &[u8], at: ChangeId) -> Option<Newest> {
        let before = self.view.entry(key)?.live()?;
        self.change(key, at, Edit::Set(None));
        Some(before)
    }

    /// Notes a change as history has it, for rebuilding the index from there: a put of the given
    /// generation, or a tombstone, even of a key that is not known or not live because the changes before
    /// it are compacted. `at` must be above all earlier changes of the index. Returns the change of the
    /// key before.
    ///
    /// ```
    /// use stentor_mvcc::key_index::{Generation, KeyIndex};
    /// # use stentor_mvcc::ChangeId;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let mut index = KeyIndex::new();
    /// // The fourth put of a key whose first three are compacted.
    /// let generation = Generation { create: at(2).revision, version: 4 };
    /// assert_eq!(index.replay(b"a", at(9), Some(generation)), None);
    /// // Its tombstone.
    /// assert_eq!(index.replay(b"a", at(10), None), Some(at(9)));
    /// ```
    pub fn replay(&mut self, key: &[u8], at: ChangeId, generation: Option<Generation>) -> Option<ChangeId> {
        self.change(key, at, Edit::Set(generation)).before.map(|(change, _)| change.id)
    }

    /// Drops the changes of `key` that a store compacted at `compact` has no use for: those before the
    /// newest one at or below `compact`, and that one too if it is a tombstone below `compact`. If the
    /// key changed at `compact`, all its changes of that revision stay, and the one before them unless
    /// it is a tombstone: a watch from `compact` on tells the value before. A key without changes leaves
    /// the index.
    ///
    /// Repeating it changes nothing, and costs O(log n).
    ///
    /// ```
    /// use stentor_mvcc::key_index::KeyIndex;
    /// # use stentor_mvcc::ChangeId;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let mut index = KeyIndex::new();
    /// for revision in 2..=9 {
    ///     index.put(b"a", at(revision));
    /// }
    /// index.compact_key(b"a", at(7).revision);
    /// // What a read at 7 finds, and the value before it for a watch from there.
    /// let left = index.entries().next().map(|entry| entry.changes().map(|change| change.id).collect());
    /// assert_eq!(left, Some(vec![at(9), at(8), at(7), at(6)]));
    /// ```
    pub fn compact_key(&mut self, key: &[u8], compact: Revision) {
        let Some(entry) = self.view.entry(key) else { return };
        let what = entry.compaction(compact);
        if what == Compaction::Nothing {
            return;
        }
        edit::compact(&mut self.view.root, key, what, &self.shape);
        self.view.summary = self.view.root.summary();
        self.view.keys -= u64::from(what == Compaction::Remove);
    }

    fn change(&mut self, key: &[u8], at: ChangeId, edit: Edit) -> Changed {
        debug_assert!(at.revision >= self.view.summary.newest, "{at} is below the newest change");
        let changed = edit::change(&mut self.view.root, key, at, edit, &self.shape);
        self.view.summary.note(&changed, at);
        self.view.keys += u64::from(changed.before.is_none());
        if changed.was_live() != changed.is_live() {
            self.view.log.note(key, at.revision, changed.is_live());
        }
        changed
    }
}

impl Deref for KeyIndex {
    type Target = IndexView;

    fn deref(&self) -> &IndexView {
        &self.view
    }
}
