//! The key index: every key with its changes, in memory.
//!
//! A persistent B+tree. Nodes are behind `Arc`s; the one writer copies what is shared on the path to a
//! key and changes the rest in place, so that an [`IndexView`] is a root that nobody changes any more:
//! readers hold one as long as they like and never lock. Each link to a node says how many live keys
//! are below it and between which revisions their changes lie, so a count looks at the ends of its
//! range only, and a scan passes over tombstones that wait for compaction, whole subtrees at a time.
//!
//! For counts at recent revisions the view also has a log of the keys that came to life or ceased to
//! live ([`IndexView::count`]).

mod builder;
mod count;
mod edit;
mod entry;
mod index;
mod keys;
mod leaf;
mod log;
mod node;
mod past;
mod reached;
mod view;
mod walk;

#[cfg(test)]
mod tests;

use stentor_proto::Revision;

pub use builder::{BuildError, Builder};
pub use index::{KeyIndex, Placed};
pub use view::{Entries, IndexView, KeyEntry, Range};

use crate::ChangeId;

/// A change of a key, as far as the index keeps it.
///
/// ```
/// use stentor_mvcc::key_index::{KeyChange, KeyIndex};
/// # use stentor_mvcc::ChangeId;
/// # use stentor_proto::Revision;
/// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
/// let mut index = KeyIndex::new();
/// index.put(b"a", at(2));
/// index.delete(b"a", at(3));
/// let newest = index.change_at(b"a", at(9).revision);
/// assert_eq!(newest, Some(KeyChange { id: at(3), tombstone: true }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyChange {
    /// Which one.
    pub id: ChangeId,
    /// It deleted the key.
    pub tombstone: bool,
}

/// The life of a key from a put that found it absent until it is deleted.
///
/// ```
/// use stentor_mvcc::key_index::{Generation, KeyIndex};
/// # use stentor_mvcc::ChangeId;
/// # use stentor_proto::Revision;
/// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
/// let mut index = KeyIndex::new();
/// index.put(b"a", at(2));
/// index.put(b"a", at(5));
/// let found = index.get(b"a", at(5).revision).and_then(|found| found.newest);
/// assert_eq!(found, Some(Generation { create: at(2).revision, version: 2 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation {
    /// The revision at which it began.
    pub create: Revision,
    /// The number of puts so far; the first makes it 1.
    pub version: i64,
}

/// The newest change of a live key.
///
/// ```
/// use stentor_mvcc::key_index::{KeyIndex, Newest};
/// # use stentor_mvcc::ChangeId;
/// # use stentor_proto::Revision;
/// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
/// let mut index = KeyIndex::new();
/// index.put(b"a", at(2));
/// index.put(b"a", at(5));
/// let was = Newest { change: at(5), create: at(2).revision, version: 2 };
/// assert_eq!(index.delete(b"a", at(6)), Some(was));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Newest {
    /// Which one.
    pub change: ChangeId,
    /// The revision at which the key came to life.
    pub create: Revision,
    /// The number of puts since, the newest included.
    pub version: i64,
}

/// What a read finds under a key.
///
/// ```
/// use stentor_mvcc::key_index::{Found, Generation, KeyIndex};
/// # use stentor_mvcc::ChangeId;
/// # use stentor_proto::Revision;
/// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
/// let mut index = KeyIndex::new();
/// index.put(b"a", at(2));
/// index.put(b"a", at(5));
/// let newest = Some(Generation { create: at(2).revision, version: 2 });
/// assert_eq!(index.get(b"a", at(5).revision), Some(Found { change: at(5), newest }));
/// assert_eq!(index.get(b"a", at(4).revision), Some(Found { change: at(2), newest: None }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// The put that set its value.
    pub change: ChangeId,
    /// The generation as that put left it, if it is the newest change of the key. For older ones only
    /// the record in history has it.
    pub newest: Option<Generation>,
}
