//! What a stream tells of itself.

use std::collections::HashSet;

use stentor_proto::Revision;

use super::{Core, Shared};
use crate::report::{StreamReport, WatcherReport, WatcherState};
use crate::watcher::{Key, Place, Watcher};

/// Events that nobody has looked at yet, since the client takes nothing.
struct Unseen {
    /// The first revision.
    from: Revision,
    since_unix_ms: u64,
    /// Whom they concern; `None` if that is not in memory any more.
    due: Option<HashSet<Key>>,
}

impl Unseen {
    fn concerns(&self, key: Key) -> bool {
        self.due.as_ref().is_none_or(|due| due.contains(&key))
    }
}

impl Core {
    pub(crate) fn stream_report(&self, shared: &Shared) -> StreamReport {
        // Streams are looked at every second: no look at each watcher.
        let unseen = self.unseen(shared);
        let unsynced = self.behind.len();
        let in_group = self.watchers.len() - unsynced;
        let victims = match &unseen {
            None => self.group.due_count(),
            Some(Unseen { due: None, .. }) => in_group,
            Some(Unseen { due: Some(due), .. }) => self.group.due_count() + due.len(),
        };
        let together = if self.group.due_count() > 0 { self.group.batch_from() } else { self.fence(&unseen).next() };
        let behind = self.behind.keys().filter_map(|key| self.watchers.get(key)).map(|watcher| watcher.from).min();
        let behind_since = [
            self.group.due_since_unix_ms(),
            self.behind.oldest_since_unix_ms(),
            unseen.filter(|_| victims > 0).map(|unseen| unseen.since_unix_ms),
        ];
        StreamReport {
            id: shared.serial,
            label: self.options.label.clone(),
            watchers: self.watchers.len() as u64,
            synced: (in_group - victims) as u64,
            unsynced: unsynced as u64,
            victims: victims as u64,
            cursor: if self.watchers.is_empty() {
                Revision::ZERO
            } else {
                behind.map_or(together, |b| b.min(together))
            },
            held_bytes: self.rest.len() as u64,
            events: self.sent.events,
            bytes: self.sent.bytes,
            behind_since_unix_ms: behind_since.into_iter().flatten().min(),
        }
    }

    pub(crate) fn watcher_reports(&self, shared: &Shared, visit: &mut dyn FnMut(WatcherReport)) {
        let unseen = self.unseen(shared);
        let fence = self.fence(&unseen);
        for (key, watcher) in self.watchers.iter() {
            let unseen = unseen.as_ref().filter(|unseen| unseen.concerns(key));
            let (state, cursor, behind_since_unix_ms) = match (watcher.place, unseen) {
                (Place::Behind, _) => (WatcherState::Unsynced, watcher.from, self.behind.since_unix_ms(key)),
                (Place::Due, _) => (WatcherState::Victim, self.cursor(watcher), self.group.due_since_unix_ms()),
                (Place::Group, Some(unseen)) => {
                    (WatcherState::Victim, watcher.from.max(unseen.from), Some(unseen.since_unix_ms))
                }
                (Place::Group, None) => (WatcherState::Synced, watcher.from.max(fence.next()), None),
            };
            visit(report(watcher, state, cursor, behind_since_unix_ms));
        }
    }

    /// The fence as it would be if the stream looked now: a stream that nothing concerns sleeps.
    fn fence(&self, unseen: &Option<Unseen>) -> Revision {
        let fence = self.group.fence();
        match unseen {
            _ if !self.group.is_clean() => fence,
            Some(unseen) => fence.max(unseen.from.previous()),
            None => fence.max(self.hub.tip().revision),
        }
    }

    fn unseen(&self, shared: &Shared) -> Option<Unseen> {
        let tip = self.hub.tip().revision;
        let (from, since_unix_ms) = shared.inbox.first_since(tip)?;
        let Some(chunk) = self.hub.chunk_in_memory(from) else {
            return Some(Unseen { from, since_unix_ms, due: None });
        };
        let told = shared.inbox.peek(tip.min(chunk.to));
        let mut due = HashSet::new();
        let is_told = |revision| {
            told.all_from.is_some_and(|from| from <= revision) || told.revisions.binary_search(&revision).is_ok()
        };
        for record in chunk.stretch(from, tip).iter().filter(|record| is_told(record.id.revision)) {
            self.watchers.chains(record.key(), |first| {
                let wants = |(_, watcher): &(Key, &Watcher)| {
                    watcher.place == Place::Group && watcher.from <= record.id.revision && watcher.options.pass(record)
                };
                due.extend(self.watchers.chain(first).filter(wants).map(|(key, _)| key));
            });
        }
        Some(Unseen { from, since_unix_ms, due: Some(due) })
    }
}

fn report(
    watcher: &Watcher,
    state: WatcherState,
    cursor: Revision,
    behind_since_unix_ms: Option<u64>,
) -> WatcherReport {
    let sent = watcher.sent();
    WatcherReport {
        id: watcher.id,
        range: watcher.span.range(),
        state,
        cursor,
        events: sent.events,
        bytes: sent.bytes,
        behind_since_unix_ms,
        prev_kv: watcher.options.prev_kv(),
        progress_notify: watcher.options.progress_notify(),
        fragment: watcher.options.fragment(),
    }
}
