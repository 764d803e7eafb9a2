//! What a list changes in the copy, found page by page. No I/O.

use bytes::Bytes;

use super::entry::{Pair, Slot};
use super::store::Store;
use crate::KeyValue;

/// The difference between the copy and a list that is being read. Beside the copy nothing is kept but this:
/// what did not change is dropped as soon as it is seen.
pub(super) struct Relist<V> {
    /// The last key of the list so far. Up to here the difference is known.
    last: Option<Bytes>,
    removed: Vec<Bytes>,
    put: Vec<Slot<V>>,
}

/// The pages of a list are not in the order of their keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pairs of a list are not in the order of their keys")]
pub(super) struct OutOfOrder;

impl<V: Pair> Relist<V> {
    pub(super) fn new() -> Relist<V> {
        Relist { last: None, removed: Vec::new(), put: Vec::new() }
    }

    /// Takes a page, and gives back those of its pairs that the copy does not have like this: they are to be
    /// decoded and [put](Self::put).
    ///
    /// Pairs are compared as a whole and not by their revision, which says nothing if the list is of a store
    /// with another history.
    pub(super) fn page(&mut self, store: &Store<V>, page: Vec<KeyValue>) -> Result<Vec<KeyValue>, OutOfOrder> {
        let known_to = self.last.clone();
        let mut mine = store.after(known_to.as_ref()).peekable();
        let mut differs = Vec::new();
        for pair in page {
            if self.last.as_ref().is_some_and(|last| last >= pair.key()) {
                return Err(OutOfOrder);
            }
            while let Some((key, _)) = mine.next_if(|(key, _)| *key < pair.key()) {
                self.removed.push(key.clone());
            }
            self.last = Some(pair.key().clone());
            match mine.next_if(|(key, _)| *key == pair.key()) {
                Some((_, slot)) if *slot.pair() == pair => {}
                _ => differs.push(pair),
            }
        }
        Ok(differs)
    }

    pub(super) fn put(&mut self, slots: impl IntoIterator<Item = Slot<V>>) {
        self.put.extend(slots);
    }

    /// The list has ended: what is gone, and what is new or different.
    pub(super) fn finish(mut self, store: &Store<V>) -> (Vec<Bytes>, Vec<Slot<V>>) {
        self.removed.extend(store.after(self.last.as_ref()).map(|(key, _)| key.clone()));
        (self.removed, self.put)
    }
}
