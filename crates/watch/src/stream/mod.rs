//! The watchers of one client.

mod answer;
mod assemble;
mod behind;
mod group;
mod notes;
mod requests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use stentor_proto::Revision;
use stentor_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use tokio::sync::watch;

use crate::chunk::Chunk;
use crate::counts::Counts;
use crate::hub::{Hub, Tip};
use crate::read::{ForWhom, Found, Read, ReadDone, ReadFailure, What};
use crate::watcher::{Key, Place, Watcher};
use answer::Answer;
use assemble::Parts;
use group::Group;
use notes::Notes;

/// Makes the header of a response at a revision.
pub type HeaderFn = Arc<dyn Fn(Revision) -> ResponseHeader + Send + Sync>;

/// What a stream needs to know of its server.
#[derive(Clone)]
pub struct StreamOptions {
    /// Fills cluster id, member id and term beside the revision.
    pub header: HeaderFn,
    /// A response for a watcher with `fragment` is split below this size, encoded, in bytes.
    pub fragment_bytes: usize,
    /// A response takes no further revision beyond this size, in bytes of events.
    pub response_bytes: usize,
}

impl Default for StreamOptions {
    /// Headers with nothing but the revision; parts below 2 MiB, responses of about 1 MiB.
    fn default() -> StreamOptions {
        let header = |revision: Revision| ResponseHeader { revision: revision.get(), ..Default::default() };
        StreamOptions { header: Arc::new(header), fragment_bytes: 2 << 20, response_bytes: 1 << 20 }
    }
}

/// What a stream has to do next.
pub enum Step {
    /// Send this; it is taken out of the stream.
    Send(WatchResponse),
    /// Read this from history, then go on.
    Read(Read),
    /// Nothing until a request, a tick, or [`WatchStream::changed`].
    Idle,
}

/// The watchers of one client: a state machine without I/O.
///
/// Its caller hands it requests and, **when the client has room for a response**, asks for the next step.
/// Between two steps nothing is held for a slow client but the cursors of its watchers, the rest of a
/// response that is being sent in fragments, and the answers to requests that it was given.
pub struct WatchStream {
    hub: Arc<Hub>,
    tips: watch::Receiver<Tip>,
    options: StreamOptions,
    watchers: HashMap<Key, Watcher>,
    by_id: HashMap<i64, Key>,
    next_id: i64,
    /// Ids that the client chose and the counter has not reached yet, cancelled ones too.
    chosen_ids: BTreeSet<i64>,
    next_key: u64,
    /// To requests, and cancels of the stream's own; before everything but fragments.
    answers: VecDeque<Answer>,
    /// The rest of a response being sent in fragments; nothing comes between.
    parts: Option<Parts>,
    group: Group,
    /// Those that read what they missed, in the order of their turns; some may be gone.
    behind: VecDeque<Key>,
    behind_count: usize,
    /// Whether those behind go first at the next choice.
    behind_first: bool,
    notes: Notes,
    /// Watchers with progress_notify.
    notified: BTreeSet<Key>,
    /// Watchers that no progress note below a revision may reach, by that revision.
    notes_from: BTreeSet<(Revision, Key)>,
    /// A read is under way.
    reading: bool,
    /// The chunk in use; let go as soon as a response is out.
    held: Option<Arc<Chunk>>,
    /// At this tip history ended before it: there is nothing to do until the hub is told of more.
    ahead: Option<Tip>,
    /// The tip at the last step.
    seen: Tip,
    counts: Counts,
}

/// What one of the two kinds of work came to.
enum Work {
    /// There is none.
    None,
    /// Some is done; look again.
    Done,
    /// This is to be done next.
    Step(Step),
}

impl WatchStream {
    /// A stream without watchers.
    pub fn open(hub: &Arc<Hub>, options: StreamOptions) -> WatchStream {
        let mut tips = hub.subscribe();
        let tip = *tips.borrow_and_update();
        let mut stream = WatchStream {
            hub: hub.clone(),
            tips,
            options,
            watchers: HashMap::new(),
            by_id: HashMap::new(),
            next_id: 0,
            chosen_ids: BTreeSet::new(),
            next_key: 0,
            answers: VecDeque::new(),
            parts: None,
            group: Group::at(tip.revision),
            behind: VecDeque::new(),
            behind_count: 0,
            behind_first: false,
            notes: Notes::default(),
            notified: BTreeSet::new(),
            notes_from: BTreeSet::new(),
            reading: false,
            held: None,
            ahead: None,
            seen: tip,
            counts: Counts::default(),
        };
        stream.report();
        stream
    }

    /// The next thing to do. Ask only while the client has room for a response.
    pub fn step(&mut self) -> Step {
        let step = self.find_step();
        if !matches!(step, Step::Read(_)) {
            self.held = None;
        }
        self.report();
        step
    }

    /// As [`WatchStream::step`], reading in place where history is needed: for programs that may block.
    pub fn next_response(&mut self) -> Option<WatchResponse> {
        loop {
            match self.step() {
                Step::Send(response) => return Some(response),
                Step::Read(read) => self.read_done(read.run()),
                Step::Idle => return None,
            }
        }
    }

    /// Returns when the store has gone on since the last step, so that there may be a next one.
    pub async fn changed(&mut self) {
        if self.tips.changed().await.is_err() {
            // The hub is gone, which it can't be while this stream holds it.
            std::future::pending().await
        }
    }

    /// How many watchers it has.
    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Whether it has no watcher.
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    fn find_step(&mut self) -> Step {
        loop {
            if let Some(part) = self.next_part() {
                return Step::Send(part);
            }
            if let Some(answer) = self.answers.pop_front() {
                return Step::Send(self.response_of(answer));
            }
            if self.reading {
                return Step::Idle;
            }
            let tip = *self.tips.borrow_and_update();
            if self.ahead == Some(tip) {
                return Step::Idle;
            }
            self.notice(tip);
            if let Some(note) = self.next_note() {
                return Step::Send(note);
            }
            let first = if self.behind_first { self.behind_work(tip) } else { self.group_work(tip) };
            let work = match first {
                Work::None if self.behind_first => self.group_work(tip),
                Work::None => self.behind_work(tip),
                work => work,
            };
            match work {
                Work::Step(step) => return step,
                Work::Done => {}
                Work::None => return Step::Idle,
            }
        }
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

    /// Takes what a [`Step::Read`] found.
    pub fn read_done(&mut self, done: ReadDone) {
        self.reading = false;
        match done.what {
            Found::Changes { for_whom, from, result } => match result {
                Ok(Some(chunk)) => self.take_chunk(chunk, for_whom),
                // The store was replaced by an older one just now; its hub will say so.
                Ok(None) => self.ahead = Some(self.seen),
                Err(ReadFailure::Compacted(compacted)) => self.lose_below(compacted),
                Err(ReadFailure::Failed(reason)) => self.fail(for_whom, from, &reason),
            },
            Found::Previous { watcher, chunk, result } => match result {
                Ok(found) => {
                    chunk.remember_previous(found);
                    self.held = Some(chunk);
                }
                Err(failure) => self.lose(watcher, failure),
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

    /// Cancels those whose cursor is below the compacted revision and beyond what is in memory.
    fn lose_below(&mut self, compacted: Revision) {
        // Whatever is at or above either of the two is still to be had.
        let kept = compacted.min(self.hub.oldest_in_memory());
        let lost: Vec<Key> = self.watchers.iter().filter(|(_, w)| self.cursor(w) < kept).map(|(key, _)| *key).collect();
        for key in lost {
            self.lose(key, ReadFailure::Compacted(compacted));
        }
        self.group.skip_to(kept);
    }

    /// Cancels those who needed what can't be read.
    fn fail(&mut self, for_whom: ForWhom, from: Revision, reason: &str) {
        let needed = |key: &Key, watcher: &Watcher| match for_whom {
            ForWhom::One(one) => one == *key,
            ForWhom::Group => watcher.place != Place::Behind && self.cursor(watcher) <= from,
        };
        let lost: Vec<Key> = self.watchers.iter().filter(|(k, w)| needed(k, w)).map(|(key, _)| *key).collect();
        for key in lost {
            self.lose(key, ReadFailure::Failed(reason.to_owned()));
        }
        if matches!(for_whom, ForWhom::Group) && self.group.is_clean() {
            // Whoever is left in the group does not need what could not be read: do not try it again.
            let members = self.watchers.values().filter(|w| w.place != Place::Behind);
            if let Some(needed) = members.map(|w| w.from).min() {
                self.group.skip_to(needed.min(self.hub.tip().revision.next()));
            }
        }
    }

    /// The next revision that a watcher needs.
    fn cursor(&self, watcher: &Watcher) -> Revision {
        match watcher.place {
            Place::Behind => watcher.from,
            Place::Group { due } => watcher.from.max(self.group.cursor(due)),
        }
    }

    fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        Some((self.options.header)(revision))
    }

    fn report(&mut self) {
        let (unsynced, victims) = (self.behind_count as i64, self.group.due_count as i64);
        let synced = self.watchers.len() as i64 - unsynced - victims;
        let now = Counts { streams: 1, synced, unsynced, victims };
        self.hub.totals.report(self.counts, now);
        self.counts = now;
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.hub.totals.report(self.counts, Counts::default());
    }
}
