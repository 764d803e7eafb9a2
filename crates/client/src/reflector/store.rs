//! The copy and its subscribers. No I/O: what a list or a watch delivers is handed in, and what subscribers
//! are owed is taken out.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::change::{Change, Changes, SubscriptionItem};
use super::entry::{Pair, Slot, Undecodable};
use super::relist::Relist;
use super::ring::Ring;
use super::snapshot::Snapshot;
use crate::Revision;
use crate::error::Error;

/// All keys of a range, as of one revision. It goes from one revision to another at once, also by a list:
/// nobody sees half of one.
pub(super) struct Store<V> {
    slots: BTreeMap<Bytes, Slot<V>>,
    undecodable: usize,
    /// Zero until the first list.
    revision: Revision,
    rings: BTreeMap<SubscriberId, Ring<V>>,
    next_subscriber: SubscriberId,
    ended: Option<Error>,
}

pub(super) type SubscriberId = u64;

/// What an event does to the copy.
pub(super) enum Op<V> {
    Put(Slot<V>),
    Delete(Bytes),
}

impl<V: Pair> Store<V> {
    pub(super) fn new() -> Store<V> {
        Store {
            slots: BTreeMap::new(),
            undecodable: 0,
            revision: Revision::ZERO,
            rings: BTreeMap::new(),
            next_subscriber: 0,
            ended: None,
        }
    }

    // What is delivered.

    /// Everything that one revision changed.
    pub(super) fn apply(&mut self, revision: Revision, ops: Vec<Op<V>>) {
        if revision <= self.revision {
            return;
        }
        let changes: Vec<_> = ops
            .into_iter()
            .filter_map(|op| match op {
                Op::Put(slot) => self.put(slot),
                Op::Delete(key) => self.remove(&key),
            })
            .collect();
        self.revision = revision;
        self.tell(&Changes::of_revision(changes, revision));
    }

    /// Nothing else changed up to this revision.
    pub(super) fn progress(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// A list has been read as a whole, and the copy is as it says. Its revision may be below that of the
    /// copy: then the store has another history than before.
    pub(super) fn relist(&mut self, list: Relist<V>, revision: Revision) {
        let (removed, put) = list.finish(self);
        let mut changes: Vec<_> = removed.iter().filter_map(|key| self.remove(key)).collect();
        changes.extend(put.into_iter().filter_map(|slot| self.put(slot)));
        self.revision = revision;
        self.tell(&Changes::difference(changes, revision));
    }

    /// Nothing will come any more. Subscribers learn of it after what they are owed.
    pub(super) fn end(&mut self, error: Error) {
        self.ended.get_or_insert(error);
        self.rings.values_mut().filter_map(|ring| ring.waker.take()).for_each(std::task::Waker::wake);
    }

    fn put(&mut self, slot: Slot<V>) -> Option<Change<V>> {
        let new = slot.good().cloned();
        self.undecodable += usize::from(new.is_none());
        let old = self.slots.insert(slot.pair().key().clone(), slot);
        Change::between(self.replaced(old), new)
    }

    fn remove(&mut self, key: &Bytes) -> Option<Change<V>> {
        let old = self.slots.remove(key);
        Change::between(self.replaced(old), None)
    }

    fn replaced(&mut self, old: Option<Slot<V>>) -> Option<Arc<V>> {
        match old? {
            Slot::Good(old) => Some(old),
            Slot::Bad(_) => {
                self.undecodable -= 1;
                None
            }
        }
    }

    fn tell(&mut self, changes: &Changes<V>) {
        if !changes.is_empty() {
            self.rings.values_mut().for_each(|ring| ring.push(changes));
        }
    }

    // Subscribers.

    /// What there is, and a ring for all that comes after it.
    pub(super) fn subscribe(&mut self, limit: usize) -> (SubscriberId, Snapshot<V>) {
        let id = self.next_subscriber;
        self.next_subscriber += 1;
        self.rings.insert(id, Ring::new(limit));
        (id, self.snapshot())
    }

    pub(super) fn unsubscribe(&mut self, id: SubscriberId) {
        self.rings.remove(&id);
    }

    /// What a subscriber gets next; an error is the last.
    pub(super) fn poll_take(
        &mut self,
        id: SubscriberId,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<SubscriptionItem<V>, Error>>> {
        let Store { slots, rings, revision, ended, .. } = self;
        let Some(ring) = rings.get_mut(&id) else { return Poll::Ready(None) };
        if let Some(item) = ring.take(*revision, |key| slots.get(key)?.good()) {
            return Poll::Ready(Some(Ok(item)));
        }
        if let Some(error) = ended {
            return Poll::Ready(Some(Err(error.clone())));
        }
        if !ring.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            ring.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    // Questions.

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.undecodable
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Arc<V>> {
        self.slots.get(key)?.good()
    }

    /// Also what cannot be decoded.
    pub(super) fn slot(&self, key: &[u8]) -> Option<&Slot<V>> {
        self.slots.get(key)
    }

    pub(super) fn range<K: AsRef<[u8]>>(&self, range: &impl RangeBounds<K>) -> impl Iterator<Item = &Arc<V>> {
        let start = range.start_bound().map(AsRef::as_ref);
        let end = range.end_bound().map(AsRef::as_ref);
        // The map would panic.
        let upside_down = match (start, end) {
            (Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
                start > end
            }
            _ => false,
        };
        let inside = (!upside_down).then(|| self.slots.range::<[u8], _>((start, end)));
        inside.into_iter().flatten().filter_map(|(_, slot)| slot.good())
    }

    /// All above a key, or all.
    pub(super) fn after(&self, key: Option<&Bytes>) -> impl Iterator<Item = (&Bytes, &Slot<V>)> {
        let start = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.slots.range::<Bytes, _>((start, Bound::Unbounded))
    }

    pub(super) fn snapshot(&self) -> Snapshot<V> {
        let mut entries = Vec::with_capacity(self.len());
        entries.extend(self.slots.values().filter_map(|slot| slot.good().cloned()));
        Snapshot::new(entries, self.revision)
    }

    pub(super) fn undecodable(&self) -> Vec<Arc<Undecodable>> {
        let bad = |slot: &Slot<V>| match slot {
            Slot::Bad(bad) => Some(bad.clone()),
            Slot::Good(_) => None,
        };
        self.slots.values().filter_map(bad).collect()
    }

    pub(super) fn undecodable_len(&self) -> usize {
        self.undecodable
    }

    #[cfg(test)]
    pub(super) fn ring(&self, id: SubscriberId) -> Option<&Ring<V>> {
        self.rings.get(&id)
    }
}
