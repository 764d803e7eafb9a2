//! The watchers that are up to date, together: what no one of them wants costs nothing per watcher.
//!
//! They share a cursor, the *fence*: everything up to it was matched against all of them. The next stretch
//! of history is matched as a *batch*; those it concerns are *due*, and the batch is over when each of them
//! has got its events. So a stream that takes nothing keeps at most who is due.

use std::collections::VecDeque;

use stentor_proto::Revision;

use super::assemble::Served;
use super::{Step, WatchStream, Work};
use crate::chunk::Chunk;
use crate::hub::Tip;
use crate::index::Index;
use crate::read::ForWhom;
use crate::watcher::{Key, Place};

pub(super) struct Group {
    pub(super) index: Index<Key>,
    /// Everything up to here was matched.
    fence: Revision,
    batch: Option<Batch>,
    /// How many watchers are due.
    pub(super) due_count: usize,
}

/// What was matched last, until it is delivered.
struct Batch {
    from: Revision,
    to: Revision,
    /// In the order of their first event; some may be gone.
    due: VecDeque<Key>,
}

impl Group {
    pub(super) fn at(fence: Revision) -> Group {
        Group { index: Index::default(), fence, batch: None, due_count: 0 }
    }

    pub(super) fn fence(&self) -> Revision {
        self.fence
    }

    /// Everything up to the fence is delivered.
    pub(super) fn is_clean(&self) -> bool {
        self.batch.is_none()
    }

    /// The next revision that a member needs.
    pub(super) fn cursor(&self, due: bool) -> Revision {
        match &self.batch {
            Some(batch) if due => batch.from,
            _ => self.fence.next(),
        }
    }

    /// Where there is no member, there is nothing to match.
    pub(super) fn skip_if_empty(&mut self, tip: Revision) {
        if self.index.is_empty() && self.is_clean() {
            self.fence = self.fence.max(tip);
        }
    }

    /// No member needs what is below `revision` and was not matched.
    pub(super) fn skip_to(&mut self, revision: Revision) {
        self.fence = self.fence.max(revision.previous());
    }
}

impl WatchStream {
    pub(super) fn group_work(&mut self, tip: Tip) -> Work {
        match self.group.batch.as_mut().map(|batch| (batch.to, batch.due.pop_front())) {
            None => self.match_next(tip),
            Some((_, None)) => {
                self.group.batch = None;
                self.behind_first = true;
                Work::Done
            }
            Some((to, Some(key))) => self.deliver_due(key, to),
        }
    }

    /// Matches what comes next.
    fn match_next(&mut self, tip: Tip) -> Work {
        self.group.skip_if_empty(tip.revision);
        if self.group.fence >= tip.revision {
            return Work::None;
        }
        let from = self.group.fence.next();
        let chunk = match self.chunk_at(from, tip.revision, ForWhom::Group) {
            Ok(chunk) => chunk,
            Err(read) => return Work::Step(Step::Read(read)),
        };
        let due = self.match_chunk(&chunk, from);
        self.group.fence = chunk.to;
        self.group.due_count = due.len();
        self.group.batch = Some(Batch { from, to: chunk.to, due });
        Work::Done
    }

    /// Who wants a change of the chunk, from a revision on.
    fn match_chunk(&mut self, chunk: &Chunk, from: Revision) -> VecDeque<Key> {
        let mut found = VecDeque::new();
        let watchers = &mut self.watchers;
        let first = chunk.records().partition_point(|r| r.id.revision < from);
        for record in chunk.records().iter().skip(first) {
            self.group.index.matching(record.key(), |key| {
                let Some(watcher) = watchers.get_mut(&key) else { return };
                let wanted = record.id.revision >= watcher.from && watcher.options.pass(record);
                if wanted && watcher.place == (Place::Group { due: false }) {
                    watcher.place = Place::Group { due: true };
                    found.push_back(key);
                }
            });
        }
        found
    }

    fn deliver_due(&mut self, key: Key, to: Revision) -> Work {
        let Some(watcher) = self.watchers.get(&key) else { return Work::Done };
        let from = self.cursor(watcher);
        let served = match self.serve(key, from, to, ForWhom::Group) {
            Ok(served) => served,
            Err(read) => {
                self.put_back(key);
                return Work::Step(Step::Read(read));
            }
        };
        let next = match &served {
            Served::Nothing { next } | Served::Events { next, .. } => *next,
            Served::Lost(_) => to.next(),
        };
        let Some(watcher) = self.watchers.get_mut(&key) else { return Work::Done };
        watcher.from = watcher.from.max(next);
        if next > to {
            watcher.place = Place::Group { due: false };
            self.group.due_count -= 1;
        } else if let Some(batch) = &mut self.group.batch {
            // The rest of it after the others' turn.
            batch.due.push_back(key);
        }
        match served {
            Served::Nothing { .. } => Work::Done,
            Served::Events { events, last, .. } => Work::Step(Step::Send(self.send_events(key, events, last))),
            Served::Lost(failure) => {
                self.lose(key, failure);
                Work::Done
            }
        }
    }

    fn put_back(&mut self, key: Key) {
        if let Some(batch) = &mut self.group.batch {
            batch.due.push_front(key);
        }
    }
}
