//! What a watcher must receive, from its create and from history.

use bytes::Bytes;
use stentor_proto::etcdserverpb::WatchCreateRequest;
use stentor_proto::mvccpb::Event;
use stentor_proto::mvccpb::event::EventType;

use super::coverage::Coverage;
use super::differences::{Replay, may_miss};
use crate::peers::Version;
use crate::stream::revision_of;

/// A live watcher of a run.
pub(crate) struct Watcher {
    /// The number of its stream.
    pub(crate) stream: usize,
    /// Its id on the stream.
    pub(crate) id: i64,
    /// The first revision that it must receive.
    pub(crate) start: i64,
    /// The compacted revision when it was created.
    pub(crate) compacted_at_create: i64,
    /// Whether it began in the past and has not been seen to have caught up: a compaction may
    /// overtake it on one server and not on the other.
    pub(crate) behind: bool,
    /// Every event that is due so far.
    pub(crate) expected: Vec<Event>,
    /// For each side, how many of the due events and how many of those that came were compared.
    pub(crate) checked: [(usize, usize); 2],
    /// For each side, the due events that it may miss and had not sent when all before and none behind had
    /// come: it may send them yet.
    pub(crate) excused: [Vec<usize>; 2],
    /// For each event due, whether its key changes again in the same revision.
    changed_again: Vec<bool>,
    create: WatchCreateRequest,
    /// The store's revision when it was created.
    pub(crate) created_at: i64,
    /// How much of history `expected` covers.
    covered: usize,
}

impl Watcher {
    /// A watcher that was created with this id at this revision of the store.
    pub(crate) fn new(stream: usize, id: i64, create: WatchCreateRequest, revision: i64, compacted: i64) -> Watcher {
        let start = if create.start_revision == 0 { revision + 1 } else { create.start_revision };
        Watcher {
            stream,
            id,
            start,
            compacted_at_create: compacted,
            behind: start <= revision,
            expected: Vec::new(),
            checked: [(0, 0); 2],
            excused: [Vec::new(), Vec::new()],
            changed_again: Vec::new(),
            create,
            created_at: revision,
            covered: 0,
        }
    }

    /// Whether etcd tells no progress on its stream yet, for its start is not reached.
    pub(crate) fn waits(&self, revision: i64) -> bool {
        self.create.start_revision > revision
    }

    /// Takes from history what has become due, and counts of which kind it is.
    pub(crate) fn extend(&mut self, history: &[Event], coverage: &mut Coverage) {
        for (at, event) in history.iter().enumerate().skip(self.covered) {
            if self.matches(event) {
                let mut later = history.iter().skip(at + 1).take_while(|e| revision_of(e) == revision_of(event));
                let key = event.kv.as_ref().map(|pair| &pair.key);
                self.changed_again.push(later.any(|later| later.kv.as_ref().map(|pair| &pair.key) == key));
                let mut event = event.clone();
                if !self.create.prev_kv {
                    event.prev_kv = None;
                }
                self.count(&event, coverage);
                self.expected.push(event);
            }
        }
        self.covered = history.len();
    }

    fn count(&self, event: &Event, coverage: &mut Coverage) {
        coverage.add(if event.r#type == EventType::Put as i32 { "event put" } else { "event delete" });
        if event.prev_kv.is_some() {
            coverage.add("event with prev_kv");
        }
        if revision_of(event) <= self.created_at {
            coverage.add("event replayed");
        }
        if revision_of(event) == self.compacted_at_create {
            coverage.add("event replayed at the compacted revision");
        }
    }

    fn matches(&self, event: &Event) -> bool {
        let Some(pair) = &event.kv else { return false };
        let filter = if event.r#type == EventType::Put as i32 { 0 } else { 1 };
        revision_of(event) >= self.start && self.contains(&pair.key) && !self.create.filters.contains(&filter)
    }

    fn contains(&self, key: &Bytes) -> bool {
        // An empty key is the byte 0.
        let first: &[u8] = if self.create.key.is_empty() { b"\0" } else { &self.create.key };
        match &self.create.range_end[..] {
            b"" => key[..] == *first,
            b"\0" => key[..] >= *first,
            end => key[..] >= *first && key[..] < *end,
        }
    }

    /// The event of this number, as due on a server that has compacted this far.
    pub(crate) fn replay(&self, at: usize, compacted: i64) -> Option<Replay<'_>> {
        let expected = self.expected.get(at)?;
        let changed_again = self.changed_again.get(at).copied().unwrap_or_default();
        Some(Replay { expected, changed_again, compacted_at_create: self.compacted_at_create, compacted })
    }

    /// The last revision of which this server, compacted this far, must still send events, and how many of it.
    pub(crate) fn awaited(&self, side: usize, server: Version, compacted: i64) -> Option<(i64, usize)> {
        let (due, _) = self.checked[side];
        let is_certain =
            |at: &usize| self.replay(*at, compacted).is_some_and(|replay| may_miss(server, &replay).is_none());
        let certain = || (due..self.expected.len()).rev().filter(is_certain).filter_map(|at| self.expected.get(at));
        let last = revision_of(certain().next()?);
        Some((last, certain().take_while(|event| revision_of(event) == last).count()))
    }

    /// How many events at or below a revision must come at least, from this server, compacted this far.
    pub(crate) fn due_by(&self, revision: i64, server: Version, compacted: i64) -> usize {
        let due = self.expected.partition_point(|event| revision_of(event) <= revision);
        let may_miss =
            |at: &usize| self.replay(*at, compacted).is_some_and(|replay| may_miss(server, &replay).is_some());
        due - (0..due).filter(may_miss).count()
    }

    /// The watcher as a person reads it.
    pub(crate) fn show(&self) -> String {
        format!("watcher {} of stream {}, {:?}, due from revision {}", self.id, self.stream, self.create, self.start)
    }
}
