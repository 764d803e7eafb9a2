//! What a stream tells of itself.

use stentor_proto::Revision;

use super::{Core, Shared};
use crate::report::{StreamReport, WatcherReport, WatcherState};
use crate::watcher::{Key, Place, Watcher};

impl Core {
    pub(crate) fn stream_report(&self, shared: &Shared) -> StreamReport {
        // Without looking at each watcher: streams are looked at every second.
        let together =
            if self.group.due_count() > 0 { self.group.batch_from() } else { self.present_fence(shared).next() };
        let behind = self.behind.keys().filter_map(|key| self.watchers.get(key)).map(|watcher| watcher.from).min();
        let cursor =
            if self.watchers.is_empty() { Revision::ZERO } else { behind.map_or(together, |b| b.min(together)) };
        let behind_since = [self.group.due_since_unix_ms(), self.behind.oldest_since_unix_ms()];
        StreamReport {
            id: shared.serial,
            label: self.options.label.clone(),
            watchers: self.watchers.len() as u64,
            synced: self.counts.synced.max(0) as u64,
            unsynced: self.counts.unsynced.max(0) as u64,
            victims: self.counts.victims.max(0) as u64,
            cursor,
            held_bytes: self.rest.len() as u64,
            events: self.sent.events,
            bytes: self.sent.bytes,
            behind_since_unix_ms: behind_since.into_iter().flatten().min(),
        }
    }

    pub(crate) fn watcher_reports(&self, shared: &Shared, visit: &mut dyn FnMut(WatcherReport)) {
        let fence = self.present_fence(shared);
        for (key, watcher) in self.watchers.iter() {
            visit(WatcherReport {
                id: watcher.id,
                range: watcher.span.range(),
                state: match watcher.place {
                    Place::Group => WatcherState::Synced,
                    Place::Due => WatcherState::Victim,
                    Place::Behind => WatcherState::Unsynced,
                },
                cursor: self.cursor_from(watcher, fence),
                events: watcher.events,
                bytes: watcher.bytes,
                behind_since_unix_ms: self.behind_since_unix_ms(key, watcher),
                prev_kv: watcher.options.prev_kv(),
                progress_notify: watcher.options.progress_notify(),
                fragment: watcher.options.fragment(),
            });
        }
    }

    /// The fence as it would be if the stream looked now: a stream that nothing concerns sleeps.
    fn present_fence(&self, shared: &Shared) -> Revision {
        let fence = self.group.fence();
        if !self.group.is_clean() {
            return fence;
        }
        let tip = self.hub.tip().revision;
        fence.max(shared.inbox.first(tip).map_or(tip, Revision::previous))
    }

    fn cursor_from(&self, watcher: &Watcher, fence: Revision) -> Revision {
        match watcher.place {
            Place::Group => watcher.from.max(fence.next()),
            Place::Due | Place::Behind => self.cursor(watcher),
        }
    }

    fn behind_since_unix_ms(&self, key: Key, watcher: &Watcher) -> Option<u64> {
        match watcher.place {
            Place::Group => None,
            Place::Due => self.group.due_since_unix_ms(),
            Place::Behind => self.behind.since_unix_ms(key),
        }
    }
}
