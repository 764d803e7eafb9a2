use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{WatchCancelRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use tokio::time::Instant;

use crate::backoff::{Backoff, Pauses};
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::key_value::revision;
use crate::random::Random;
use crate::watch::item::Interruption;
use crate::watch::resume::ServerVersion;
use crate::watch::resume::create::{Creates, Refusal, refusal};
use crate::watch::resume::progress::{Due, Progress, ProgressOptions};
use crate::watch::resume::watcher::{Delivery, Phase, Watcher};
use crate::{Revision, spans};

/// The client's own name of a watcher, the same on every stream.
pub(crate) type WatcherId = u64;

/// What the lane wants done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Open a stream. Answered by [`Lane::opened`] or [`Lane::broke`].
    Open,
    /// Drop the stream, or stop opening one.
    Close,
    /// Send this on the stream.
    Send(WatchRequest),
    /// Read a key, linearizably. Answered by [`Lane::read_done`] or [`Lane::read_failed`].
    Read {
        /// Which read this is.
        number: u64,
        key: Bytes,
    },
    /// This watcher was refused for its token. It is off the lane: it needs a stream with a fresh one.
    Refused(WatcherId, Box<Watcher>, Error),
}

/// How a lane behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneOptions {
    pub(crate) backoff: Backoff,
    pub(crate) progress: ProgressOptions,
    /// A refused token can be replaced.
    pub(crate) has_credentials: bool,
}

/// What a lane has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Streams that broke with watchers on them.
    pub(crate) breaks: u64,
    /// Watchers created again after an interruption.
    pub(crate) resumes: u64,
    /// Events below the cursor, dropped.
    pub(crate) stale_events: u64,
    /// Times a buffer was full.
    pub(crate) overflows: u64,
    /// Revisions received in part when the stream broke.
    pub(crate) torn_revisions: u64,
    /// Requested notes of servers that can't be trusted with them.
    pub(crate) untrusted_notes: u64,
    /// Notes that moved a cursor.
    pub(crate) notes: u64,
    /// Streams given up because they were silent.
    pub(crate) silent_streams: u64,
}

/// One stream and its watchers.
#[derive(Debug)]
pub(crate) struct Lane {
    options: LaneOptions,
    pub(super) watchers: BTreeMap<WatcherId, Watcher>,
    pub(super) link: Link,
    pauses: Pauses,
    random: Random,
    /// The read under way, and those it answers for.
    read: Option<Read>,
    reads: u64,
    /// When a read that failed is repeated.
    read_again_at: Option<Instant>,
    read_pauses: Pauses,
    pub(super) actions: VecDeque<Action>,
    pub(crate) counters: Counters,
}

#[derive(Debug)]
struct Read {
    number: u64,
    /// The first one's key is read.
    watchers: Vec<WatcherId>,
}

/// The stream.
#[derive(Debug)]
pub(super) enum Link {
    /// Nobody needs one.
    Idle,
    /// The last one broke; the next is asked for then.
    Waiting {
        until: Instant,
    },
    /// Asked for.
    Opening,
    Open(Box<Open>),
}

#[derive(Debug)]
pub(super) struct Open {
    endpoint: Endpoint,
    since: Instant,
    /// Unknown until the member has said; then nothing is built on its requested notes.
    version: Option<ServerVersion>,
    pub(super) creates: Creates,
    ids: HashMap<i64, WatcherId>,
    pub(super) progress: Progress,
}

/// How long a stream has to last for its end to count as the first failure.
const HEALTHY_SPELL: Duration = Duration::from_secs(5);

impl Lane {
    pub(crate) fn new(options: LaneOptions, random: Random) -> Lane {
        Lane {
            options,
            watchers: BTreeMap::new(),
            link: Link::Idle,
            pauses: options.backoff.start(),
            random,
            read: None,
            reads: 0,
            read_again_at: None,
            read_pauses: options.backoff.start(),
            actions: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.watchers.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// What is to be done next; `None` when the lane waits for something.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`tick`](Self::tick) has something to do, if nothing happens before.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let link = match &self.link {
            Link::Idle | Link::Opening => None,
            Link::Waiting { until } => Some(*until),
            Link::Open(open) => Some(open.creates.due(self.options.progress.patience, open.progress.wake_at())),
        };
        [link, self.read_again_at].into_iter().flatten().min()
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        if self.read_again_at.is_some_and(|at| at <= now) {
            self.read_again_at = None;
            self.advance(now);
        }
        match &mut self.link {
            Link::Waiting { until } if *until <= now => {
                self.link = Link::Opening;
                self.actions.push_back(Action::Open);
            }
            Link::Open(open) if open.creates.overdue(self.options.progress.patience, now) => {
                self.give_up("the server answers no create on this stream", now);
            }
            Link::Open(open) => match open.progress.tick(now) {
                Due::Nothing => {}
                Due::Ask => self.actions.push_back(ask_progress()),
                Due::GiveUp => self.give_up("the server answers no progress request on this stream", now),
            },
            _ => {}
        }
    }

    fn give_up(&mut self, why: &str, now: Instant) {
        self.counters.silent_streams += 1;
        self.actions.push_back(Action::Close);
        self.broke(Error::with(ErrorKind::Unavailable, why), now);
    }

    /// Takes a watcher in.
    pub(crate) fn add(&mut self, id: WatcherId, watcher: Watcher, now: Instant) {
        self.watchers.insert(id, watcher);
        if matches!(self.link, Link::Idle) {
            self.link = Link::Opening;
            self.actions.push_back(Action::Open);
        }
        self.advance(now);
    }

    /// The watch is gone: its watcher is cancelled on the server.
    pub(crate) fn remove(&mut self, id: WatcherId) {
        if let Some(watcher) = self.watchers.remove(&id) {
            self.leave_server(id, watcher.phase);
            self.rest_if_empty();
        }
    }

    /// Every watcher ends with this error.
    pub(crate) fn end_all(&mut self, error: &Error) {
        for (_, watcher) in std::mem::take(&mut self.watchers) {
            spans::failed(&watcher.span, error);
            watcher.buffer.end(Some(error.clone()));
        }
        self.rest_if_empty();
    }

    /// Half of a full buffer has been taken.
    pub(crate) fn drained(&mut self, id: WatcherId, now: Instant) {
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.unpause();
            self.advance(now);
        }
    }

    /// The program asks for a note. Goes out if there is a stream to ask on.
    pub(crate) fn request_progress(&mut self, now: Instant) {
        if let Link::Open(open) = &mut self.link {
            open.progress.asked(now);
            self.actions.push_back(ask_progress());
        }
    }

    /// The stream is open.
    pub(crate) fn opened(&mut self, endpoint: Endpoint, now: Instant) {
        let progress = Progress::new(self.options.progress, now, &mut self.random);
        let (creates, ids) = (Creates::default(), HashMap::new());
        self.link = Link::Open(Box::new(Open { endpoint, since: now, version: None, creates, ids, progress }));
        self.advance(now);
    }

    /// The member of the open stream has this version.
    pub(crate) fn version(&mut self, version: Option<ServerVersion>) {
        if let Link::Open(open) = &mut self.link {
            open.version = version;
        }
    }

    /// The stream broke, or could not be opened, in a way that another may not.
    pub(crate) fn broke(&mut self, error: Error, now: Instant) {
        match &self.link {
            Link::Open(open) if now.duration_since(open.since) >= HEALTHY_SPELL => self.pauses.reset(),
            _ => {}
        }
        if self.watchers.is_empty() {
            self.link = Link::Idle;
            return;
        }
        self.counters.breaks += 1;
        self.read = None;
        let why = Interruption::Broken(error);
        for watcher in self.watchers.values_mut() {
            self.counters.torn_revisions += u64::from(watcher.interrupt(&why, now));
        }
        let pause = self.pauses.after_failure(&mut self.random);
        self.link = Link::Waiting { until: now + pause };
    }

    /// The stream is to go elsewhere, though nothing is wrong with it: another is asked for at once. False if
    /// there is none to move.
    pub(crate) fn leave(&mut self, now: Instant) -> bool {
        if !matches!(self.link, Link::Open(_)) || self.watchers.is_empty() {
            return false;
        }
        self.read = None;
        for watcher in self.watchers.values_mut() {
            self.counters.torn_revisions += u64::from(watcher.interrupt(&Interruption::Moved, now));
        }
        self.link = Link::Opening;
        self.actions.extend([Action::Close, Action::Open]);
        true
    }

    /// All watchers are served, as far as their programs take what comes.
    pub(crate) fn is_serving(&self) -> bool {
        matches!(self.link, Link::Open(_))
            && self.watchers.values().all(|watcher| matches!(watcher.phase, Phase::Active(_) | Phase::Paused))
    }

    /// A linearizable read found the store at `current`.
    pub(crate) fn read_done(&mut self, number: u64, current: Revision, cluster: u64, now: Instant) {
        let Some(read) = self.read.take_if(|read| read.number == number) else { return };
        self.read_pauses.reset();
        for id in read.watchers {
            let Some(watcher) = self.watchers.get_mut(&id) else { continue };
            if let Err(error) = watcher.meets(cluster).and_then(|()| watcher.read_says(current)) {
                self.end(id, error);
            }
        }
        self.advance(now);
    }

    /// The read failed. If for good, that holds for the watcher whose key was read only.
    pub(crate) fn read_failed(&mut self, number: u64, error: &Error, now: Instant) {
        let Some(read) = self.read.take_if(|read| read.number == number) else { return };
        if error.may_pass() {
            self.read_again_at = Some(now + self.read_pauses.after_failure(&mut self.random));
        } else if let Some(first) = read.watchers.first() {
            self.end(*first, error.clone());
        }
        for id in read.watchers {
            if let Some(watcher) = self.watchers.get_mut(&id) {
                watcher.phase = Phase::NeedsRead;
            }
        }
        self.advance(now);
    }

    /// A response came.
    pub(crate) fn received(&mut self, response: WatchResponse, now: Instant) {
        let Link::Open(open) = &mut self.link else { return };
        open.progress.heard(now);
        open.creates.heard(now);
        if response.created {
            return self.answered(&response, now);
        }
        let cluster = response.header.as_ref().map_or(0, |header| header.cluster_id);
        let current = revision(response.header.as_ref().map_or(0, |header| header.revision));
        // No watcher has the id -1: it stands for all of them.
        if response.watch_id == -1 && response.events.is_empty() && !response.canceled {
            return self.noted(current, cluster, now);
        }
        let Some(&id) = open.ids.get(&response.watch_id) else { return };
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        if let Err(error) = watcher.meets(cluster) {
            return self.end(id, error);
        }
        if response.canceled || response.compact_revision > 0 {
            return self.cancelled(id, &response, now);
        }
        if response.events.is_empty() {
            self.counters.notes += u64::from(watcher.note(current));
            return;
        }
        match watcher.take(response.events, response.fragment, &mut self.counters.stale_events) {
            Delivery::Done => {}
            Delivery::Overflow => self.pause(id, now),
            Delivery::Disorder => {
                self.actions.push_back(Action::Close);
                self.broke(Error::with(ErrorKind::Protocol, "a revision after a higher one"), now);
            }
        }
    }

    /// A note for every watcher of the stream.
    fn noted(&mut self, current: Revision, cluster: u64, now: Instant) {
        let Link::Open(open) = &mut self.link else { return };
        open.progress.answered(now, &mut self.random);
        let trusted = open.version.is_some_and(ServerVersion::answers_progress_in_order);
        self.counters.untrusted_notes += u64::from(!trusted);
        let mut replaced = Vec::new();
        for (id, watcher) in &mut self.watchers {
            match watcher.meets(cluster) {
                Ok(()) if trusted => self.counters.notes += u64::from(watcher.note(current)),
                Ok(()) => {}
                Err(error) => replaced.push((*id, error)),
            }
        }
        for (id, error) in replaced {
            self.end(id, error);
        }
    }

    /// Its buffer is full: the server is to stop, and to go on when there is room.
    fn pause(&mut self, id: WatcherId, now: Instant) {
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        self.counters.overflows += 1;
        let phase = watcher.phase;
        watcher.interrupt(&Interruption::SlowConsumer, now);
        if !watcher.buffer.pause() {
            // It was taken in between.
            watcher.unpause();
        }
        self.leave_server(id, phase);
        self.advance(now);
    }

    /// The server has ended a watcher that it had confirmed.
    fn cancelled(&mut self, id: WatcherId, response: &WatchResponse, now: Instant) {
        if response.compact_revision > 0 {
            // etcd answers no progress request of the stream until the client cancels it too.
            self.leave_server(id, Phase::Active(response.watch_id));
        } else if let Link::Open(open) = &mut self.link {
            open.ids.remove(&response.watch_id);
        }
        self.refused(id, refusal(response), now);
    }

    /// What a refusal or a cancellation means for its watcher.
    pub(super) fn refused(&mut self, id: WatcherId, refusal: Refusal, now: Instant) {
        let error = match refusal {
            Refusal::Final(error) => return self.end(id, error),
            Refusal::Token(error) => error,
        };
        let may_be_mended = |watcher: &mut Watcher| self.options.has_credentials && !watcher.refreshed;
        if !self.watchers.get_mut(&id).is_some_and(may_be_mended) {
            return self.end(id, error);
        }
        if let Some(mut watcher) = self.watchers.remove(&id) {
            watcher.interrupt(&Interruption::Broken(error.clone()), now);
            watcher.refreshed = true;
            self.actions.push_back(Action::Refused(id, Box::new(watcher), error));
            self.rest_if_empty();
        }
    }

    /// Ends a watcher, and tells the server if that knows it.
    pub(super) fn end(&mut self, id: WatcherId, error: Error) {
        if let Some(watcher) = self.watchers.remove(&id) {
            self.leave_server(id, watcher.phase);
            let error = match &self.link {
                Link::Open(open) if error.endpoint().is_none() => error.at(&open.endpoint),
                _ => error,
            };
            spans::failed(&watcher.span, &error);
            watcher.buffer.end(Some(error));
            self.rest_if_empty();
        }
    }

    /// Cancels a watcher on the server. One whose create is under way is cancelled when that is answered.
    fn leave_server(&mut self, id: WatcherId, phase: Phase) {
        let Link::Open(open) = &mut self.link else { return };
        if phase == Phase::Creating {
            open.creates.abandon(id);
        }
        if let Phase::Active(server_id) = phase {
            // An id that is not here any more was cancelled before.
            if open.ids.remove(&server_id).is_some() {
                self.actions.push_back(cancel(server_id));
            }
        }
    }

    fn rest_if_empty(&mut self) {
        if self.watchers.is_empty() && !matches!(self.link, Link::Idle) {
            self.link = Link::Idle;
            self.read = None;
            self.actions.push_back(Action::Close);
        }
    }

    /// Starts what can be started now: a read for those who wait for one, and creates.
    fn advance(&mut self, now: Instant) {
        if !matches!(self.link, Link::Open(_)) {
            return;
        }
        if self.read.is_none() && self.read_again_at.is_none() {
            self.start_read();
        }
        self.send_creates(now);
    }

    fn start_read(&mut self) {
        let mut key = None;
        let mut watchers = Vec::new();
        for (id, watcher) in &mut self.watchers {
            if watcher.phase == Phase::NeedsRead {
                watcher.phase = Phase::Reading;
                key.get_or_insert_with(|| watcher.readable_key());
                watchers.push(*id);
            }
        }
        if let Some(key) = key {
            self.reads += 1;
            self.actions.push_back(Action::Read { number: self.reads, key });
            self.read = Some(Read { number: self.reads, watchers });
        }
    }

    /// The server has confirmed a watcher.
    pub(super) fn confirmed(&mut self, id: WatcherId, server_id: i64, now: Instant) {
        let Link::Open(open) = &mut self.link else { return };
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        open.ids.insert(server_id, id);
        if let Some(gap) = watcher.confirmed(server_id, &open.endpoint, now) {
            self.counters.resumes += 1;
            watcher.buffer.resumed(open.endpoint.clone(), gap);
        }
    }
}

pub(super) fn cancel(watch_id: i64) -> Action {
    let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
    Action::Send(WatchRequest { request_union: Some(cancel) })
}

fn ask_progress() -> Action {
    Action::Send(WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) })
}
