use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::Pair;
use crate::{KeyValue, Revision};

/// What happened to one key of a [`Reflector`](crate::Reflector)'s copy.
#[non_exhaustive]
pub enum Change<V = KeyValue> {
    /// It was not there before.
    Added(Arc<V>),
    /// It is another now.
    Updated {
        /// What it was.
        old: Arc<V>,
        /// What it is.
        new: Arc<V>,
    },
    /// It is not there any more.
    Removed(Arc<V>),
}

/// All that one revision changed in a [`Reflector`](crate::Reflector)'s copy, or the difference between two
/// revisions of it.
pub struct Changes<V = KeyValue> {
    changes: Arc<[Change<V>]>,
    revision: Revision,
    by_difference: bool,
}

/// What a [`Subscription`](crate::Subscription) yields.
#[non_exhaustive]
pub enum SubscriptionItem<V = KeyValue> {
    /// The copy is at another revision, and these are the changes up to it.
    Changes(Changes<V>),
    /// Changes were not taken fast enough, and are not kept any longer. The next item is the difference
    /// between what was taken last and the copy as it is then; it may be empty.
    Lagged {
        /// How many changes were given up so far.
        changes: u64,
    },
}

impl<V: Pair> Change<V> {
    /// The key.
    pub fn key(&self) -> &Bytes {
        match self {
            Change::Added(value) | Change::Updated { new: value, .. } | Change::Removed(value) => value.pair().key(),
        }
    }

    /// What it was, if it was there.
    pub fn before(&self) -> Option<&Arc<V>> {
        match self {
            Change::Added(_) => None,
            Change::Updated { old, .. } | Change::Removed(old) => Some(old),
        }
    }

    /// What it is, if it is there.
    pub fn after(&self) -> Option<&Arc<V>> {
        match self {
            Change::Added(new) | Change::Updated { new, .. } => Some(new),
            Change::Removed(_) => None,
        }
    }

    /// From one to the other. `None` between nothing and nothing.
    pub(super) fn between(old: Option<Arc<V>>, new: Option<Arc<V>>) -> Option<Change<V>> {
        match (old, new) {
            (None, None) => None,
            (None, Some(new)) => Some(Change::Added(new)),
            (Some(old), Some(new)) => Some(Change::Updated { old, new }),
            (Some(old), None) => Some(Change::Removed(old)),
        }
    }
}

impl<V> Changes<V> {
    pub(super) fn of_revision(changes: Vec<Change<V>>, revision: Revision) -> Changes<V> {
        Changes { changes: changes.into(), revision, by_difference: false }
    }

    /// What is gone first: it may have to make room for what is new.
    pub(super) fn difference(mut changes: Vec<Change<V>>, revision: Revision) -> Changes<V>
    where
        V: Pair,
    {
        let place = |change: &Change<V>| (!matches!(change, Change::Removed(_)), change.key().clone());
        changes.sort_by_cached_key(place);
        Changes { changes: changes.into(), revision, by_difference: true }
    }

    /// The changes. By difference: first what was removed, then the rest, each in the order of keys.
    /// Otherwise as the server ordered them.
    pub fn changes(&self) -> &[Change<V>] {
        &self.changes
    }

    /// The changes, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Change<V>> {
        self.changes.iter()
    }

    /// Nothing is different. Only after [`SubscriptionItem::Lagged`].
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What the copy is at with these changes. It goes up, except when the store has been replaced by one
    /// with another history.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// More than one revision may lie between these changes and those before, and what was undone in
    /// between is not among them: they come from a list, or after [`SubscriptionItem::Lagged`].
    pub fn is_difference(&self) -> bool {
        self.by_difference
    }
}

impl<'a, V> IntoIterator for &'a Changes<V> {
    type Item = &'a Change<V>;
    type IntoIter = std::slice::Iter<'a, Change<V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

// By hand: the derived ones would ask the same of `V`.

impl<V> Clone for Change<V> {
    fn clone(&self) -> Self {
        match self {
            Change::Added(new) => Change::Added(new.clone()),
            Change::Updated { old, new } => Change::Updated { old: old.clone(), new: new.clone() },
            Change::Removed(old) => Change::Removed(old.clone()),
        }
    }
}

impl<V> Clone for Changes<V> {
    fn clone(&self) -> Self {
        Changes { changes: self.changes.clone(), revision: self.revision, by_difference: self.by_difference }
    }
}

impl<V> Clone for SubscriptionItem<V> {
    fn clone(&self) -> Self {
        match self {
            SubscriptionItem::Changes(changes) => SubscriptionItem::Changes(changes.clone()),
            SubscriptionItem::Lagged { changes } => SubscriptionItem::Lagged { changes: *changes },
        }
    }
}

impl<V: fmt::Debug> fmt::Debug for Change<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Added(new) => f.debug_tuple("Added").field(new).finish(),
            Change::Updated { old, new } => f.debug_struct("Updated").field("old", old).field("new", new).finish(),
            Change::Removed(old) => f.debug_tuple("Removed").field(old).finish(),
        }
    }
}

impl<V: fmt::Debug> fmt::Debug for Changes<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("revision", &self.revision)
            .field("by_difference", &self.by_difference)
            .field("changes", &self.changes)
            .finish()
    }
}

impl<V: fmt::Debug> fmt::Debug for SubscriptionItem<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubscriptionItem::Changes(changes) => changes.fmt(f),
            SubscriptionItem::Lagged { changes } => f.debug_struct("Lagged").field("changes", changes).finish(),
        }
    }
}
