use std::sync::Arc;

use stentor_proto::Revision;

use crate::Record;

/// What a group of log entries changed, as those who follow the store learn of it: after it is durable
/// (or the log is) and published, in order, each exactly once.
///
/// ```
/// use stentor_mvcc::{Commit, Observer};
/// struct Printer;
/// impl Observer for Printer {
///     fn committed(&self, commit: &Commit) {
///         for record in commit.records.iter() {
///             println!("{} of {}: {:?}", record.id, commit.revision, record.kind);
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Commit {
    /// The changes, in order; empty if no revision was made.
    pub records: Arc<[Record]>,
    /// The newest revision.
    pub revision: Revision,
    /// The revision below which history is gone.
    pub compacted: Option<Revision>,
}

/// Someone who follows the store.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use stentor_mvcc::{Commit, Observer, Store, engine::memory};
/// use stentor_proto::etcdserverpb::PutRequest;
///
/// #[derive(Default)]
/// struct Counter(AtomicUsize);
/// impl Observer for Counter {
///     fn committed(&self, commit: &Commit) {
///         self.0.fetch_add(commit.records.len(), Ordering::Relaxed);
///     }
/// }
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// let counter = Arc::new(Counter::default());
/// store.observe(&counter);
/// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
/// assert_eq!(counter.0.load(Ordering::Relaxed), 1);
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
pub trait Observer: Send + Sync {
    /// Called after each group, in order, by the thread that writes: it must not block, nor write to the
    /// store.
    fn committed(&self, commit: &Commit);

    /// Called after those who wrote the group were answered, by the same thread: what may wait for them, such
    /// as waking others who then want the processor too. It may be called when nothing was committed.
    fn answered(&self) {}
}
