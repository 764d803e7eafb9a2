//! The watchers that are up to date, together: what no one of them wants costs nothing.
//!
//! They share a cursor, the *fence*: everything up to it was looked at for all of them. The hub says at
//! which revisions to look (the stream's inbox), so that the fence passes over what concerns others. The next
//! stretch with such revisions is matched as a *batch*; those it concerns are *due*, and the batch is over
//! when each of them has got its events. So a stream that takes nothing keeps at most who is due.

use std::collections::{HashSet, VecDeque};

use stentor_proto::Revision;

use super::serve::Outcome;
use super::{Core, Shared, Work};
use crate::chunk::Chunk;
use crate::hub::Tip;
use crate::inbox::Told;
use crate::outbox::Outbox;
use crate::read::{ForWhom, Read};
use crate::watcher::{Key, Place};

/// So many bytes are sent before those behind have a turn.
const QUANTUM_BYTES: u64 = 64 << 10;

pub(super) struct Group {
    /// Everything up to here was looked at.
    fence: Revision,
    batch: Option<Batch>,
}

/// What was matched last, until it is delivered.
struct Batch {
    from: Revision,
    to: Revision,
    /// In the order of their first event; some may be gone.
    due: VecDeque<Key>,
    /// How many are not gone.
    count: usize,
    /// When its first event was committed.
    since_unix_ms: u64,
}

impl Group {
    pub(super) fn at(fence: Revision) -> Group {
        Group { fence, batch: None }
    }

    pub(super) fn fence(&self) -> Revision {
        self.fence
    }

    /// Everything up to the fence is delivered.
    pub(super) fn is_clean(&self) -> bool {
        self.batch.is_none()
    }

    /// The next revision that a member needs which is due.
    pub(super) fn batch_from(&self) -> Revision {
        self.batch.as_ref().map_or(self.fence.next(), |batch| batch.from)
    }

    pub(super) fn due_count(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.count)
    }

    pub(super) fn due_since_unix_ms(&self) -> Option<u64> {
        self.batch.as_ref().filter(|batch| batch.count > 0).map(|batch| batch.since_unix_ms)
    }

    pub(super) fn one_less_due(&mut self) {
        if let Some(batch) = &mut self.batch {
            batch.count -= 1;
        }
    }

    /// No member needs what is below `revision` and was not matched.
    pub(super) fn skip_to(&mut self, revision: Revision) {
        self.fence = self.fence.max(revision.previous());
    }
}

impl Core {
    /// Moves the fence up to before the next revision that can concern the group.
    pub(super) fn find_fence(&mut self, shared: &Shared, tip: Tip) {
        if self.group.is_clean() {
            let next = shared.inbox.first(tip.revision).unwrap_or(tip.revision.next());
            self.group.skip_to(next);
        }
    }

    pub(super) fn group_work(&mut self, shared: &Shared, tip: Tip, out: &mut dyn Outbox) -> Work {
        if self.group.is_clean() {
            match self.match_next(shared, tip) {
                Work::Done if !self.group.is_clean() => {}
                work => return work,
            }
        }
        let before = self.sent.bytes;
        while self.sent.bytes - before < QUANTUM_BYTES {
            let next = self.group.batch.as_mut().map(|batch| (batch.from, batch.to, batch.due.pop_front()));
            let Some((from, to, Some(key))) = next else {
                self.group.batch = None;
                break;
            };
            if let Err(read) = self.deliver_due(key, (from, to), out) {
                return Work::Read(read);
            }
            if out.room() == 0 || !self.can_send_more() {
                return Work::Done;
            }
        }
        self.behind.is_first = true;
        Work::Done
    }

    /// Whether nothing has to go out before the next response.
    fn can_send_more(&self) -> bool {
        self.rest.len() == 0 && self.large.is_none()
    }

    /// Matches what comes next.
    fn match_next(&mut self, shared: &Shared, tip: Tip) -> Work {
        let Some(first) = shared.inbox.first(tip.revision) else { return Work::None };
        let first = first.max(self.group.fence().next());
        if first > tip.revision {
            // Only after the store was replaced by an older one.
            drop(shared.inbox.take(tip.revision));
            return Work::None;
        }
        let chunk = match self.chunk_at(first, tip.revision, ForWhom::Group) {
            Ok(chunk) => chunk,
            Err(read) => return Work::Read(read),
        };
        let to = chunk.to.min(tip.revision);
        let told = shared.inbox.take(to);
        let due = self.match_chunk(&chunk, (first, to), &told);
        self.group.skip_to(to.next());
        if !due.is_empty() {
            let since_unix_ms = chunk.stretch(first, to).first().map_or(0, |record| record.time_unix_ms);
            self.group.batch = Some(Batch { from: first, to, count: due.len(), due, since_unix_ms });
        }
        Work::Done
    }

    /// Who wants a change of the chunk in a stretch of revisions, of those it was told to look at.
    fn match_chunk(&mut self, chunk: &Chunk, (from, to): (Revision, Revision), told: &Told) -> VecDeque<Key> {
        let mut due = VecDeque::new();
        let mut heads = Vec::new();
        // Chains of which everybody is due already.
        let mut complete: HashSet<u32> = HashSet::new();
        let mut revisions = told.revisions.iter().copied().peekable();
        let records = chunk.stretch(from, to);
        for record in records {
            let revision = record.id.revision;
            while revisions.peek().is_some_and(|next| *next < revision) {
                revisions.next();
            }
            let all = told.all_from.is_some_and(|from| from <= revision);
            if !all && revisions.peek() != Some(&revision) {
                continue;
            }
            self.watchers.chains(record.key(), |head| heads.push(head));
            for head in heads.drain(..) {
                if records.len() > 1 && complete.contains(&head) {
                    continue;
                }
                let mut is_complete = true;
                self.watchers.each_of_chain(head, |key, watcher| {
                    if watcher.place != Place::Group {
                        return;
                    }
                    if revision >= watcher.from && watcher.options.pass(record) {
                        watcher.place = Place::Due;
                        due.push_back(key);
                    } else {
                        is_complete = false;
                    }
                });
                if records.len() > 1 && is_complete {
                    complete.insert(head);
                }
            }
        }
        due
    }

    fn deliver_due(&mut self, key: Key, (from, to): (Revision, Revision), out: &mut dyn Outbox) -> Result<(), Read> {
        let Some(watcher) = self.watchers.get(key) else { return Ok(()) };
        let from = watcher.from.max(from);
        let outcome = match self.serve(key, (from, to), ForWhom::Group) {
            Ok(outcome) => outcome,
            Err(read) => {
                if let Some(batch) = &mut self.group.batch {
                    batch.due.push_front(key);
                }
                return Err(read);
            }
        };
        let next = match &outcome {
            Outcome::Nothing { next } | Outcome::Events { next, .. } => *next,
        };
        if let Some(watcher) = self.watchers.get_mut(key) {
            watcher.from = watcher.from.max(next);
            if next > to {
                watcher.place = Place::Group;
                self.group.one_less_due();
            } else if let Some(batch) = &mut self.group.batch {
                // The rest of it after the others' turn.
                batch.due.push_back(key);
            }
        }
        if let Outcome::Events { last, .. } = outcome {
            self.send_events(key, last, out);
        }
        Ok(())
    }
}
