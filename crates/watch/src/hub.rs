use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use stentor_mvcc::{Commit, Observer, Record, Store};
use stentor_proto::Revision;

use crate::chunk::{Builder, Chunk};
use crate::counts::{Canceled, Gauges, Sent, Totals};
use crate::filter::{Filter, StreamId};
use crate::history::History;
use crate::recent::{Follows, Previous, Recent};
use crate::report::OpenStream;
use crate::stream::Shared;
use crate::sync::{AtomicI64, Mutex, RwLock};
use crate::wakes::Wakes;

/// A single commit of this many bytes is not joined with others.
const LARGE_BYTES: usize = 32 << 10;

/// The least that is read at a time, in bytes.
const MIN_CHUNK_BYTES: usize = 64 << 10;

/// Chunks kept, at most.
const MAX_CHUNKS: usize = 256;

/// How much a hub keeps in memory.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Bytes of recent commits.
    pub recent_bytes: usize,
    /// Bytes of history that was read for watchers behind them, shared between streams.
    pub cache_bytes: usize,
    /// Bytes that are read at a time, less if many streams read; one revision is always read whole.
    pub chunk_bytes: usize,
}

impl Default for HubOptions {
    /// 16 MiB of each, read by 1 MiB.
    fn default() -> HubOptions {
        HubOptions { recent_bytes: 16 << 20, cache_bytes: 16 << 20, chunk_bytes: 1 << 20 }
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

/// Follows a store for all its watchers: keeps the recent commits and wakes the streams that a commit
/// concerns.
pub struct Hub {
    history: Arc<dyn History>,
    /// Held by the writer to add a commit, by streams to take some out: never while reading from disk, nor
    /// while encoding.
    recent: RwLock<Recent>,
    /// Chunks in use or just used, the last used last: streams hold them only while they fill an outbox.
    chunks: Mutex<VecDeque<Arc<Chunk>>>,
    filter: Filter,
    streams: RwLock<OpenStreams>,
    /// The newest revision of a commit that is being told of, or was. Never below `tip`.
    announced: AtomicI64,
    /// The newest revision that every stream it concerns was told of.
    tip: AtomicI64,
    /// -1 if history is whole.
    compacted: AtomicI64,
    alarms: Alarms,
    wakes: Wakes,
    /// Streams with watchers that read what they missed.
    pub(crate) readers: AtomicUsize,
    pub(crate) totals: Totals,
    options: HubOptions,
}

/// The open streams, by their number.
#[derive(Default)]
struct OpenStreams {
    all: Vec<Option<Arc<Shared>>>,
    free: Vec<u32>,
}

impl OpenStreams {
    fn get(&self, id: StreamId) -> Option<&Arc<Shared>> {
        self.all.get(id.0 as usize)?.as_ref()
    }
}

/// Streams that want to be woken when the store is at a revision, whatever happens in it.
struct Alarms {
    /// The first revision; `i64::MAX` if there is none.
    first: AtomicI64,
    all: Mutex<BTreeMap<(Revision, StreamId), ()>>,
}

impl Hub {
    /// A hub that follows `store` from now on, for as long as it is held.
    pub fn follow(store: &Arc<Store>, options: HubOptions) -> Arc<Hub> {
        let tip = Tip { revision: Revision::ZERO, compacted: None };
        let hub = Hub::new(store.clone(), tip, options);
        let view = store.observe(&hub);
        // A commit may have come in already; it says more than the view does.
        hub.recent.write().begin_after(view.revision());
        let at = view.revision().get();
        if hub.tip.load(Ordering::SeqCst) < at {
            hub.compacted.store(view.compacted().map_or(-1, Revision::get), Ordering::SeqCst);
            hub.announced.fetch_max(at, Ordering::SeqCst);
            hub.tip.fetch_max(at, Ordering::SeqCst);
        }
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
            filter: Filter::default(),
            streams: RwLock::default(),
            announced: AtomicI64::new(tip.revision.get()),
            tip: AtomicI64::new(tip.revision.get()),
            compacted: AtomicI64::new(tip.compacted.map_or(-1, Revision::get)),
            alarms: Alarms { first: AtomicI64::new(i64::MAX), all: Mutex::default() },
            wakes: Wakes::default(),
            readers: AtomicUsize::new(0),
            totals: Totals::default(),
            options,
        })
    }

    /// How far the store is.
    pub fn tip(&self) -> Tip {
        Tip { revision: self.revision(), compacted: Revision::new(self.compacted.load(Ordering::SeqCst)) }
    }

    /// The newest revision.
    pub(crate) fn revision(&self) -> Revision {
        Revision::new(self.tip.load(Ordering::SeqCst)).unwrap_or_default()
    }

    /// Watchers by state, and bytes held; looks at each stream.
    pub fn gauges(&self) -> Gauges {
        let cached: usize = self.chunks.lock().iter().map(|chunk| chunk.bytes()).sum();
        let bytes = (self.recent.read().bytes() + cached) as u64;
        let mut gauges = Gauges { bytes, ..Gauges::default() };
        for stream in self.streams() {
            let report = stream.report();
            gauges.streams += 1;
            gauges.synced += report.synced;
            gauges.unsynced += report.unsynced;
            gauges.victims += report.victims;
        }
        gauges
    }

    /// What was sent on all streams, those closed included.
    pub fn sent(&self) -> Sent {
        self.totals.sent()
    }

    /// How many watchers were cancelled, and why.
    pub fn canceled(&self) -> Canceled {
        self.totals.canceled()
    }

    /// Every open stream, to be looked at from outside.
    pub fn streams(&self) -> Vec<OpenStream> {
        self.streams.read().all.iter().flatten().cloned().map(OpenStream).collect()
    }

    pub(crate) fn open(&self, make: impl FnOnce(StreamId, u64) -> Arc<Shared>) -> Arc<Shared> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let mut streams = self.streams.write();
        let id = streams.free.pop().unwrap_or(streams.all.len() as u32);
        let stream = make(StreamId(id), serial);
        match streams.all.get_mut(id as usize) {
            Some(place) => *place = Some(stream.clone()),
            None => streams.all.push(Some(stream.clone())),
        }
        stream
    }

    /// Forgets a stream that has taken all it had out of the filter.
    pub(crate) fn close(&self, id: StreamId) {
        self.alarms.all.lock().retain(|(_, stream), ()| *stream != id);
        let mut streams = self.streams.write();
        if let Some(place) = streams.all.get_mut(id.0 as usize) {
            *place = None;
            streams.free.push(id.0);
        }
    }

    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// After a range was added to the filter: the stream is told of every change in it above this
    /// revision. Those up to here are committed; some of them it may not have been told of.
    pub(crate) fn announced(&self) -> Revision {
        Revision::new(self.announced.load(Ordering::SeqCst)).unwrap_or_default()
    }

    /// Wakes the stream when the store has reached `revision`.
    pub(crate) fn wake_at(&self, stream: &Shared, revision: Revision) {
        let mut all = self.alarms.all.lock();
        all.insert((revision, stream.id), ());
        self.alarms.first.fetch_min(revision.get(), Ordering::SeqCst);
        drop(all);
        if revision <= self.revision() {
            stream.inbox.look();
            stream.inbox.wake();
        }
    }

    fn ring_alarms(&self, tip: Revision) {
        if self.alarms.first.load(Ordering::SeqCst) > tip.get() {
            return;
        }
        let mut all = self.alarms.all.lock();
        let later = all.split_off(&(tip.next(), StreamId(0)));
        let due = std::mem::replace(&mut *all, later);
        let first = all.first_key_value().map_or(i64::MAX, |((revision, _), ())| revision.get());
        self.alarms.first.store(first, Ordering::SeqCst);
        drop(all);
        let streams = self.streams.read();
        for stream in due.keys().filter_map(|(_, id)| streams.get(*id)) {
            stream.inbox.look();
            stream.inbox.wake();
        }
    }

    /// Wakes streams in the place of the thread that writes, as long as it is polled. Run it as a task where
    /// the streams run: there a wake costs a tenth of what it costs from outside.
    pub async fn wake_streams(self: Arc<Hub>) {
        let task = WakeTask(self);
        task.0.wakes.begin();
        loop {
            let told = task.0.wakes.next().await;
            task.0.wake(&told);
        }
    }

    fn wake(&self, told: &[StreamId]) {
        let streams = self.streams.read();
        told.iter().filter_map(|id| streams.get(*id)).for_each(|stream| stream.inbox.wake());
    }

    pub(crate) fn history(&self) -> Arc<dyn History> {
        self.history.clone()
    }

    /// How much to read at a time: so that what all readers use fits in memory.
    pub(crate) fn chunk_bytes(&self) -> usize {
        let share = self.options.cache_bytes / (2 * self.readers.load(Ordering::Relaxed).max(1));
        share.max(MIN_CHUNK_BYTES).min(self.options.chunk_bytes)
    }

    /// A chunk with this revision in it, if that takes no reading from disk.
    pub(crate) fn chunk_in_memory(&self, revision: Revision) -> Option<Arc<Chunk>> {
        let (alone, oldest, newest) = {
            let recent = self.recent.read();
            (recent.alone(revision, LARGE_BYTES), recent.oldest(), recent.newest())
        };
        if alone.is_some() {
            return alone;
        }
        if let Some(chunk) = self.cached(revision, oldest, newest) {
            return Some(chunk);
        }
        let chunk = self.join_commits(revision)?;
        self.cache(&chunk);
        Some(chunk)
    }

    /// Commits from `revision` on, as one chunk.
    fn join_commits(&self, revision: Revision) -> Option<Arc<Chunk>> {
        let mut builder = Builder::new(revision, self.chunk_bytes());
        let mut complete = None;
        loop {
            let from = complete.map_or(revision, Revision::next);
            let Some(commits) = self.recent.read().commits(from) else { break };
            let Some(last) = commits.last().map(|chunk| chunk.to) else { break };
            for record in commits.iter().flat_map(|chunk| chunk.stretch(from, last)) {
                if !builder.push(record.clone()) {
                    return Some(Arc::new(builder.finish(last)));
                }
            }
            complete = Some(last);
        }
        Some(Arc::new(builder.finish(complete?)))
    }

    /// The cached chunk that goes on furthest from `revision`. One that ends there while the store has
    /// gone on is left alone: the commits in memory may give more.
    fn cached(&self, revision: Revision, oldest: Revision, newest: Revision) -> Option<Arc<Chunk>> {
        let mut chunks = self.chunks.lock();
        let covering = chunks.iter().enumerate().filter(|(_, chunk)| chunk.covers(revision));
        let (at, found) = covering.max_by_key(|(_, chunk)| chunk.to)?;
        let worth = found.to > revision || found.to == newest || revision < oldest;
        let found = worth.then(|| found.clone())?;
        // Used last, so forgotten last.
        if let Some(chunk) = chunks.remove(at) {
            chunks.push_back(chunk);
        }
        Some(found)
    }

    /// Keeps a chunk for others, within the bound.
    pub(crate) fn cache(&self, chunk: &Arc<Chunk>) {
        let mut chunks = self.chunks.lock();
        chunks.push_back(chunk.clone());
        let mut bytes: usize = chunks.iter().map(|chunk| chunk.bytes()).sum();
        while bytes > self.options.cache_bytes || chunks.len() > MAX_CHUNKS {
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

    /// Tells the streams that the commit concerns, before they can see its revision.
    fn tell(&self, commit: &Commit, streams: &OpenStreams) -> Vec<StreamId> {
        let mut told = Vec::new();
        for record in &*commit.records {
            let revision = record.id.revision;
            self.filter.concerned(record.key(), |id| {
                if let Some(stream) = streams.get(id) {
                    stream.inbox.tell(revision, record.time_unix_ms);
                    told.push(id);
                }
            });
        }
        if told.len() > 1 {
            told.sort_unstable();
            told.dedup();
        }
        told
    }
}

/// What [`Hub::wake_streams`] does; its end, whenever that comes, leaves nobody asleep.
struct WakeTask(Arc<Hub>);

impl Drop for WakeTask {
    fn drop(&mut self) {
        let told = self.0.wakes.end();
        self.0.wake(&told);
    }
}

impl Observer for Hub {
    fn committed(&self, commit: &Commit) {
        let follows = self.recent.write().push(commit);
        self.announced.store(commit.revision.get(), Ordering::SeqCst);
        let streams = self.streams.read();
        let told = self.tell(commit, &streams);
        let compacted = commit.compacted.map_or(-1, Revision::get);
        let everyone = follows != Follows::Upon || self.compacted.load(Ordering::SeqCst) != compacted;
        if let Follows::After(last) = follows {
            self.chunks.lock().clear();
            let unix_ms = commit.records.first().map_or(0, |record| record.time_unix_ms);
            for stream in streams.all.iter().flatten() {
                stream.inbox.tell_all(last.next(), commit.revision, unix_ms);
            }
        }
        self.compacted.store(compacted, Ordering::SeqCst);
        self.tip.store(commit.revision.get(), Ordering::SeqCst);
        if everyone {
            for stream in streams.all.iter().flatten() {
                stream.inbox.look();
                stream.inbox.wake();
            }
        }
        drop(streams);
        if !everyone {
            self.wakes.add(told);
        }
        self.ring_alarms(commit.revision);
    }

    fn answered(&self) {
        let told = self.wakes.release();
        if !told.is_empty() {
            self.wake(&told);
        }
    }
}
