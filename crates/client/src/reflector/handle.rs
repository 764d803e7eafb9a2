use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::builder::ReflectBuilder;
use super::entry::{Pair, Slot, Undecodable};
use super::shared::Shared;
use super::snapshot::Snapshot;
use super::status::ReflectorStatus;
use super::store::Store;
use super::subscription::Subscription;
use super::task::Task;
use crate::error::{Error, ErrorKind, Result};
use crate::{Client, KeyRange, KeyValue, Revision};

/// A copy of a range of keys in this process, in the order of keys; see [`Client::reflect`].
///
/// Cheap to clone. It is kept by a task that ends with the last handle; a [`Subscription`] is one too.
///
/// - The copy is always that of one revision. It is what the store was then, never a mixture.
/// - It goes on by a watch. When the history that the watch needs is gone, by compaction or because the
///   store is another, the list is read again and merged: the copy goes from the old revision to the new
///   one at once, and what did not change is not announced again. Meanwhile it stays as it was.
/// - It is behind the store by as long as changes take to arrive, and during an outage for longer:
///   [`status`](Self::status) says so. [`wait_for`](Self::wait_for) and
///   [`get_linearizable`](Self::get_linearizable) wait until it is not.
/// - An error that may pass, permission that is denied among them, is shown and tried again, after pauses
///   that grow. A wrong password, an empty range and a closed client are final.
/// - Memory: the pairs, cut out of the messages they came with. While a list is merged, also those that
///   differ from the copy; for each subscriber that is behind, what it has that is not so any more.
pub struct Reflector<V = KeyValue>(Arc<Owner<V>>);

/// The task ends with this.
struct Owner<V> {
    client: Client,
    range: KeyRange,
    subscriber_changes: usize,
    shared: Arc<Shared<V>>,
    task: Option<JoinHandle<()>>,
}

impl<V: Pair> Reflector<V> {
    pub(super) fn start(options: ReflectBuilder<V>) -> Reflector<V> {
        let shared = Arc::new(Shared::new());
        let client = options.client.clone();
        let (range, subscriber_changes) = (options.range.clone(), options.subscriber_changes);
        let task = match Handle::try_current() {
            Ok(runtime) => Some(runtime.spawn(Task::new(options, shared.clone()).run())),
            Err(_) => {
                shared.end(Error::with(ErrorKind::Closed, "started outside of a runtime"));
                None
            }
        };
        Reflector(Arc::new(Owner { client, range, subscriber_changes, shared, task }))
    }

    pub(super) fn shared(&self) -> &Shared<V> {
        &self.0.shared
    }

    /// What is copied.
    pub fn key_range(&self) -> &KeyRange {
        &self.0.range
    }

    /// Waits until the copy is complete for the first time.
    ///
    /// # Errors
    /// What keeps it from that, unless it may pass by itself: [`PermissionDenied`](ErrorKind::PermissionDenied)
    /// and others. The reflector goes on trying, if [`status`](Self::status) does not say that it has ended.
    /// Nothing here limits the time: without a server it waits.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn ready(&self) -> Result<()> {
        self.shared().until(|state, _| state.complete).await
    }

    /// Waits until the copy has everything up to a revision, such as that of a write. The server is asked
    /// how far it has delivered meanwhile, so that this takes no longer than it must when nothing changes in
    /// the range itself.
    ///
    /// A server that does not answer that in order (etcd before 3.4.25 and 3.5.8), and a proxy that does not
    /// pass it on, makes this wait until something changes in the range.
    ///
    /// # Errors
    /// As [`ready`](Self::ready). Nothing here limits the time.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn wait_for(&self, revision: Revision) -> Result<()> {
        let shared = self.shared();
        let _waiting = shared.demand.wait_for(revision);
        shared.until(|state, _| state.complete && state.revision >= revision).await
    }

    /// One key, as the copy has it.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Arc<V>> {
        self.shared().read().get(key.as_ref()).cloned()
    }

    /// One key, as it is now or later: what any write that was answered before this call left there. The
    /// server is asked for the revision only, not for the value; the answer is the copy's, once that has
    /// caught up.
    ///
    /// # Errors
    /// Those of a [read](crate::Get). [`InvalidArgument`](ErrorKind::InvalidArgument) for a key outside of
    /// the range. [`DeadlineExceeded`](ErrorKind::DeadlineExceeded) if the copy has not caught up within the
    /// client's call timeout. As [`ready`](Self::ready).
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn get_linearizable(&self, key: impl Into<Bytes>) -> Result<Option<Arc<V>>> {
        let key = key.into();
        if !self.0.range.contains(&key) {
            return Err(Error::with(ErrorKind::InvalidArgument, "the key is not in the range of the copy"));
        }
        let now = self.0.client.list(KeyRange::key(key.clone())).keys_only().await?;
        let modified = now.pairs().first().map(KeyValue::mod_revision);
        let caught_up = self.caught_up(&key, modified, now.revision());
        match self.0.client.core().call_timeout {
            None => caught_up.await?,
            Some(timeout) => match tokio::time::timeout(timeout, caught_up).await {
                Ok(caught_up) => caught_up?,
                Err(_) => {
                    let text = format!("the copy has not reached revision {}", now.revision());
                    return Err(Error::with(ErrorKind::DeadlineExceeded, text));
                }
            },
        }
        Ok(self.get(&key))
    }

    /// Waits until the copy has of `key` what was read at `revision`, or something newer. Often that is so
    /// before the copy has everything up to that revision.
    async fn caught_up(&self, key: &Bytes, modified: Option<Revision>, revision: Revision) -> Result<()> {
        let shared = self.shared();
        let same = |store: &Store<V>| {
            let mine = store.slot(key).map(|slot: &Slot<V>| slot.pair().mod_revision());
            mine == modified || mine > Some(revision)
        };
        let _waiting = shared.demand.wait_for(revision);
        shared.until(|state, store| state.complete && (store.revision() >= revision || same(store))).await
    }

    /// What lies between two keys, as the copy has it: all of it is of one revision.
    ///
    /// ```no_run
    /// # fn example(services: stentor_client::Reflector) {
    /// let some = services.range("/svc/a".."/svc/m");
    /// # }
    /// ```
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Vec<Arc<V>> {
        self.shared().read().range(&range).cloned().collect()
    }

    /// What begins with these bytes, as the copy has it: all of it is of one revision.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Vec<Arc<V>> {
        let prefix = prefix.as_ref();
        let store = self.shared().read();
        let from = prefix..;
        let below = store.range(&from).take_while(|value| value.pair().key().starts_with(prefix));
        below.cloned().collect()
    }

    /// All of it, as of one revision. The values are shared; what is copied is one pointer for each.
    pub fn snapshot(&self) -> Snapshot<V> {
        self.shared().read().snapshot()
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.shared().read().len()
    }

    /// It has no key. So it is before it is complete; see [`ready`](Self::ready).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the copy is of; [`Revision::ZERO`] until it is complete for the first time.
    pub fn revision(&self) -> Revision {
        self.shared().read().revision()
    }

    /// How it is doing.
    pub fn status(&self) -> ReflectorStatus {
        let now = Instant::now();
        self.shared().with_state(|state| state.status(now))
    }

    /// The pairs that are not in the copy because they cannot be decoded, in the order of keys.
    pub fn undecodable(&self) -> Vec<Arc<Undecodable>> {
        self.shared().read().undecodable()
    }

    /// What there is, and every change after it: none is missed in between, and none comes that is in the
    /// snapshot already. Before the copy is complete the snapshot is empty, and all there is comes as the
    /// first change.
    pub fn subscribe(&self) -> (Snapshot<V>, Subscription<V>) {
        let (id, snapshot) = self.shared().write().subscribe(self.0.subscriber_changes);
        (snapshot, Subscription::new(id, self.clone()))
    }
}

impl<V> Drop for Owner<V> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl<V> Clone for Reflector<V> {
    fn clone(&self) -> Self {
        Reflector(self.0.clone())
    }
}

impl<V: Pair> fmt::Debug for Reflector<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reflector").field("range", &self.0.range).field("status", &self.status()).finish()
    }
}
