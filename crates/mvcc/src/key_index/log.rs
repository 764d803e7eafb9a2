use std::sync::Arc;

use stentor_proto::{KeyRange, Revision};

use super::keys::{ALLOCATION, Keys, clone_with_room, heap_bytes};
use super::reached::{Point, reached};

/// The newest of the changes that made a key live (+1) or ended that (-1), so that the number of keys
/// at a recent revision follows from the number now.
///
/// The last few are a list in order of time; older ones are in blocks sorted by key with prefix sums,
/// so that a block that is newer than the revision asked for costs two binary searches. As in a
/// log-structured merge tree, blocks of one level become one of the next, so there are few of them.
/// Cloning shares everything.
#[derive(Clone, Debug)]
pub(super) struct Log {
    limits: LogLimits,
    tail: Arc<Tail>,
    levels: Arc<Levels>,
    /// Every transition above this revision is here.
    floor: Revision,
}

/// How much a [`Log`] keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLimits {
    /// Transitions in the tail, and so in a block of the first level.
    pub(super) tail: usize,
    /// Blocks of one level that become one of the next.
    pub(super) fan: usize,
    /// Bytes of the keys in the tail, but for the last of them: a write copies the tail.
    pub(super) tail_bytes: usize,
    /// Bytes of all keys.
    pub(super) bytes: usize,
}

impl LogLimits {
    /// 32 transitions in the tail, then blocks of 32, 512 and 8,192: 131,072 and a few in all.
    pub(super) const DEFAULT: LogLimits = LogLimits { tail: 32, fan: 16, tail_bytes: 16 << 10, bytes: 32 << 20 };
}

const LEVELS: usize = 3;

/// Transitions in order of time.
#[derive(Debug, Default)]
struct Tail {
    keys: Keys,
    transitions: Vec<(Revision, i32)>,
}

/// Blocks by level, oldest first in each; those of a higher level are older.
#[derive(Clone, Debug, Default)]
struct Levels {
    blocks: [Vec<Arc<Block>>; LEVELS],
    /// Of all keys.
    bytes: usize,
}

/// Transitions in order of their keys.
#[derive(Debug)]
struct Block {
    keys: Keys,
    revisions: Vec<Revision>,
    /// What the transitions before each, and at last all, add up to.
    sums: Vec<i32>,
    first: Revision,
    last: Revision,
}

impl Log {
    /// An empty log of what happens above `floor`.
    pub(super) fn new(limits: LogLimits, floor: Revision) -> Log {
        Log { limits, tail: Arc::default(), levels: Arc::default(), floor }
    }

    /// Every transition above this revision is known.
    pub(super) fn floor(&self) -> Revision {
        self.floor
    }

    /// Notes that `key` became live or ceased to be.
    pub(super) fn note(&mut self, key: &[u8], at: Revision, live: bool) {
        let tail = Arc::make_mut(&mut self.tail);
        tail.keys.push(key);
        tail.transitions.push((at, if live { 1 } else { -1 }));
        let full = tail.transitions.len() >= self.limits.tail || tail.keys.bytes() >= self.limits.tail_bytes;
        if full {
            self.seal();
        }
    }

    /// Makes the tail a block.
    fn seal(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        let levels = Arc::make_mut(&mut self.levels);
        levels.bytes += tail.keys.bytes();
        let [first, ..] = &mut levels.blocks;
        first.push(Arc::new(Block::new(tail.iter().collect())));
        for level in 0..LEVELS - 1 {
            if levels.blocks[level].len() >= self.limits.fan {
                let merged = std::mem::take(&mut levels.blocks[level]);
                let all = merged.iter().flat_map(|block| block.iter()).collect();
                levels.blocks[level + 1].push(Arc::new(Block::new(all)));
            }
        }
        while levels.blocks[LEVELS - 1].len() > self.limits.fan || levels.bytes > self.limits.bytes {
            let Some(oldest) = levels.drop_oldest() else { break };
            self.floor = self.floor.max(oldest.last);
        }
    }

    /// What the transitions of keys in `range` after `at`, which is not below the floor, add up to.
    pub(super) fn sum_after(&self, range: &KeyRange, at: Revision) -> i64 {
        let newer = self.tail.iter().rev().take_while(|(_, revision, _)| *revision > at);
        let mut sum: i64 = newer.filter(|(key, ..)| range.contains(key)).map(|(.., delta)| i64::from(delta)).sum();
        let blocks = self.levels.blocks.iter().flat_map(|level| level.iter().rev());
        for block in blocks.take_while(|block| block.last > at) {
            sum += block.sum_after(range, at);
        }
        sum
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        let blocks = self.levels.blocks.iter();
        let levels: usize =
            blocks.map(|level| heap_bytes(level) + level.iter().map(|block| block.memory_bytes()).sum::<usize>()).sum();
        let headers = size_of::<Tail>() + size_of::<Levels>() + 4 * size_of::<usize>() + 2 * ALLOCATION;
        headers + self.tail.keys.memory_bytes() + heap_bytes(&self.tail.transitions) + levels
    }
}

impl Tail {
    fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], Revision, i32)> {
        let transitions = self.transitions.iter().enumerate();
        transitions.map(|(i, &(revision, delta))| (self.keys.get(i), revision, delta))
    }
}

impl Clone for Tail {
    fn clone(&self) -> Tail {
        Tail { keys: self.keys.clone(), transitions: clone_with_room(&self.transitions) }
    }
}

impl Levels {
    fn drop_oldest(&mut self) -> Option<Arc<Block>> {
        let level = self.blocks.iter_mut().rev().find(|level| !level.is_empty())?;
        let oldest = level.remove(0);
        self.bytes -= oldest.keys.bytes();
        reached(Point::BlockDropped);
        Some(oldest)
    }
}

impl Block {
    fn new(mut transitions: Vec<(&[u8], Revision, i32)>) -> Block {
        let revisions = || transitions.iter().map(|(_, revision, _)| *revision);
        let (first, last) = (revisions().min().unwrap_or_default(), revisions().max().unwrap_or_default());
        // The sort finds the runs that blocks merged here already are.
        transitions.sort_by_key(|(key, ..)| *key);
        let bytes = transitions.iter().map(|(key, ..)| key.len()).sum();
        let mut keys = Keys::with_capacity(transitions.len(), bytes);
        let mut sums = Vec::with_capacity(transitions.len() + 1);
        let mut sum = 0;
        sums.push(sum);
        for (key, _, delta) in &transitions {
            keys.push(key);
            sum += delta;
            sums.push(sum);
        }
        let revisions = transitions.iter().map(|(_, revision, _)| *revision).collect();
        Block { keys, revisions, sums, first, last }
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], Revision, i32)> {
        let revisions = self.revisions.iter().enumerate();
        revisions.map(|(i, &revision)| (self.keys.get(i), revision, self.sums[i + 1] - self.sums[i]))
    }

    fn sum_after(&self, range: &KeyRange, at: Revision) -> i64 {
        let from = self.keys.partition_point(|key| key < &range.start()[..]);
        let to = self.keys.partition_point(|key| !range.ends_before(key)).max(from);
        if self.first > at {
            reached(Point::BlockWhole);
            return i64::from(self.sums[to] - self.sums[from]);
        }
        // At most one block has both: this is not repeated.
        reached(Point::BlockPart);
        let part = self.revisions[from..to].iter().zip(self.sums[from..=to].windows(2));
        part.filter(|(revision, _)| **revision > at).map(|(_, sums)| i64::from(sums[1] - sums[0])).sum()
    }

    fn memory_bytes(&self) -> usize {
        let header = size_of::<Block>() + 2 * size_of::<usize>() + ALLOCATION;
        header + self.keys.memory_bytes() + heap_bytes(&self.revisions) + heap_bytes(&self.sums)
    }
}
