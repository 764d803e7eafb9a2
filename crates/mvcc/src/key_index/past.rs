use std::sync::Arc;

use stentor_proto::Revision;

use super::KeyChange;
use super::keys::{ALLOCATION, heap_bytes};
use crate::ChangeId;

/// A chunk this long is never changed again.
const CHUNK: usize = 64;

/// The changes of a key before its newest one. Appending costs at most the copy of one chunk,
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
struct Packed {
    revision: Revision,
    sub: u32,
    tombstone: bool,
}

impl Packed {
    fn id(self) -> ChangeId {
        ChangeId { revision: self.revision, sub: self.sub }
    }

    fn unpack(self) -> KeyChange {
        KeyChange { id: self.id(), tombstone: self.tombstone }
    }
}

impl Past {
    /// Appends a change above all others.
    pub(super) fn push(&mut self, change: KeyChange) {
        let packed = Packed { revision: change.id.revision, sub: change.id.sub, tombstone: change.tombstone };
        match &mut self.0 {
            Some(head) if head.changes.len() < CHUNK => {
                let changes = &mut Arc::make_mut(head).changes;
                if changes.len() == changes.capacity() {
                    changes.reserve_exact(changes.len().div_ceil(2));
                }
                changes.push(packed);
            }
            full => {
                let before = full.take();
                let oldest = before.as_ref().map_or(change.id, |chunk| chunk.oldest);
                let mut changes = Vec::new();
                // A key that has filled a chunk is likely to fill another.
                changes.reserve_exact(if before.is_some() { CHUNK / 4 } else { 1 });
                changes.push(packed);
                *full = Some(Arc::new(Chunk { changes, oldest, before }));
            }
        }
    }

    /// The newest change at or below `at`.
    pub(super) fn newest_at(&self, at: Revision) -> Option<KeyChange> {
        let chunk = self.chunks().find(|chunk| chunk.changes.first().is_some_and(|first| first.revision <= at))?;
        let above = chunk.changes.partition_point(|change| change.revision <= at);
        chunk.changes[..above].last().map(|change| change.unpack())
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
