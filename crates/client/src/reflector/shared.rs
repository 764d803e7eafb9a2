//! What the task of a reflector and its handles share.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::entry::Pair;
use super::status::State;
use super::store::Store;
use crate::Revision;
use crate::error::{Error, Result};

pub(super) struct Shared<V> {
    store: RwLock<Store<V>>,
    /// Changes after the store, so that who waits for a state finds the store in it.
    state: watch::Sender<State>,
    pub(super) demand: Demand,
}

/// The revisions that are waited for, and how many wait for each.
#[derive(Default)]
pub(super) struct Demand {
    waiting: Mutex<BTreeMap<Revision, usize>>,
    /// Somebody has begun to wait.
    pub(super) raised: Notify,
}

/// Somebody waits for a revision, as long as this is there.
pub(super) struct Waiting<'a> {
    demand: &'a Demand,
    revision: Revision,
}

impl<V: Pair> Shared<V> {
    pub(super) fn new() -> Shared<V> {
        Shared {
            store: RwLock::new(Store::new()),
            state: watch::Sender::new(State::new(Instant::now())),
            demand: Demand::default(),
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Store<V>> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Store<V>> {
        self.store.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with_state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.borrow())
    }

    /// Tells what has become of the store, and what else.
    pub(super) fn publish(&self, change: impl FnOnce(&mut State)) {
        let (revision, len, undecodable) = {
            let store = self.read();
            (store.revision(), store.len(), store.undecodable_len())
        };
        self.state.send_modify(|state| {
            (state.revision, state.len, state.undecodable) = (revision, len, undecodable);
            change(state);
        });
    }

    /// Changes are coming in.
    pub(super) fn in_sync(&self) {
        self.publish(|state| state.outage = None);
    }

    pub(super) fn out_of_sync(&self, error: Option<Error>) {
        let now = Instant::now();
        self.publish(|state| state.out_of_sync(error, now));
    }

    /// Nothing will come any more. The first reason counts.
    pub(super) fn end(&self, error: Error) {
        if self.with_state(|state| state.ended.is_some()) {
            return;
        }
        self.write().end(error.clone());
        let now = Instant::now();
        self.publish(|state| {
            state.out_of_sync(Some(error.clone()), now);
            state.ended = Some(error);
        });
    }

    /// Waits until `done`, or until waiting makes no sense any more.
    pub(super) async fn until(&self, done: impl Fn(&State, &Store<V>) -> bool) -> Result<()> {
        let mut state = self.state.subscribe();
        loop {
            {
                let state = state.borrow_and_update();
                if done(&state, &self.read()) {
                    return Ok(());
                }
                if let Some(error) = state.refusal() {
                    return Err(error.clone());
                }
            }
            // The sender is in `self`.
            state.changed().await.ok();
        }
    }
}

impl Demand {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Revision, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait_for(&self, revision: Revision) -> Waiting<'_> {
        *self.lock().entry(revision).or_default() += 1;
        self.raised.notify_one();
        Waiting { demand: self, revision }
    }

    /// Somebody waits for something beyond `revision`.
    pub(super) fn is_beyond(&self, revision: Revision) -> bool {
        self.lock().range((Bound::Excluded(revision), Bound::Unbounded)).next().is_some()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.demand.lock();
        if let Some(count) = waiting.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.revision);
            }
        }
    }
}
