//! The watchers that read what they missed, each by its own cursor, in turns of one response.

use std::collections::{HashMap, VecDeque};

use stentor_proto::Revision;

use super::serve::Outcome;
use super::{Core, Shared, Work};
use crate::chunk::Chunk;
use crate::hub::Tip;
use crate::outbox::Outbox;
use crate::read::ForWhom;
use crate::watcher::{Key, Place};

#[derive(Default)]
pub(super) struct Behind {
    /// In the order of their turns; some may be gone.
    turns: VecDeque<Key>,
    all: HashMap<Key, Cursor>,
    /// Whether they go first at the next choice.
    pub(super) is_first: bool,
}

/// What a watcher has only while it is behind.
struct Cursor {
    /// What was committed when it was created: of changes up to here the stream may not have been told on
    /// its behalf, so it reads them itself.
    created_at: Revision,
    /// When the first change was committed that it has not looked at; `None` before it has read any.
    since_unix_ms: Option<u64>,
}

impl Behind {
    pub(super) fn add(&mut self, key: Key, created_at: Revision) {
        self.turns.push_back(key);
        self.all.insert(key, Cursor { created_at, since_unix_ms: None });
    }

    pub(super) fn remove(&mut self, key: Key) {
        self.all.remove(&key);
        if self.all.is_empty() {
            *self = Behind { is_first: self.is_first, ..Behind::default() };
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.all.keys().copied()
    }

    pub(super) fn since_unix_ms(&self, key: Key) -> Option<u64> {
        self.all.get(&key)?.since_unix_ms
    }

    pub(super) fn oldest_since_unix_ms(&self) -> Option<u64> {
        self.all.values().filter_map(|cursor| cursor.since_unix_ms).min()
    }

    pub(super) fn note_since(&mut self, key: Key, unix_ms: u64) {
        if let Some(cursor) = self.all.get_mut(&key) {
            cursor.since_unix_ms = Some(unix_ms);
        }
    }
}

impl Core {
    pub(super) fn behind_work(&mut self, shared: &Shared, tip: Tip, out: &mut dyn Outbox) -> Work {
        let Some((key, from)) = self.next_turn(shared, tip) else { return Work::None };
        let outcome = match self.serve(key, (from, tip.revision), ForWhom::One(key)) {
            Ok(outcome) => outcome,
            Err(read) => {
                self.behind.turns.push_front(key);
                return Work::Read(read);
            }
        };
        self.behind.is_first = false;
        match outcome {
            Outcome::Nothing { next } => self.advance(key, next),
            Outcome::Events { last, next, .. } => {
                self.advance(key, next);
                // It has caught up: the header may say so.
                let revision = if next > tip.revision { next.previous() } else { last };
                self.send_events(key, revision, out);
            }
        }
        Work::Done
    }

    /// Whose turn it is, and its cursor.
    fn next_turn(&mut self, shared: &Shared, tip: Tip) -> Option<(Key, Revision)> {
        for _ in 0..self.behind.turns.len() {
            let key = self.behind.turns.pop_front()?;
            let Some(from) = self.watchers.get(key).map(|watcher| watcher.from) else { continue };
            if from <= tip.revision {
                return Some((key, from));
            }
            // It was created while a commit was being told of, which its stream may not have been. Or the store
            // was replaced by an older one. In either case it reads on when the store is there.
            self.behind.turns.push_back(key);
            self.hub.wake_at(shared, from);
        }
        None
    }

    /// Moves a cursor, to the group if it is past the fence.
    fn advance(&mut self, key: Key, next: Revision) {
        let Some(watcher) = self.watchers.get_mut(key) else { return };
        watcher.from = next;
        let created_at = self.behind.all.get(&key).map_or(Revision::ZERO, |cursor| cursor.created_at);
        if next > self.group.fence().max(created_at) {
            self.join_group(key);
        } else {
            self.behind.turns.push_back(key);
        }
    }

    fn join_group(&mut self, key: Key) {
        let Some(watcher) = self.watchers.get_mut(key) else { return };
        watcher.place = Place::Group;
        // It may be ahead of the fence: a note of less than it has would be a step back.
        let floor = watcher.from.previous();
        self.behind.remove(key);
        self.notes.set_floor(key, floor, self.group.fence());
    }

    /// Those who can go on from this chunk too come first, so that it is read once for all of them.
    pub(super) fn gather_behind(&mut self, chunk: &Chunk) {
        let watchers = &self.watchers;
        let inside = |key: &Key| watchers.get(*key).is_some_and(|w| chunk.covers(w.from));
        let (first, rest): (Vec<Key>, Vec<Key>) = self.behind.turns.drain(..).partition(inside);
        self.behind.turns = first.into_iter().chain(rest).collect();
    }
}
