//! What came on a stream, checked as it comes: what holds on every stream, whatever a test is about.

use std::collections::{BTreeMap, VecDeque};

use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use stentor_proto::mvccpb::Event;
use stentor_proto::mvccpb::event::EventType;

/// The id of responses that are for no watcher, or for all.
pub(crate) const NOBODY: i64 = -1;

/// All that came for one watcher.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) request: WatchCreateRequest,
    /// The header's revision of the answer to its create.
    pub(crate) created_at: i64,
    pub(crate) events: Vec<Event>,
    /// The revisions of its responses' headers.
    pub(crate) headers: Vec<i64>,
    /// The highest progress note, its own or of the stream; 0 before.
    pub(crate) noted: i64,
    /// Once it is cancelled.
    pub(crate) cancel: Option<WatchResponse>,
}

impl Seen {
    /// The first revision that it can get.
    pub(crate) fn start(&self) -> i64 {
        if self.request.start_revision == 0 { self.created_at + 1 } else { self.request.start_revision }
    }

    pub(crate) fn last(&self) -> i64 {
        self.events.last().map_or(0, revision_of)
    }

    pub(crate) fn revisions(&self) -> Vec<i64> {
        self.events.iter().map(revision_of).collect()
    }

    /// W6 and W11: a note tells nothing that is not so.
    fn note(&mut self, revision: i64) {
        assert!(revision >= self.last(), "a note at {revision} after an event at {}", self.last());
        // With a start of 0 nothing is owed up to the created revision itself.
        let least = if self.request.start_revision == 0 { self.created_at } else { self.start() };
        assert!(revision >= least, "a note at {revision}, below the start at {least}");
        self.noted = self.noted.max(revision);
    }

    /// W1, W4, W7, W8 and W11, as far as events can show them by themselves.
    fn take(&mut self, response: &WatchResponse, continued: bool) {
        let mut before = self.last();
        for (at, event) in response.events.iter().enumerate() {
            let revision = revision_of(event);
            let same = at > 0 || continued;
            assert!(revision > before || same && revision == before, "revision {revision} after {before}");
            assert!(revision >= self.start(), "revision {revision}, below the start at {}", self.start());
            assert!(revision > self.noted, "revision {revision} after a note at {}", self.noted);
            assert!(self.matches(event), "{event:?} for {:?}", self.request);
            let creation = is_put(event) && event.kv.as_ref().is_some_and(|kv| kv.create_revision == kv.mod_revision);
            let owed = self.request.prev_kv && !creation;
            assert_eq!(event.prev_kv.is_some(), owed, "previous value of {event:?}");
            before = revision;
        }
        let header = response.header.map_or(0, |h| h.revision);
        assert!(header >= before, "a header at {header} with an event at {before}");
        self.headers.push(header);
        self.events.extend(response.events.iter().cloned());
    }

    /// Whether an event is this watcher's: its range and its filters.
    fn matches(&self, event: &Event) -> bool {
        let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key);
        let least: &[u8] = if self.request.key.is_empty() { &[0] } else { &self.request.key };
        let inside = match &self.request.range_end[..] {
            [] => key == least,
            [0] => key >= least,
            end => key >= least && key < end,
        };
        inside && !self.request.filters.contains(&i32::from(!is_put(event)))
    }

    /// Of all events that there were, those that this watcher is owed.
    pub(crate) fn owed(&self, all: &[Event]) -> Vec<Event> {
        self.owed_from(all, self.start())
    }

    /// Of all events that there were, those that it would be owed with this start.
    pub(crate) fn owed_from(&self, all: &[Event], start: i64) -> Vec<Event> {
        let due = all.iter().filter(|event| revision_of(event) >= start && self.matches(event));
        let shown = due.map(|event| match self.request.prev_kv {
            true => event.clone(),
            false => Event { prev_kv: None, ..event.clone() },
        });
        shown.collect()
    }
}

/// All that came on one stream.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Sent and not answered; the answers come in order.
    creates: VecDeque<WatchCreateRequest>,
    pub(crate) watchers: BTreeMap<i64, Seen>,
    /// The watcher whose response goes on.
    fragment_of: Option<i64>,
    pub(crate) fragments: usize,
}

impl Ledger {
    pub(crate) fn sent(&mut self, request: &RequestUnion) {
        if let RequestUnion::CreateRequest(create) = request {
            self.creates.push_back(create.clone());
        }
    }

    pub(crate) fn took(&mut self, response: &WatchResponse) {
        let header = response.header.expect("every response has a header");
        assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0, "{header:?}");
        let id = response.watch_id;
        if let Some(open) = self.fragment_of {
            assert!(open == id && !response.events.is_empty(), "{response:?} between fragments of {open}");
        }
        assert!(!(response.created || response.canceled) || response.events.is_empty(), "{response:?}");
        if response.created {
            self.created(response);
        } else if response.canceled {
            let seen = self.watchers.get_mut(&id).expect("a cancel of one that was created");
            assert!(seen.cancel.is_none(), "watcher {id} is cancelled twice");
            seen.cancel = Some(response.clone());
        } else if response.events.is_empty() {
            self.noted(id, header.revision);
        } else {
            let seen = self.watchers.get_mut(&id).expect("events of one that was created");
            assert!(seen.cancel.is_none(), "events of watcher {id} after its cancel");
            assert!(!response.fragment || seen.request.fragment, "watcher {id} did not ask for fragments");
            seen.take(response, self.fragment_of == Some(id));
            self.fragment_of = response.fragment.then_some(id);
            self.fragments += usize::from(response.fragment);
        }
    }

    /// Whether the rest of a watcher's response has not come yet.
    pub(crate) fn is_amid_fragments_of(&self, id: i64) -> bool {
        self.fragment_of == Some(id)
    }

    fn created(&mut self, response: &WatchResponse) {
        let request = self.creates.pop_front().expect("an answer to a create");
        let id = response.watch_id;
        if response.canceled {
            assert_eq!(id, NOBODY, "a refusal carries nobody's id");
            return;
        }
        let created_at = response.header.map_or(0, |h| h.revision);
        let (events, headers) = (Vec::new(), Vec::new());
        let seen = Seen { request, created_at, events, headers, noted: 0, cancel: None };
        if let Some(before) = self.watchers.insert(id, seen) {
            assert!(before.cancel.is_some(), "id {id} was in use");
        }
    }

    fn noted(&mut self, id: i64, revision: i64) {
        if id != NOBODY {
            let seen = self.watchers.get_mut(&id).expect("a note for one that was created");
            assert!(seen.cancel.is_none() && seen.request.progress_notify, "a note for watcher {id}");
            return seen.note(revision);
        }
        self.watchers.values_mut().filter(|seen| seen.cancel.is_none()).for_each(|seen| seen.note(revision));
    }
}

pub(crate) fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

pub(crate) fn is_put(event: &Event) -> bool {
    event.r#type == i32::from(EventType::Put)
}
