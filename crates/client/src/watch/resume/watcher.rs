use std::time::Duration;

use bytes::Bytes;
use stentor_proto::etcdserverpb::WatchCreateRequest;
use stentor_proto::etcdserverpb::watch_create_request::FilterType;
use stentor_proto::mvccpb;
use tokio::time::Instant;
use tracing::Span;

use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::key_value::revision;
use crate::watch::buffer::Buffer;
use crate::watch::item::{Batch, Event, Interruption};
use crate::{KeyRange, Revision, spans};

/// What a watch asks for.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) range: KeyRange,
    pub(crate) start: Start,
    pub(crate) prev_kv: bool,
    pub(crate) skip_puts: bool,
    pub(crate) skip_deletes: bool,
    pub(crate) fragment: bool,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// After the revision that the store is at when the watch is asked for.
    Now,
    /// At a revision, which may be yet to come.
    From(Revision),
    /// After a revision that the program has seen: a store that has not reached it is another one.
    After(Revision),
}

/// One watcher, wherever its stream is.
#[derive(Debug)]
pub(crate) struct Watcher {
    spec: Spec,
    pub(crate) buffer: Buffer,
    /// The lowest revision not delivered yet; `None` until "now" is known.
    next: Option<Revision>,
    /// A revision that the store is known to have reached.
    seen: Revision,
    /// The cluster that has answered so far; 0 until one has.
    cluster: u64,
    pub(crate) phase: Phase,
    /// The events of the newest revision, as long as more of it may follow.
    tail: Tail,
    /// It was refused for its token, and its stream has a new one. Once is enough.
    pub(crate) refreshed: bool,
    /// Since when nothing can be delivered.
    interrupted: Option<Instant>,
    pub(crate) span: Span,
}

/// Where a watcher is in its life on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A linearizable read has to say where the store is before it can be created.
    NeedsRead,
    /// That read is under way.
    Reading,
    /// To be created on the stream when it is open and has room.
    Queued,
    /// Its create has been sent.
    Creating,
    /// The server delivers to it under this id.
    Active(i64),
    /// Cancelled on the server until half of its buffer has been taken.
    Paused,
}

#[derive(Debug, Default)]
struct Tail {
    events: Vec<Event>,
    revision: Revision,
    bytes: usize,
}

/// What became of a response with events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Done,
    /// The buffer is full. Nothing of what did not fit was kept.
    Overflow,
    /// A revision after a higher one: the server does not keep to the protocol.
    Disorder,
}

/// Whole revisions, on their way to the buffer.
#[derive(Debug, Default)]
struct Whole {
    events: Vec<Event>,
    bytes: usize,
    /// The last of them; also if all its events were left out here.
    last: Option<Revision>,
}

impl Whole {
    fn add(&mut self, tail: Tail) {
        if tail.revision > Revision::ZERO {
            self.last = Some(tail.revision);
        }
        self.bytes += tail.bytes;
        self.events.extend(tail.events);
    }
}

impl Watcher {
    pub(crate) fn new(spec: Spec, buffer: Buffer) -> Watcher {
        let (next, seen, phase) = match spec.start {
            Start::Now => (None, Revision::ZERO, Phase::NeedsRead),
            Start::From(revision) => (Some(revision.max(Revision::FIRST)), Revision::ZERO, Phase::Queued),
            Start::After(revision) => (Some(revision.next()), revision, Phase::NeedsRead),
        };
        if let Start::After(revision) = spec.start {
            buffer.begins_after(revision);
        }
        let (tail, span) = (Tail::default(), spans::watch(&spec.range));
        Watcher { spec, buffer, next, seen, cluster: 0, phase, tail, refreshed: false, interrupted: None, span }
    }

    /// A key that whoever may watch the range may read.
    pub(crate) fn readable_key(&self) -> Bytes {
        self.spec.range.covering().start().clone()
    }

    /// To be sent when it is known where to begin.
    pub(crate) fn create_request(&self) -> WatchCreateRequest {
        let (key, range_end) = self.spec.range.covering().to_wire();
        let filters = [(self.spec.skip_puts, FilterType::Noput), (self.spec.skip_deletes, FilterType::Nodelete)];
        WatchCreateRequest {
            key,
            range_end,
            start_revision: self.next.map_or(0, Revision::get),
            // The server's own notes, rare as they are, are in order with events even on old servers.
            progress_notify: true,
            filters: filters.into_iter().filter(|(skip, _)| *skip).map(|(_, filter)| filter as i32).collect(),
            prev_kv: self.spec.prev_kv,
            watch_id: 0,
            fragment: self.spec.fragment,
        }
    }

    /// Compares the cluster that answers with the one that has answered so far.
    pub(crate) fn meets(&mut self, cluster: u64) -> Result<(), Error> {
        if cluster == 0 || self.cluster == cluster {
            return Ok(());
        }
        if self.cluster == 0 {
            self.cluster = cluster;
            return Ok(());
        }
        let text = format!("cluster {cluster:x} answers instead of {:x}", self.cluster);
        Err(Error::with(ErrorKind::HistoryReset { cluster }, text))
    }

    /// The store is at `current`, by a linearizable read.
    pub(crate) fn read_says(&mut self, current: Revision) -> Result<(), Error> {
        if current < self.seen {
            let (kind, seen) = (ErrorKind::HistoryReset { cluster: self.cluster }, self.seen);
            return Err(Error::with(kind, format!("the store is at revision {current}, and was at {seen} before")));
        }
        if self.next.is_none() {
            self.next = Some(current.next());
            self.buffer.begins_after(current);
        }
        self.seen = current;
        self.phase = Phase::Queued;
        Ok(())
    }

    /// Takes a part of a response, or a whole one. Only whole revisions go on to the buffer.
    pub(crate) fn take(&mut self, events: Vec<mvccpb::Event>, more_follows: bool, stale: &mut u64) -> Delivery {
        let Some(next) = self.next else { return Delivery::Done };
        let mut whole = Whole::default();
        for event in events {
            let Some(at) = event.kv.as_ref().map(|kv| revision(kv.mod_revision)) else { continue };
            if at < next {
                // From a member that is behind the one before it, or from a server that repeats itself.
                *stale += 1;
                continue;
            }
            if at < self.tail.revision {
                return Delivery::Disorder;
            }
            if at > self.tail.revision {
                whole.add(std::mem::take(&mut self.tail));
                self.tail.revision = at;
            }
            if let Some(event) = self.read(event) {
                self.tail.bytes += event.bytes();
                self.tail.events.push(event);
            }
        }
        if !more_follows {
            whole.add(std::mem::take(&mut self.tail));
        }
        if !self.buffer.has_room(whole.bytes + self.tail.bytes) {
            self.tail = Tail::default();
            return Delivery::Overflow;
        }
        self.deliver(whole);
        Delivery::Done
    }

    fn deliver(&mut self, whole: Whole) {
        let Some(last) = whole.last else { return };
        self.reached(last);
        if whole.events.is_empty() {
            // All of it was left out here: as good as a note.
            self.buffer.progress(last);
        } else {
            self.buffer.push(Batch::new(whole.events, last), whole.bytes);
        }
    }

    /// `None` for an event that is not in the range, only in the interval that covers it.
    fn read(&self, event: mvccpb::Event) -> Option<Event> {
        let event = Event::read(event, self.spec.prev_kv)?;
        self.spec.range.contains(event.kv().key()).then_some(event)
    }

    /// Everything up to `revision` has been delivered, says the server. Never moves backwards, and not into
    /// a start that is yet to come. True if it moved the cursor.
    pub(crate) fn note(&mut self, revision: Revision) -> bool {
        let due = self.next.is_some_and(|next| next <= revision);
        let whole = self.tail.revision == Revision::ZERO;
        if !due || !whole || !matches!(self.phase, Phase::Active(_)) {
            return false;
        }
        self.reached(revision);
        self.buffer.progress(revision);
        true
    }

    fn reached(&mut self, revision: Revision) {
        self.next = Some(revision.next());
        self.seen = self.seen.max(revision);
    }

    /// The server has confirmed it; how long it was interrupted before, if it was.
    pub(crate) fn confirmed(&mut self, id: i64, endpoint: &Endpoint, now: Instant) -> Option<Duration> {
        spans::served(&self.span, id, endpoint, self.next);
        self.phase = Phase::Active(id);
        self.refreshed = false;
        self.buffer.created();
        self.interrupted.take().map(|since| now.duration_since(since))
    }

    /// It is not on a stream any more. What was only half received is dropped; it will be sent again.
    /// True if a part of a revision was lost so.
    pub(crate) fn interrupt(&mut self, why: &Interruption, now: Instant) -> bool {
        let lost = std::mem::take(&mut self.tail).revision > Revision::ZERO;
        if self.interrupted.is_none() && matches!(self.phase, Phase::Active(_)) {
            self.interrupted = Some(now);
            spans::interrupted(&self.span, why);
            self.buffer.interrupted(why.clone());
        }
        if matches!(why, Interruption::SlowConsumer) {
            self.phase = Phase::Paused;
            return lost;
        }
        // By the time there is another stream, the token may have expired again.
        self.refreshed = false;
        if self.phase != Phase::Paused {
            self.wait_for_a_stream();
        }
        lost
    }

    /// There is room in its buffer again.
    pub(crate) fn unpause(&mut self) {
        if self.phase == Phase::Paused {
            self.wait_for_a_stream();
        }
    }

    /// Before it is created again, a store that was seen must be seen not to have lost what it had.
    fn wait_for_a_stream(&mut self) {
        let read = self.next.is_none() || self.seen > Revision::ZERO;
        self.phase = if read { Phase::NeedsRead } else { Phase::Queued };
    }
}
