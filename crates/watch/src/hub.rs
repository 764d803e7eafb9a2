use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use stentor_mvcc::{Commit, Observer, Record, Store};
use stentor_proto::Revision;
use tokio::sync::watch;

use crate::chunk::Chunk;
use crate::counts::{Gauges, Totals};
use crate::history::History;
use crate::recent::{Previous, Recent};

/// How much a hub keeps in memory.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Bytes of recent commits.
    pub recent_bytes: usize,
    /// Bytes of history that was read for watchers behind them, shared between streams.
    pub cache_bytes: usize,
    /// Bytes that are read at a time; one revision is always read whole.
    pub chunk_bytes: usize,
}

impl Default for HubOptions {
    /// 8 MiB of each, read by 1 MiB.
    fn default() -> HubOptions {
        HubOptions { recent_bytes: 8 << 20, cache_bytes: 8 << 20, chunk_bytes: 1 << 20 }
    }
}

/// How far the store is, as its hub was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The newest revision.
    pub revision: Revision,
    /// The revision below which history is gone.
    pub compacted: Option<Revision>,
}

/// Follows a store for all its watchers: keeps the recent commits and wakes the streams.
pub struct Hub {
    history: Arc<dyn History>,
    /// Held by the writer to add a commit, by streams to take a bounded part: never while reading from
    /// disk.
    recent: RwLock<Recent>,
    /// Chunks in use or just used, the newest last: streams hold them only while they make a response.
    chunks: Mutex<VecDeque<Arc<Chunk>>>,
    tip: watch::Sender<Tip>,
    pub(crate) totals: Totals,
    options: HubOptions,
}

impl Hub {
    /// A hub that follows `store` from now on, for as long as it is held.
    pub fn follow(store: &Arc<Store>, options: HubOptions) -> Arc<Hub> {
        let tip = Tip { revision: Revision::ZERO, compacted: None };
        let hub = Hub::new(store.clone(), tip, options);
        let view = store.observe(&hub);
        // A commit may have come in already; it says more than the view does.
        hub.recent.write().begin_after(view.revision());
        hub.tip.send_if_modified(|tip| {
            let older = tip.revision < view.revision();
            if older {
                *tip = Tip { revision: view.revision(), compacted: view.compacted() };
            }
            older
        });
        hub
    }

    /// A hub over any history. Whoever writes tells it of each commit, through [`Observer`].
    pub fn new(history: Arc<dyn History>, tip: Tip, options: HubOptions) -> Arc<Hub> {
        let mut recent = Recent::new(options.recent_bytes);
        recent.begin_after(tip.revision);
        Arc::new(Hub {
            history,
            recent: RwLock::new(recent),
            chunks: Mutex::default(),
            tip: watch::Sender::new(tip),
            totals: Totals::default(),
            options,
        })
    }

    /// How far the store is.
    pub fn tip(&self) -> Tip {
        *self.tip.borrow()
    }

    /// Watchers by state, and bytes held.
    pub fn gauges(&self) -> Gauges {
        let cached: usize = self.chunks.lock().iter().map(|chunk| chunk.bytes()).sum();
        self.totals.gauges((self.recent.read().bytes() + cached) as u64)
    }

    pub(crate) fn history(&self) -> Arc<dyn History> {
        self.history.clone()
    }

    pub(crate) fn chunk_bytes(&self) -> usize {
        self.options.chunk_bytes
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Tip> {
        self.tip.subscribe()
    }

    /// A chunk with this revision in it, if that takes no reading from disk.
    pub(crate) fn chunk_in_memory(&self, revision: Revision) -> Option<Arc<Chunk>> {
        let newest = self.recent.read().newest();
        if let Some(chunk) = self.cached(revision, newest) {
            return Some(chunk);
        }
        let chunk = Arc::new(self.recent.read().chunk(revision, self.options.chunk_bytes)?);
        self.cache(&chunk);
        Some(chunk)
    }

    /// The cached chunk that goes on furthest from `revision`. One that ends there while the store has
    /// gone on is left alone: the commits in memory may give more.
    fn cached(&self, revision: Revision, newest: Revision) -> Option<Arc<Chunk>> {
        let chunks = self.chunks.lock();
        let found = chunks.iter().filter(|chunk| chunk.covers(revision)).max_by_key(|chunk| chunk.to)?;
        let worth = found.to > revision || found.to == newest || revision < self.recent.read().oldest();
        worth.then(|| found.clone())
    }

    /// Keeps a chunk for others, within the bound.
    pub(crate) fn cache(&self, chunk: &Arc<Chunk>) {
        let mut chunks = self.chunks.lock();
        chunks.push_back(chunk.clone());
        let mut bytes: usize = chunks.iter().map(|chunk| chunk.bytes()).sum();
        while bytes > self.options.cache_bytes || chunks.len() > 64 {
            let Some(gone) = chunks.pop_front() else { break };
            bytes -= gone.bytes();
        }
    }

    /// Every change from this revision on is in memory.
    pub(crate) fn oldest_in_memory(&self) -> Revision {
        self.recent.read().oldest()
    }

    pub(crate) fn previous_in_memory(&self, record: &Record) -> Previous {
        self.recent.read().previous(record)
    }
}

impl Observer for Hub {
    fn committed(&self, commit: &Commit) {
        let follows = self.recent.write().push(commit);
        if !follows {
            self.chunks.lock().clear();
        }
        self.tip.send_replace(Tip { revision: commit.revision, compacted: commit.compacted });
    }
}
