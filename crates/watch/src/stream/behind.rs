//! The watchers that read what they missed, each by its own cursor, in turns of one response.

use stentor_proto::Revision;

use super::assemble::Served;
use super::{Step, WatchStream, Work};
use crate::chunk::Chunk;
use crate::hub::Tip;
use crate::read::ForWhom;
use crate::watcher::{Key, Place};

impl WatchStream {
    pub(super) fn behind_work(&mut self, tip: Tip) -> Work {
        let Some(key) = self.behind.pop_front() else { return Work::None };
        let Some(watcher) = self.watchers.get(&key) else { return Work::Done };
        let from = watcher.from;
        if from > tip.revision {
            // Only after the store was replaced by an older one.
            self.join_group(key);
            return Work::Done;
        }
        let served = match self.serve(key, from, tip.revision, ForWhom::One(key)) {
            Ok(served) => served,
            Err(read) => {
                self.behind.push_front(key);
                return Work::Step(Step::Read(read));
            }
        };
        self.behind_first = false;
        match served {
            Served::Nothing { next } => {
                self.advance(key, next);
                Work::Done
            }
            Served::Events { events, last, next } => {
                self.advance(key, next);
                // It has caught up: the header may say so.
                let revision = if next > tip.revision { next.previous() } else { last };
                Work::Step(Step::Send(self.send_events(key, events, revision)))
            }
            Served::Lost(failure) => {
                self.lose(key, failure);
                Work::Done
            }
        }
    }

    /// Moves a cursor, to the group if it is past the fence.
    fn advance(&mut self, key: Key, next: Revision) {
        if let Some(watcher) = self.watchers.get_mut(&key) {
            watcher.from = next;
            if next > self.group.fence() {
                self.join_group(key);
            } else {
                self.behind.push_back(key);
            }
        }
    }

    fn join_group(&mut self, key: Key) {
        let Some(watcher) = self.watchers.get_mut(&key) else { return };
        watcher.place = Place::Group { due: false };
        self.group.index.insert(&watcher.range, key);
        self.behind_count -= 1;
        // It may be ahead of the fence: a note of less than it has would be a step back.
        let notes_from = watcher.notes_from.max(watcher.from.previous());
        if notes_from > watcher.notes_from {
            self.notes_from.remove(&(watcher.notes_from, key));
            watcher.notes_from = notes_from;
            self.notes_from.insert((notes_from, key));
        }
    }

    /// Those who can go on from this chunk too come first, so that it is read once for all of them.
    pub(super) fn gather_behind(&mut self, chunk: &Chunk) {
        let watchers = &self.watchers;
        let inside = |key: &Key| watchers.get(key).is_some_and(|w| chunk.covers(w.from));
        let (first, rest): (Vec<Key>, Vec<Key>) = self.behind.drain(..).partition(inside);
        self.behind = first.into_iter().chain(rest).collect();
    }
}
