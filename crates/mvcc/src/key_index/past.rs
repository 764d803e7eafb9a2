use std::sync::Arc;

use stentor_proto::Revision;

use super::KeyChange;
use super::keys::{ALLOCATION, heap_bytes};
use crate::ChangeId;

/// A chunk this long is never changed again.
const CHUNK: usize = 64;

/// The older changes of a key with many. Appending costs at most the copy of one chunk,
/// whatever the number of changes; cloning shares all of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Past(Option<Arc<Chunk>>);

/// A run of changes, oldest first, never empty.
#[derive(Debug)]
struct Chunk {
    changes: Vec<Packed>,
    /// The first change of this chunk and all before it.
    oldest: ChangeId,
    before: Option<Arc<Chunk>>,
}

/// A [`KeyChange`] in 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    revision: Revision,
    sub: u32,
    tombstone: bool,
}

impl Packed {
    pub(super) fn new(change: KeyChange) -> Packed {
        Packed { revision: change.id.revision, sub: change.id.sub, tombstone: change.tombstone }
    }

    pub(super) fn id(self) -> ChangeId {
        ChangeId { revision: self.revision, sub: self.sub }
    }

    pub(super) fn unpack(self) -> KeyChange {
        KeyChange { id: self.id(), tombstone: self.tombstone }
    }
}

/// The newest at or below `at` of changes that are sorted.
pub(super) fn newest_at(changes: &[Packed], at: Revision) -> Option<KeyChange> {
    let above = changes.partition_point(|change| change.revision <= at);
    changes[..above].last().map(|change| change.unpack())
}

impl Past {
    /// Appends a change above all others.
    pub(super) fn push(&mut self, change: Packed) {
        match &mut self.0 {
            Some(head) if head.changes.len() < CHUNK => {
                let changes = &mut Arc::make_mut(head).changes;
                if changes.len() == changes.capacity() {
                    changes.reserve_exact(changes.len().div_ceil(2).min(CHUNK - changes.len()));
                }
                changes.push(change);
            }
            full => {
                let before = full.take();
                let oldest = before.as_ref().map_or(change.id(), |chunk| chunk.oldest);
                let mut changes = Vec::new();
                // A key that has filled a chunk is likely to fill another.
                changes.reserve_exact(if before.is_some() { CHUNK / 4 } else { 1 });
                changes.push(change);
                *full = Some(Arc::new(Chunk { changes, oldest, before }));
            }
        }
    }

    /// The newest change at or below `at`.
    pub(super) fn newest_at(&self, at: Revision) -> Option<KeyChange> {
        let chunk = self.chunks().find(|chunk| chunk.changes.first().is_some_and(|first| first.revision <= at))?;
        newest_at(&chunk.changes, at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The first change, if there is any.
    pub(super) fn oldest(&self) -> Option<ChangeId> {
        self.0.as_ref().map(|chunk| chunk.oldest)
    }

    /// All changes, newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = KeyChange> {
        self.chunks().flat_map(|chunk| chunk.changes.iter().rev()).map(|change| change.unpack())
    }

    /// Drops the changes below `bound`.
    pub(super) fn trim(&mut self, bound: ChangeId) {
        let Some(oldest) = self.first_from(bound) else {
            self.0 = None;
            return;
        };
        let mut link = &mut self.0;
        while let Some(chunk) = link {
            if chunk.oldest >= bound {
                return;
            }
            let chunk = Arc::make_mut(chunk);
            chunk.oldest = oldest;
            if chunk.before.as_ref().is_some_and(|before| before.newest() < bound) {
                chunk.before = None;
            }
            if chunk.before.is_none() {
                let below = chunk.changes.partition_point(|change| change.id() < bound);
                chunk.changes.drain(..below);
                chunk.changes.shrink_to_fit();
            }
            link = &mut chunk.before;
        }
    }

    /// The first change at or above `bound`.
    fn first_from(&self, bound: ChangeId) -> Option<ChangeId> {
        let chunk = self.chunks().take_while(|chunk| chunk.newest() >= bound).last()?;
        let below = chunk.changes.partition_point(|change| change.id() < bound);
        chunk.changes.get(below).map(|change| change.id())
    }

    /// Newest first.
    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        std::iter::successors(self.0.as_deref(), |chunk| chunk.before.as_deref())
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        let header = size_of::<Chunk>() + 2 * size_of::<usize>() + ALLOCATION;
        self.chunks().map(|chunk| header + heap_bytes(&chunk.changes)).sum()
    }
}

impl Chunk {
    fn newest(&self) -> ChangeId {
        self.changes.last().map_or(self.oldest, |change| change.id())
    }
}

impl Clone for Chunk {
    fn clone(&self) -> Chunk {
        Chunk { changes: super::keys::clone_with_room(&self.changes), oldest: self.oldest, before: self.before.clone() }
    }
}

impl Drop for Chunk {
    /// One chunk after the other: dropping a long list by recursion would overflow the stack.
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(mut chunk) = next.and_then(Arc::into_inner) {
            next = chunk.before.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(revision: i64, sub: u32) -> ChangeId {
        ChangeId { revision: Revision::new(revision).unwrap(), sub }
    }

    /// Changes 10/0, 10/1, 20/0, 20/1, ..: the second of each revision is a tombstone.
    fn past(revisions: i64) -> Past {
        let mut past = Past::default();
        for revision in 1..=revisions {
            past.push(Packed::new(KeyChange { id: id(revision * 10, 0), tombstone: false }));
            past.push(Packed::new(KeyChange { id: id(revision * 10, 1), tombstone: true }));
        }
        past
    }

    #[test]
    fn the_newest_at_a_revision_is_the_last_of_it() {
        let past = past(1_000);
        assert_eq!(past.oldest(), Some(id(10, 0)));
        assert_eq!(past.newest_at(Revision::new(9).unwrap()), None);
        for n in 10..10_020 {
            let found = past.newest_at(Revision::new(n).unwrap()).unwrap();
            assert_eq!(found, KeyChange { id: id((n / 10 * 10).min(10_000), 1), tombstone: true });
        }
    }

    #[test]
    fn trimming_leaves_copies_alone() {
        for keep in [1, 2, 63, 64, 65, 128, 129, 300] {
            let whole = past(150);
            let all: Vec<_> = whole.iter().collect();
            let mut trimmed = whole.clone();
            trimmed.trim(all[keep - 1].id);
            assert_eq!(trimmed.iter().collect::<Vec<_>>(), all[..keep]);
            assert_eq!(trimmed.oldest(), Some(all[keep - 1].id));
            assert_eq!(whole.iter().collect::<Vec<_>>(), all);
            assert_eq!(whole.oldest(), Some(id(10, 0)));
            trimmed.push(Packed::new(KeyChange { id: id(5_000, 0), tombstone: false }));
            assert_eq!(trimmed.iter().count(), keep + 1);
            trimmed.trim(id(6_000, 0));
            assert_eq!((trimmed.iter().count(), trimmed.oldest()), (0, None));
        }
    }

    #[test]
    fn an_older_change_takes_little_more_than_16_bytes() {
        let past = past(10_000);
        assert!(past.memory_bytes() <= 20_000 * 18, "{}", past.memory_bytes());
    }

    #[test]
    fn a_very_long_one_is_dropped_without_recursion() {
        let whole = past(2_000_000);
        let copy = whole.clone();
        drop(whole);
        assert_eq!(copy.oldest(), Some(id(10, 0)));
        drop(copy);
    }
}
