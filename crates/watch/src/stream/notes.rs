//! Progress: "every matching event up to this revision was delivered".

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stentor_proto::Revision;
use stentor_proto::etcdserverpb::WatchResponse;

use super::answer::NO_WATCHER;
use super::{Core, Shared};
use crate::hub::Tip;
use crate::watcher::{Key, Note, Place};

/// Notes that are owed, and to whom.
#[derive(Default)]
pub(super) struct Notes {
    /// A note for the whole stream was asked for: when the store was at the first revision, and last when
    /// it was at the second.
    asked: Option<(Revision, Revision)>,
    /// Watchers that are owed one of their own, when the fence has reached the revision.
    owed: VecDeque<Key>,
    owed_at: Revision,
    /// Watchers with progress_notify.
    notified: BTreeSet<Key>,
    /// The least revision that a note may tell of, for watchers ahead of the fence.
    floors: BTreeMap<Key, Revision>,
    /// The same by revision.
    by_floor: BTreeSet<(Revision, Key)>,
    /// The revision that the hub was asked to wake the stream at.
    alarm: Revision,
}

impl Notes {
    pub(super) fn notify(&mut self, key: Key) {
        self.notified.insert(key);
    }

    pub(super) fn forget(&mut self, key: Key) {
        self.notified.remove(&key);
        self.remove_floor(key);
    }

    /// No note below `floor` may reach the watcher; there is none below the fence anyway.
    pub(super) fn set_floor(&mut self, key: Key, floor: Revision, fence: Revision) {
        if floor <= fence {
            return;
        }
        let floor = self.floors.get(&key).map_or(floor, |old| floor.max(*old));
        self.remove_floor(key);
        self.floors.insert(key, floor);
        self.by_floor.insert((floor, key));
    }

    fn remove_floor(&mut self, key: Key) {
        if let Some(floor) = self.floors.remove(&key) {
            self.by_floor.remove(&(floor, key));
        }
    }

    /// Forgets the floors that the fence has reached.
    fn pass_floors(&mut self, fence: Revision) {
        while let Some((floor, key)) = self.by_floor.first().copied().filter(|(floor, _)| *floor <= fence) {
            self.by_floor.remove(&(floor, key));
            self.floors.remove(&key);
        }
    }
}

impl Core {
    pub(super) fn request_progress(&mut self) {
        if self.watchers.is_empty() {
            return;
        }
        let now = self.hub.tip().revision;
        let first = self.notes.asked.map_or(now, |(first, _)| first);
        self.notes.asked = Some((first, now));
    }

    pub(super) fn wants_ticks(&self) -> bool {
        !self.notes.notified.is_empty()
    }

    pub(super) fn tick(&mut self) {
        self.owe(Note::IfQuiet);
        for key in &self.notes.notified {
            if let Some(watcher) = self.watchers.get_mut(*key) {
                watcher.active = false;
            }
        }
    }

    pub(super) fn stop(&mut self) {
        self.owe(Note::Yes);
    }

    /// Before others' writes are compacted away: who is quiet gets a revision to resume from.
    pub(super) fn notice(&mut self, tip: Tip) {
        if tip.compacted != self.seen.compacted {
            self.owe(Note::Yes);
        }
        self.seen = tip;
    }

    fn owe(&mut self, note: Note) {
        self.notes.owed_at = self.notes.owed_at.max(self.hub.tip().revision);
        for key in &self.notes.notified {
            let Some(watcher) = self.watchers.get_mut(*key) else { continue };
            if watcher.place == Place::Behind || (note == Note::IfQuiet && watcher.active) {
                continue;
            }
            match watcher.note {
                Note::No => self.notes.owed.push_back(*key),
                Note::IfQuiet | Note::Yes => {}
            }
            if watcher.note != Note::Yes {
                watcher.note = note;
            }
        }
    }

    /// A note that is due now. None while events up to the fence are still to be delivered.
    pub(super) fn next_note(&mut self, shared: &Shared) -> Option<WatchResponse> {
        if !self.group.is_clean() {
            return None;
        }
        let fence = self.group.fence();
        self.notes.pass_floors(fence);
        if self.is_progress_due(shared, fence) {
            return Some(self.note(NO_WATCHER, fence));
        }
        if fence < self.notes.owed_at {
            return None;
        }
        while let Some(key) = self.notes.owed.pop_front() {
            let Some(watcher) = self.watchers.get_mut(key) else { continue };
            let is_quiet = watcher.note == Note::Yes || !watcher.active;
            watcher.note = Note::No;
            if is_quiet && watcher.place != Place::Behind && !self.notes.floors.contains_key(&key) {
                let id = watcher.id;
                return Some(self.note(id, fence));
            }
        }
        None
    }

    fn note(&self, watch_id: i64, fence: Revision) -> WatchResponse {
        WatchResponse { header: Some(self.header(fence)), watch_id, ..Default::default() }
    }

    /// Whether to answer a progress request with the fence; then it is no longer owed.
    fn is_progress_due(&mut self, shared: &Shared, fence: Revision) -> bool {
        let Some((first, last)) = self.notes.asked else { return false };
        if self.watchers.is_empty() {
            self.notes.asked = None;
            return false;
        }
        if self.behind.len() > 0 || fence < first {
            return false;
        }
        if let Some((floor, _)) = self.notes.by_floor.last().copied() {
            // Nothing that concerns the stream has to happen at that revision.
            if self.notes.alarm != floor {
                self.notes.alarm = floor;
                self.hub.wake_at(shared, floor);
            }
            return false;
        }
        self.notes.asked = (fence < last).then_some((last, last));
        true
    }
}
