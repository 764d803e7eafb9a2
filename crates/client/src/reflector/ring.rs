//! What waits for one subscriber. No I/O.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use super::change::{Change, Changes, SubscriptionItem};
use super::entry::Pair;
use crate::Revision;

/// A queue of bounded length. A subscriber that lets it overflow loses the single changes, and gets the
/// difference between what it has and what there is instead.
pub(super) struct Ring<V> {
    queue: VecDeque<Changes<V>>,
    /// Changes in the queue.
    queued: usize,
    limit: usize,
    lag: Option<Lag<V>>,
    pub(super) waker: Option<Waker>,
}

/// What a subscriber has that may not be so any more. Of each key only what it was when the subscriber lost
/// track: this is never more than what the subscriber has and what there is, however often keys change.
struct Lag<V> {
    had: BTreeMap<Bytes, Option<Arc<V>>>,
    /// Changes given up.
    given_up: u64,
    announced: bool,
}

impl<V: Pair> Ring<V> {
    pub(super) fn new(limit: usize) -> Ring<V> {
        Ring { queue: VecDeque::new(), queued: 0, limit, lag: None, waker: None }
    }

    /// A revision cannot be divided: one that is larger than the ring goes into an empty one.
    pub(super) fn push(&mut self, changes: &Changes<V>) {
        let count = changes.changes().len();
        match &mut self.lag {
            Some(lag) => lag.fold(changes),
            None if self.queue.is_empty() || self.queued + count <= self.limit => {
                self.queued += count;
                self.queue.push_back(changes.clone());
            }
            None => {
                let mut lag = Lag { had: BTreeMap::new(), given_up: 0, announced: false };
                self.queue.drain(..).for_each(|waiting| lag.fold(&waiting));
                lag.fold(changes);
                self.queued = 0;
                self.lag = Some(lag);
            }
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next item. `now` gives what a key is at `revision`.
    pub(super) fn take<'a, F>(&mut self, revision: Revision, now: F) -> Option<SubscriptionItem<V>>
    where
        F: Fn(&Bytes) -> Option<&'a Arc<V>>,
    {
        if let Some(changes) = self.queue.pop_front() {
            self.queued -= changes.changes().len();
            return Some(SubscriptionItem::Changes(changes));
        }
        let lag = self.lag.as_mut()?;
        if !lag.announced {
            lag.announced = true;
            return Some(SubscriptionItem::Lagged { changes: lag.given_up });
        }
        let had = std::mem::take(&mut lag.had);
        self.lag = None;
        let changes = had.into_iter().filter_map(|(key, old)| match (old, now(&key)) {
            (Some(old), Some(new)) if old.pair() == new.pair() => None,
            (old, new) => Change::between(old, new.cloned()),
        });
        Some(SubscriptionItem::Changes(Changes::difference(changes.collect(), revision)))
    }

    /// How many changes, or keys that changed, are kept for the subscriber.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.queued, self.lag.as_ref().map_or(0, |lag| lag.had.len()))
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }
}

impl<V: Pair> Lag<V> {
    fn fold(&mut self, changes: &Changes<V>) {
        for change in changes {
            self.given_up += 1;
            let had = self.had.entry(change.key().clone()).or_insert_with(|| change.before().cloned());
            if had.is_none() && change.after().is_none() {
                // Came and went: the subscriber never knew it.
                self.had.remove(change.key());
            }
        }
    }
}
