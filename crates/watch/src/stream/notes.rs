//! Progress: "every matching event up to this revision was delivered".

use std::collections::VecDeque;

use stentor_proto::Revision;
use stentor_proto::etcdserverpb::WatchResponse;

use super::WatchStream;
use super::answer::NO_WATCHER;
use crate::hub::Tip;
use crate::watcher::{Key, Note, Place};

/// Notes that are owed.
#[derive(Default)]
pub(super) struct Notes {
    /// A note for the whole stream was asked for: when the store was at the first revision, and last when
    /// it was at the second.
    asked: Option<(Revision, Revision)>,
    /// Watchers that are owed one of their own, when the fence has reached the revision.
    owed: VecDeque<Key>,
    owed_at: Revision,
}

impl WatchStream {
    /// Asks for one note for all watchers of the stream. It comes as soon as all of them are synced, and
    /// at once if they are; with no watcher, never.
    pub fn request_progress(&mut self) {
        if self.watchers.is_empty() {
            return;
        }
        let now = self.hub.tip().revision;
        let first = self.notes.asked.map_or(now, |(first, _)| first);
        self.notes.asked = Some((first, now));
    }

    /// The interval of `--watch-progress-notify-interval` is over: synced watchers with progress_notify
    /// that got no event meanwhile get a note.
    pub fn tick(&mut self) {
        self.owe(Note::IfQuiet);
        for key in &self.notified {
            if let Some(watcher) = self.watchers.get_mut(key) {
                watcher.active = false;
            }
        }
    }

    /// The server is about to stop: synced watchers with progress_notify get a last note, so that they
    /// can resume where the store is.
    pub fn stop(&mut self) {
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
        for key in &self.notified {
            let Some(watcher) = self.watchers.get_mut(key) else { continue };
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
    pub(super) fn next_note(&mut self) -> Option<WatchResponse> {
        if !self.group.is_clean() {
            return None;
        }
        let fence = self.group.fence();
        if self.is_progress_due(fence) {
            return Some(WatchResponse { header: self.header(fence), watch_id: NO_WATCHER, ..Default::default() });
        }
        if fence < self.notes.owed_at {
            return None;
        }
        while let Some(key) = self.notes.owed.pop_front() {
            let Some(watcher) = self.watchers.get_mut(&key) else { continue };
            let quiet = watcher.note == Note::Yes || !watcher.active;
            watcher.note = Note::No;
            if quiet && watcher.place != Place::Behind && watcher.notes_from <= fence {
                let watch_id = watcher.id;
                return Some(WatchResponse { header: self.header(fence), watch_id, ..Default::default() });
            }
        }
        None
    }

    /// Whether to answer a progress request with the fence; then it is no longer owed.
    fn is_progress_due(&mut self, fence: Revision) -> bool {
        let Some((first, last)) = self.notes.asked else { return false };
        if self.watchers.is_empty() {
            self.notes.asked = None;
            return false;
        }
        let reached = self.notes_from.last().is_none_or(|(from, _)| *from <= fence);
        let due = self.behind_count == 0 && reached && fence >= first;
        if due {
            self.notes.asked = (fence < last).then_some((last, last));
        }
        due
    }
}
