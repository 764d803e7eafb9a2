//! The watchers of one client.

mod answer;
mod behind;
mod group;
mod inside;
mod large;
mod notes;
mod requests;
mod serve;
mod watchers;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use prost::Message;
use stentor_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use stentor_proto::{EtcdError, Revision};

use crate::chunk::Chunk;
use crate::counts::Sent;
use crate::filter::StreamId;
use crate::hub::{Hub, Tip};
use crate::inbox::Inbox;
use crate::outbox::Outbox;
use crate::read::{ForWhom, Found, Read, ReadDone, ReadFailure, What};
use crate::span::Span;
use crate::sync::Mutex;
use crate::watcher::{Key, Place, Watcher};
use answer::Answer;
use behind::Behind;
use group::Group;
use large::Large;
use notes::Notes;
use serve::Served;
use watchers::Watchers;

/// Makes the header of a response at a revision.
pub type HeaderFn = Arc<dyn Fn(Revision) -> ResponseHeader + Send + Sync>;

/// What a stream needs to know of its server.
#[derive(Clone)]
pub struct StreamOptions {
    /// Fills cluster id, member id and term beside the revision. The same for a revision each time, as
    /// long as a stream is open.
    pub header: HeaderFn,
    /// A response for a watcher with `fragment` is split below this size, encoded, in bytes.
    pub fragment_bytes: usize,
    /// A response takes no further revision beyond this size, in bytes of events.
    pub response_bytes: usize,
    /// Whose the stream is: comes back in its reports.
    pub label: Option<Arc<str>>,
}

impl Default for StreamOptions {
    /// Headers with nothing but the revision; parts below 2 MiB, responses of about 32 KiB.
    fn default() -> StreamOptions {
        let header = |revision: Revision| ResponseHeader { revision: revision.get(), ..Default::default() };
        StreamOptions { header: Arc::new(header), fragment_bytes: 2 << 20, response_bytes: 32 << 10, label: None }
    }
}

/// What is next after a stream has filled an outbox.
#[must_use = "it says what the stream waits for"]
pub enum Next {
    /// The outbox has no room. Fill it again when it has.
    Full,
    /// Read this from history, then fill again.
    Read(Read),
    /// Nothing until a request, a tick, or [`WatchStream::changed`].
    Idle,
    /// The rest of a response of which a part was taken can't be had any more: compaction came between.
    /// The stream must end so that its client sees a break, resumes and is told.
    Broken,
}

/// The watchers of one client: a state machine without I/O.
///
/// Its caller hands it requests and, **when the client takes more**, an [`Outbox`] to fill. In between
/// nothing is held for a slow client but the cursors of its watchers, the answers to some requests, and at
/// most 40 KiB of a response of which it has taken a part.
pub struct WatchStream {
    shared: Arc<Shared>,
    hub: Arc<Hub>,
}

/// A stream as its hub knows it.
pub(crate) struct Shared {
    pub(crate) id: StreamId,
    serial: u64,
    pub(crate) inbox: Inbox,
    pub(crate) core: Mutex<Core>,
}

/// All but what the writing thread touches.
pub(crate) struct Core {
    hub: Arc<Hub>,
    options: StreamOptions,
    watchers: Watchers,
    next_id: i64,
    /// Ids that the client chose and the counter has not reached yet, cancelled ones too.
    chosen_ids: BTreeSet<i64>,
    /// To requests, and cancels of the stream's own; before everything but the rest of a response.
    answers: VecDeque<Answer>,
    /// The rest of a response that the outbox had no room for.
    rest: Rest,
    /// A response, maybe in fragments, that is too large to be encoded at once.
    large: Option<Box<Large>>,
    group: Group,
    behind: Behind,
    notes: Notes,
    /// A read is under way.
    reading: bool,
    broken: bool,
    /// The chunk in use; let go as soon as the outbox is full.
    held: Option<Arc<Chunk>>,
    /// At this tip history ended before it: there is nothing to do until the hub is told of more.
    ahead: Option<Tip>,
    /// The tip at the last step.
    seen: Tip,
    /// The header of the last response, encoded, by its revision.
    header: (Revision, Vec<u8>),
    /// What the last watcher was served: the next one often gets the same.
    served: Served,
    /// It counts among the hub's readers.
    is_reader: bool,
    sent: Sent,
    reported: Sent,
}

/// Bytes of a response that were not taken yet.
#[derive(Default)]
struct Rest {
    bytes: Vec<u8>,
    taken: usize,
}

impl Rest {
    fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Hands on what there is room for.
    fn pump(&mut self, out: &mut dyn Outbox) {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let now = rest.get(..out.room().min(rest.len())).unwrap_or_default();
        out.put(now);
        self.taken += now.len();
        if self.len() == 0 {
            *self = Rest::default();
        }
    }
}

/// What a piece of work came to.
enum Work {
    /// There was none.
    None,
    /// Some is done; look again.
    Done,
    /// This is to be read first.
    Read(Read),
}

impl WatchStream {
    /// A stream without watchers.
    pub fn open(hub: &Arc<Hub>, options: StreamOptions) -> WatchStream {
        let tip = hub.tip();
        let shared = hub.open(|id, serial| {
            let core = Mutex::new(Core::new(hub, options, tip));
            Arc::new(Shared { id, serial, inbox: Inbox::default(), core })
        });
        WatchStream { shared, hub: hub.clone() }
    }

    /// Whether requests should be handed in: not while many answers wait for room, so that a client that
    /// asks and does not read is not answered into memory.
    pub fn accepts_requests(&self) -> bool {
        self.shared.core.lock().accepts_requests()
    }

    /// Takes any request; `permitted` says whether whoever asks may watch the range of a create.
    pub fn request(
        &mut self,
        request: WatchRequest,
        permitted: impl FnOnce(&WatchCreateRequest) -> Result<(), EtcdError>,
    ) {
        self.shared.core.lock().request(&self.shared, request, permitted);
    }

    /// Creates a watcher, or refuses to; either is answered. `permitted` is the outcome of testing the
    /// range as sent against the caller's permissions.
    pub fn create(&mut self, request: WatchCreateRequest, permitted: Result<(), EtcdError>) {
        self.shared.core.lock().create(&self.shared, &request, permitted);
    }

    /// Cancels a watcher, which is answered; one that is not there is not.
    pub fn cancel(&mut self, id: i64) {
        self.shared.core.lock().cancel(&self.shared, id);
    }

    /// Asks for one note for all watchers of the stream. It comes as soon as all of them are synced, and
    /// at once if they are; with no watcher, never.
    pub fn request_progress(&mut self) {
        self.shared.core.lock().request_progress();
    }

    /// Whether [`WatchStream::tick`] has anybody to tell.
    pub fn wants_ticks(&self) -> bool {
        self.shared.core.lock().wants_ticks()
    }

    /// The interval of `--watch-progress-notify-interval` is over: synced watchers with progress_notify
    /// that got no event meanwhile get a note.
    pub fn tick(&mut self) {
        self.shared.core.lock().tick();
    }

    /// The server is about to stop: synced watchers with progress_notify get a last note, so that they
    /// can resume where the store is.
    pub fn stop(&mut self) {
        self.shared.core.lock().stop();
    }

    /// Puts responses into the outbox, until that has no room or nothing is due.
    pub fn fill(&mut self, out: &mut dyn Outbox) -> Next {
        self.shared.core.lock().fill(&self.shared, out)
    }

    /// Takes what a [`Next::Read`] found.
    pub fn read_done(&mut self, done: ReadDone) {
        self.shared.core.lock().read_done(&self.shared, done);
    }

    /// Whether the last response has gone out whole: where a stream may end without cutting one.
    pub fn is_between_responses(&self) -> bool {
        let core = self.shared.core.lock();
        core.rest.len() == 0 && core.large.is_none()
    }

    /// What was sent on it.
    pub fn sent(&self) -> Sent {
        self.shared.core.lock().sent
    }

    /// The next response, reading in place where history is needed: for programs that may block, and have
    /// it decoded. `None` if nothing is due.
    pub fn next_response(&mut self) -> Option<WatchResponse> {
        let mut one = OneResponse::default();
        loop {
            let next = self.fill(&mut one);
            if one.len.is_some_and(|len| one.bytes.len() >= len) {
                // What the engine encodes is what prost reads: its tests say so.
                return WatchResponse::decode(&one.bytes[..]).ok();
            }
            match next {
                Next::Read(read) => self.read_done(read.run()),
                Next::Full => {}
                Next::Idle | Next::Broken => return None,
            }
        }
    }

    /// Ready when there may be something to fill an outbox with; else whoever asks is woken then.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.inbox.poll(cx, || self.hub.revision())
    }

    /// Returns when there may be something to fill an outbox with, also if that has been so for long.
    /// Dropping it loses nothing.
    pub async fn changed(&mut self) {
        poll_fn(|cx| self.poll_changed(cx)).await;
    }

    /// How many watchers it has.
    pub fn len(&self) -> usize {
        self.shared.core.lock().watchers.len()
    }

    /// Whether it has no watcher.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.shared.core.lock().close(&self.shared);
        self.hub.close(self.shared.id);
    }
}

/// Takes one response, whatever its size.
#[derive(Default)]
struct OneResponse {
    len: Option<usize>,
    bytes: Vec<u8>,
}

impl Outbox for OneResponse {
    fn room(&self) -> usize {
        self.len.map_or(usize::MAX, |len| len - self.bytes.len())
    }

    fn begin(&mut self, len: usize) {
        self.len = Some(len);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

impl Core {
    fn new(hub: &Arc<Hub>, options: StreamOptions, tip: Tip) -> Core {
        Core {
            hub: hub.clone(),
            options,
            watchers: Watchers::new(hub.filter().keyed().clone()),
            next_id: 0,
            chosen_ids: BTreeSet::new(),
            answers: VecDeque::new(),
            rest: Rest::default(),
            large: None,
            group: Group::at(tip.revision),
            behind: Behind::default(),
            notes: Notes::default(),
            reading: false,
            broken: false,
            held: None,
            ahead: None,
            seen: tip,
            header: (Revision::ZERO, Vec::new()),
            served: Served::default(),
            is_reader: false,
            sent: Sent::default(),
            reported: Sent::default(),
        }
    }

    fn fill(&mut self, shared: &Shared, out: &mut dyn Outbox) -> Next {
        let next = self.find_next(shared, out);
        if !matches!(next, Next::Read(_)) {
            self.held = None;
            self.served.forget();
        }
        self.report();
        next
    }

    fn find_next(&mut self, shared: &Shared, out: &mut dyn Outbox) -> Next {
        loop {
            if self.rest.len() > 0 {
                self.rest.pump(out);
            }
            if self.broken {
                return Next::Broken;
            }
            if self.rest.len() > 0 || out.room() == 0 {
                return Next::Full;
            }
            if self.large.is_some() {
                if self.reading {
                    return Next::Idle;
                }
                match self.large_work(out) {
                    Work::Read(read) => return Next::Read(read),
                    Work::Done | Work::None => continue,
                }
            }
            if let Some(answer) = self.answers.pop_front() {
                let response = self.response_of(answer);
                self.send_message(&response, out);
                continue;
            }
            if self.reading {
                return Next::Idle;
            }
            let tip = self.hub.tip();
            if self.ahead == Some(tip) {
                return Next::Idle;
            }
            self.notice(tip);
            self.find_fence(shared, tip);
            if let Some(note) = self.next_note(shared) {
                self.send_message(&note, out);
                continue;
            }
            match self.deliver(shared, tip, out) {
                Work::Read(read) => return Next::Read(read),
                Work::Done => {}
                Work::None => return Next::Idle,
            }
        }
    }

    /// Delivers for the group or for one watcher behind, in turns.
    fn deliver(&mut self, shared: &Shared, tip: Tip, out: &mut dyn Outbox) -> Work {
        let behind_first = self.behind.is_first;
        let first = if behind_first { self.behind_work(shared, tip, out) } else { self.group_work(shared, tip, out) };
        match first {
            Work::None if behind_first => self.group_work(shared, tip, out),
            Work::None => self.behind_work(shared, tip, out),
            work => work,
        }
    }

    /// Sends an encoded response: what there is no room for waits.
    fn send(&mut self, head: &[u8], events: &[u8], out: &mut dyn Outbox) {
        out.begin(head.len() + events.len());
        if out.room() >= head.len() + events.len() {
            out.put(head);
            out.put(events);
            return;
        }
        self.rest = Rest { bytes: [head, events].concat(), taken: 0 };
        self.rest.pump(out);
    }

    fn send_message(&mut self, response: &WatchResponse, out: &mut dyn Outbox) {
        self.send(&response.encode_to_vec(), &[], out);
    }

    /// A chunk with `revision` in it, or the read that gets one.
    fn chunk_at(&mut self, revision: Revision, to: Revision, for_whom: ForWhom) -> Result<Arc<Chunk>, Read> {
        let held = self.held.take().filter(|chunk| chunk.covers(revision));
        match held.or_else(|| self.hub.chunk_in_memory(revision)) {
            Some(chunk) => {
                self.held = Some(chunk.clone());
                Ok(chunk)
            }
            None => Err(self.read(What::Changes { for_whom, from: revision, to })),
        }
    }

    fn read(&mut self, what: What) -> Read {
        self.reading = true;
        Read { history: self.hub.history(), chunk_bytes: self.hub.chunk_bytes(), what }
    }

    fn read_done(&mut self, shared: &Shared, done: ReadDone) {
        self.reading = false;
        match done.what {
            Found::Changes { for_whom, from, result } => match result {
                Ok(Some(chunk)) => self.take_chunk(chunk, for_whom),
                // The store was replaced by an older one just now; its hub will say so.
                Ok(None) => self.ahead = Some(self.seen),
                Err(_) if matches!(for_whom, ForWhom::Large) => self.break_off(),
                Err(ReadFailure::Compacted(compacted)) => self.lose_below(shared, compacted),
                Err(ReadFailure::Failed(reason)) => self.fail(shared, for_whom, from, &reason),
            },
            Found::Previous { watcher, chunk, result } => match (result, watcher) {
                (Ok(found), _) => {
                    chunk.remember_previous(found);
                    self.held = Some(chunk);
                }
                (Err(failure), Some(key)) => self.lose(shared, key, failure),
                (Err(_), None) => self.break_off(),
            },
        }
        self.report();
    }

    fn take_chunk(&mut self, chunk: Chunk, for_whom: ForWhom) {
        let chunk = Arc::new(chunk);
        self.hub.cache(&chunk);
        if matches!(for_whom, ForWhom::One(_)) {
            self.gather_behind(&chunk);
        }
        self.held = Some(chunk);
    }

    /// The rest of a response that was begun is not to be had.
    fn break_off(&mut self) {
        self.large = None;
        self.broken = true;
    }

    /// Cancels those whose cursor is below the compacted revision and beyond what is in memory.
    fn lose_below(&mut self, shared: &Shared, compacted: Revision) {
        // Whatever is at or above either of the two is still to be had.
        let kept = compacted.min(self.hub.oldest_in_memory());
        let lost: Vec<Key> = self.watchers.iter().filter(|(_, w)| self.cursor(w) < kept).map(|(key, _)| key).collect();
        for key in lost {
            self.lose(shared, key, ReadFailure::Compacted(compacted));
        }
        self.group.skip_to(kept);
        drop(shared.inbox.take(self.group.fence()));
    }

    /// Cancels those who needed what can't be read.
    fn fail(&mut self, shared: &Shared, for_whom: ForWhom, from: Revision, reason: &str) {
        let needed = |key: Key, watcher: &Watcher| match for_whom {
            ForWhom::One(one) => one == key,
            ForWhom::Group | ForWhom::Large => watcher.place != Place::Behind && self.cursor(watcher) <= from,
        };
        let lost: Vec<Key> = self.watchers.iter().filter(|(k, w)| needed(*k, w)).map(|(key, _)| key).collect();
        for key in lost {
            self.lose(shared, key, ReadFailure::Failed(reason.to_owned()));
        }
        if matches!(for_whom, ForWhom::Group) && self.group.is_clean() {
            // Whoever is left in the group does not need what could not be read: do not try it again.
            let members = self.watchers.iter().filter(|(_, w)| w.place != Place::Behind);
            if let Some(needed) = members.map(|(_, w)| w.from).min() {
                self.group.skip_to(needed.min(self.hub.tip().revision.next()));
            }
            drop(shared.inbox.take(self.group.fence()));
        }
    }

    /// The next revision that a watcher needs.
    fn cursor(&self, watcher: &Watcher) -> Revision {
        match watcher.place {
            Place::Behind => watcher.from,
            Place::Group => watcher.from.max(self.group.fence().next()),
            Place::Due => watcher.from.max(self.group.batch_from()),
        }
    }

    fn header(&self, revision: Revision) -> ResponseHeader {
        (self.options.header)(revision)
    }

    fn report(&mut self) {
        let is_reader = self.behind.len() > 0;
        if is_reader != self.is_reader {
            self.is_reader = is_reader;
            if is_reader {
                self.hub.readers.fetch_add(1, Ordering::Relaxed);
            } else {
                self.hub.readers.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.hub.totals.report_sent(self.reported, self.sent);
        self.reported = self.sent;
    }

    /// Takes all that is the stream's out of the hub.
    fn close(&mut self, shared: &Shared) {
        let spans: HashSet<&Span> = self.watchers.iter().map(|(_, watcher)| &watcher.span).collect();
        spans.into_iter().for_each(|span| self.hub.filter().remove(shared.id, span));
        if self.is_reader {
            self.hub.readers.fetch_sub(1, Ordering::Relaxed);
        }
        self.hub.totals.report_sent(self.reported, self.sent);
    }
}
