//! A store, members that lag behind it and a stream to one of them, as a test moves them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use stentor_proto::KeyRange as Interval;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use stentor_proto::mvccpb::{Event, KeyValue};

use crate::random::Random;
use crate::watch::resume::ServerVersion;

pub(super) const KEYS: [&str; 6] = ["a", "a/1", "a-b", "b", "b/2", "denied"];

/// What the user may neither read nor watch.
pub(super) const DENIED: &str = "denied";

/// The store: the keys that each revision changed. Index 0 is revision 0, which changed nothing.
#[derive(Clone)]
pub(super) struct Store {
    pub(super) cluster: u64,
    log: Vec<Revision>,
    pub(super) compacted: i64,
    /// Goes into every value: what follows in a store that was restored differs from what was.
    history: u32,
}

#[derive(Clone)]
struct Revision {
    history: u32,
    keys: Vec<&'static str>,
}

impl Store {
    pub(super) fn new() -> Store {
        let empty = Revision { history: 0, keys: Vec::new() };
        Store { cluster: 1, log: vec![empty.clone(), empty], compacted: 0, history: 0 }
    }

    pub(super) fn current(&self) -> i64 {
        self.log.len() as i64 - 1
    }

    pub(super) fn write(&mut self, random: &mut Random) {
        let keys = (0..1 + random.next() % 3).map(|_| KEYS[(random.next() % KEYS.len() as u64) as usize]);
        let mut keys: Vec<_> = keys.collect();
        keys.sort_unstable();
        keys.dedup();
        self.log.push(Revision { history: self.history, keys });
    }

    /// As it was some time ago, and from now on on its own way.
    pub(super) fn restored(&self) -> Store {
        let mut restored = self.clone();
        restored.log.truncate((self.current() / 2).max(2) as usize);
        restored.compacted = self.compacted.min(restored.current());
        restored.history += 1;
        restored
    }

    pub(super) fn events(&self, interval: &Interval, revision: i64) -> Vec<Event> {
        let Some(Revision { history, keys }) = self.log.get(revision as usize) else { return Vec::new() };
        let keys = keys.iter().filter(|key| interval.contains(key.as_bytes()));
        keys.map(|key| event(key, revision, *history)).collect()
    }
}

fn event(key: &'static str, revision: i64, history: u32) -> Event {
    let value = format!("{revision} of {history}");
    let kv = KeyValue { key: key.into(), mod_revision: revision, value: value.into(), ..KeyValue::default() };
    Event { kv: Some(kv), ..Event::default() }
}

/// The server's end of a stream.
pub(super) struct Stream {
    version: Option<ServerVersion>,
    /// How far the member has applied the log.
    pub(super) applied: i64,
    /// Its token is still good.
    pub(super) token_good: bool,
    /// Whatever is sent never arrives.
    pub(super) dead: bool,
    watchers: BTreeMap<i64, ServerWatcher>,
    ids: i64,
    /// On its way to the client.
    pub(super) out: VecDeque<WatchResponse>,
    /// An unanswered request for progress.
    asked: bool,
}

struct ServerWatcher {
    interval: Interval,
    next: i64,
    fragment: bool,
}

impl Stream {
    pub(super) fn new(version: Option<ServerVersion>, applied: i64) -> Stream {
        let (watchers, out) = (BTreeMap::new(), VecDeque::new());
        Stream { version, applied, token_good: true, dead: false, watchers, ids: 0, out, asked: false }
    }

    fn header(&self, store: &Store) -> Option<ResponseHeader> {
        Some(ResponseHeader { cluster_id: store.cluster, revision: self.applied, ..ResponseHeader::default() })
    }

    pub(super) fn watchers(&self) -> usize {
        self.watchers.len()
    }

    pub(super) fn request(&mut self, store: &Store, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(store, create),
            Some(RequestUnion::CancelRequest(cancel)) => {
                if self.watchers.remove(&cancel.watch_id).is_some() {
                    let header = self.header(store);
                    self.out.push_back(WatchResponse { header, canceled: true, ..empty(cancel.watch_id) });
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => self.asked = true,
            None => panic!("the client sent nothing"),
        }
    }

    fn create(&mut self, store: &Store, create: WatchCreateRequest) {
        assert!(create.start_revision > 0, "the client leaves the start to the server");
        let header = self.header(store);
        let denied = create.key == DENIED || !self.token_good;
        let interval = Interval::from_wire(create.key, create.range_end);
        if denied || interval.is_empty() {
            let reason = if denied { "etcdserver: permission denied" } else { "mvcc: watcher range is empty" };
            let cancel_reason = reason.to_owned();
            self.out.push_back(WatchResponse { header, created: true, canceled: true, cancel_reason, ..empty(-1) });
            return;
        }
        let id = self.ids;
        self.ids += 1;
        self.out.push_back(WatchResponse { header, created: true, ..empty(id) });
        if create.start_revision < store.compacted {
            self.compacted(store, id);
            return;
        }
        let watcher = ServerWatcher { interval, next: create.start_revision, fragment: create.fragment };
        self.watchers.insert(id, watcher);
    }

    fn compacted(&mut self, store: &Store, id: i64) {
        self.out.push_back(WatchResponse { canceled: true, compact_revision: store.compacted, ..empty(id) });
    }

    /// Delivers some revisions to one watcher, in parts if it may and likes to.
    pub(super) fn deliver(&mut self, store: &Store, random: &mut Random) {
        let chosen = (random.next() % self.watchers.len().max(1) as u64) as usize;
        let header = self.header(store);
        let Some((&id, watcher)) = self.watchers.iter_mut().nth(chosen) else { return };
        if watcher.next < store.compacted {
            self.watchers.remove(&id);
            return self.compacted(store, id);
        }
        let until = self.applied.min(watcher.next + (random.next() % 4) as i64);
        let events: Vec<_> = (watcher.next..=until).flat_map(|at| store.events(&watcher.interval, at)).collect();
        watcher.next = watcher.next.max(until + 1);
        let in_parts = watcher.fragment && random.next().is_multiple_of(2);
        // The header is ahead of what is delivered, as etcd's is.
        let part = if in_parts { 1 } else { events.len().max(1) };
        let parts: Vec<_> = events.chunks(part).map(<[Event]>::to_vec).collect();
        let count = parts.len();
        for (i, events) in parts.into_iter().enumerate() {
            self.out.push_back(WatchResponse { header, events, fragment: i + 1 < count, ..empty(id) });
        }
    }

    /// Answers a request for progress, if there is one and it can be. An old server does so ahead of events.
    pub(super) fn answer_progress(&mut self, store: &Store) {
        let honest = self.version.is_some_and(ServerVersion::answers_progress_in_order);
        let due = self.watchers.values().all(|watcher| watcher.next == self.applied + 1);
        if self.asked && !self.watchers.is_empty() && (due || !honest) {
            self.asked = false;
            let header = self.header(store);
            self.out.push_back(WatchResponse { header, ..empty(-1) });
        }
    }

    /// The server's own note for a watcher that has everything.
    pub(super) fn note(&mut self, store: &Store) {
        let synced = self.watchers.iter().find(|(_, watcher)| watcher.next == self.applied + 1);
        if let Some((&id, _)) = synced {
            let header = self.header(store);
            self.out.push_back(WatchResponse { header, ..empty(id) });
        }
    }

    /// Sends once more what a watcher has had, as a member does that was behind.
    pub(super) fn repeat(&mut self, store: &Store) {
        if let Some((&id, watcher)) = self.watchers.iter().next() {
            let from = (watcher.next - 3).max(1);
            let events: Vec<_> = (from..watcher.next).flat_map(|at| store.events(&watcher.interval, at)).collect();
            if !events.is_empty() {
                let header = self.header(store);
                self.out.push_back(WatchResponse { header, events, ..empty(id) });
            }
        }
    }

    /// Catches up with the store. True as long as a watcher is behind.
    pub(super) fn catch_up(&mut self, store: &Store) -> bool {
        self.applied = store.current();
        self.watchers.values().any(|watcher| watcher.next <= store.current())
    }
}

fn empty(watch_id: i64) -> WatchResponse {
    WatchResponse { watch_id, ..WatchResponse::default() }
}

/// Whether the user may read a key.
pub(super) fn may_read(key: &Bytes) -> bool {
    key != DENIED
}
