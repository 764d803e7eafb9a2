use std::sync::Arc;

use stentor_proto::KeyRange;

use super::edit::Changed;
use super::entry::{Edit, Entry, Head};
use super::keys::{ALLOCATION, Keys, clone_with_room, fit, heap_bytes, make_room};
use super::node::{Clip, Summary};
use super::past::{Packed, Past};
use super::reached::{Point, reached};
use super::{Generation, KeyChange};
use crate::ChangeId;

/// As many changes before its newest a key has in the leaf itself.
const RECENT: usize = 8;

/// Keys and their changes, in order.
///
/// The few changes before the newest that most keys have lie in the leaf, so that copying it touches no
/// other memory. Those of a key that changes often go to a list of their own from time to time.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    pub(super) keys: Keys,
    heads: Vec<Head>,
    /// The changes before the heads, key by key.
    recent: Vec<Packed>,
    /// For each key those before the recent ones; `None` if no key has any.
    past: Option<Arc<Vec<Past>>>,
}

impl Leaf {
    pub(super) const EMPTY: &Leaf = &Leaf { keys: Keys::EMPTY, heads: Vec::new(), recent: Vec::new(), past: None };

    /// Room for as much as `other` has.
    pub(super) fn with_room_of(other: &Leaf) -> Leaf {
        Leaf {
            keys: Keys::with_capacity(other.len(), other.keys.bytes()),
            heads: Vec::with_capacity(other.len()),
            recent: Vec::with_capacity(other.recent.len()),
            past: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    /// The positions of the keys in `range`.
    pub(super) fn span(&self, range: &KeyRange, clip: Clip) -> (usize, usize) {
        let from = if clip.left { self.keys.partition_point(|key| key < &range.start()[..]) } else { 0 };
        let to = if clip.right { self.keys.partition_point(|key| !range.ends_before(key)) } else { self.keys.len() };
        (from, to.max(from))
    }

    /// The changes of the key at `i`, which is in bounds.
    pub(super) fn entry(&self, i: usize) -> Entry<'_> {
        let (from, to) = self.recent_span(i);
        let past = self.past.as_ref().map(|past| &past[i]);
        Entry { head: &self.heads[i], recent: &self.recent[from..to], past }
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.keys.search(key).ok().map(|i| self.entry(i))
    }

    pub(super) fn summary_of(&self, i: usize) -> Summary {
        let entry = self.entry(i);
        let (live, newest) = (u64::from(entry.head.is_live()), entry.head.revision());
        Summary { live, newest, oldest: entry.oldest().revision }
    }

    pub(super) fn summary(&self) -> Summary {
        (0..self.len()).map(|i| self.summary_of(i)).fold(Summary::EMPTY, Summary::add)
    }

    /// Adds a change; also tells whether the key is a new one at the end.
    pub(super) fn change(&mut self, key: &[u8], at: ChangeId, edit: Edit) -> (Changed, bool) {
        match self.keys.search(key) {
            Ok(i) => {
                let (before, generation) = (self.heads[i].change(), self.heads[i].generation());
                let after = edit.apply(generation, at);
                self.push_recent(i, Packed::new(before));
                self.heads[i] = Head::new(at, after, self.heads[i].recent_end);
                (Changed { before: Some((before, generation)), after }, false)
            }
            Err(i) => {
                let after = edit.apply(None, at);
                self.insert(i, key, at, after);
                (Changed { before: None, after }, i + 1 == self.len())
            }
        }
    }

    fn insert(&mut self, i: usize, key: &[u8], at: ChangeId, generation: Option<Generation>) {
        let recent_end = self.recent_before(i);
        self.keys.insert(i, key);
        make_room(&mut self.heads, 1);
        self.heads.insert(i, Head::new(at, generation, recent_end as u32));
        if let Some(past) = &mut self.past {
            Arc::make_mut(past).insert(i, Past::default());
        }
    }

    /// Adds a key above all others with its newest change and, newest first, those before.
    pub(super) fn push(&mut self, key: &[u8], at: ChangeId, generation: Option<Generation>, before: &[KeyChange]) {
        let i = self.len();
        self.insert(i, key, at, generation);
        for change in before.iter().rev() {
            self.push_recent(i, Packed::new(*change));
        }
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, i: usize) {
        self.drain_recent(i, usize::MAX);
        self.keys.remove(i);
        self.heads.remove(i);
        if let Some(past) = &mut self.past {
            Arc::make_mut(past).remove(i);
        }
        self.tidy();
    }

    /// Drops the changes of a key below `bound`, which is not above its newest.
    pub(super) fn trim(&mut self, i: usize, bound: ChangeId) {
        let (from, to) = self.recent_span(i);
        let below = self.recent[from..to].partition_point(|change| change.id() < bound);
        self.drain_recent(i, below);
        if let Some(past) = &mut self.past
            && !past[i].is_empty()
        {
            Arc::make_mut(past)[i].trim(bound);
        }
        self.tidy();
    }

    /// Takes the keys from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Leaf {
        let start = self.recent_before(at);
        let keys = self.keys.split_off(at);
        let mut heads = self.heads.split_off(at);
        for head in &mut heads {
            head.recent_end -= start as u32;
        }
        let recent = self.recent.split_off(start);
        let past = self.past.as_mut().map(|past| Arc::new(Arc::make_mut(past).split_off(at)));
        let mut right = Leaf { keys, heads, recent, past };
        right.tidy();
        self.tidy();
        self.fit();
        right
    }

    /// Adds all keys of `right`, which are above.
    pub(super) fn append(&mut self, right: Leaf) {
        if self.past.is_some() || right.past.is_some() {
            let more = right.past.map_or_else(|| vec![Past::default(); right.heads.len()], Arc::unwrap_or_clone);
            self.past_mut().extend(more);
        }
        self.keys.append(&right.keys);
        let start = self.recent.len() as u32;
        make_room(&mut self.recent, right.recent.len());
        self.recent.extend(right.recent);
        make_room(&mut self.heads, right.heads.len());
        for mut head in right.heads {
            head.recent_end += start;
            self.heads.push(head);
        }
    }

    /// Adds a change just before the head of a key.
    fn push_recent(&mut self, i: usize, change: Packed) {
        let (from, to) = self.recent_span(i);
        if to - from >= RECENT {
            reached(Point::RecentSpilled);
            let spilled: Vec<Packed> = self.recent[from..to].to_vec();
            let past = &mut self.past_mut()[i];
            for change in spilled {
                past.push(change);
            }
            self.drain_recent(i, RECENT);
        }
        make_room(&mut self.recent, 1);
        self.recent.insert(self.heads[i].recent_end as usize, change);
        for head in &mut self.heads[i..] {
            head.recent_end += 1;
        }
    }

    /// Removes the first `n` recent changes of a key, or all if there are fewer.
    fn drain_recent(&mut self, i: usize, n: usize) {
        let (from, to) = self.recent_span(i);
        let n = n.min(to - from);
        self.recent.drain(from..from + n);
        for head in &mut self.heads[i..] {
            head.recent_end -= n as u32;
        }
    }

    fn recent_before(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.heads[i - 1].recent_end as usize }
    }

    fn recent_span(&self, i: usize) -> (usize, usize) {
        (self.recent_before(i), self.heads[i].recent_end as usize)
    }

    fn past_mut(&mut self) -> &mut Vec<Past> {
        let len = self.heads.len();
        Arc::make_mut(self.past.get_or_insert_with(|| Arc::new(vec![Past::default(); len])))
    }

    /// Gives back what is not needed any more, where it is worth it.
    fn tidy(&mut self) {
        if self.past.as_ref().is_some_and(|past| past.iter().all(Past::is_empty)) {
            self.past = None;
        }
        if self.heads.len() * 2 < self.heads.capacity() || self.recent.len() * 2 < self.recent.capacity() {
            self.fit();
        }
    }

    /// Gives room that is not needed back.
    pub(super) fn fit(&mut self) {
        self.keys.fit();
        fit(&mut self.heads);
        fit(&mut self.recent);
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        let past = self.past.as_ref().map_or(0, |past| {
            let header = size_of::<Vec<Past>>() + 2 * size_of::<usize>() + ALLOCATION;
            header + heap_bytes(past) + past.iter().map(Past::memory_bytes).sum::<usize>()
        });
        self.keys.memory_bytes() + heap_bytes(&self.heads) + heap_bytes(&self.recent) + past
    }
}

impl Clone for Leaf {
    fn clone(&self) -> Leaf {
        Leaf {
            keys: self.keys.clone(),
            heads: clone_with_room(&self.heads),
            recent: clone_with_room(&self.recent),
            past: self.past.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use stentor_proto::Revision;

    use super::super::Found;
    use super::super::entry::Compaction;
    use super::*;

    /// A key with changes such as "2/0 put, 3/0 delete": `p` and `d` with revision and sub-revision.
    fn leaf(changes: &[(char, i64, u32)]) -> Leaf {
        let mut leaf = Leaf::default();
        for &(kind, revision, sub) in changes {
            let edit = if kind == 'p' { Edit::Put } else { Edit::Set(None) };
            leaf.change(b"key", id(revision, sub), edit);
        }
        leaf
    }

    fn id(revision: i64, sub: u32) -> ChangeId {
        ChangeId { revision: Revision::new(revision).unwrap(), sub }
    }

    /// The changes left by a compaction.
    fn compacted(changes: &[(char, i64, u32)], at: i64) -> Vec<(char, i64, u32)> {
        let mut leaf = leaf(changes);
        match leaf.entry(0).compaction(Revision::new(at).unwrap()) {
            Compaction::Nothing => {}
            Compaction::Trim(bound) => leaf.trim(0, bound),
            Compaction::Remove => return Vec::new(),
        }
        let kind = |change: &KeyChange| if change.tombstone { 'd' } else { 'p' };
        let mut left: Vec<_> = leaf.entry(0).changes().map(|c| (kind(&c), c.id.revision.get(), c.id.sub)).collect();
        left.reverse();
        left
    }

    #[test]
    fn a_put_after_a_tombstone_begins_a_generation() {
        let leaf = leaf(&[('p', 2, 0), ('p', 3, 0), ('d', 4, 0), ('p', 4, 1), ('p', 4, 2)]);
        let entry = leaf.entry(0);
        assert_eq!(entry.head.generation(), Some(Generation { create: id(4, 0).revision, version: 2 }));
        assert_eq!(entry.find(Revision::new(3).unwrap()), Some(Found { change: id(3, 0), newest: None }));
        let newest = entry.head.generation();
        assert_eq!(entry.find(Revision::new(4).unwrap()), Some(Found { change: id(4, 2), newest }));
        assert_eq!(entry.find(Revision::new(1).unwrap()), None);
    }

    #[test]
    fn compaction_keeps_the_newest_below() {
        let changes = [('p', 2, 0), ('p', 4, 0), ('p', 6, 0)];
        assert_eq!(compacted(&changes, 1), changes);
        assert_eq!(compacted(&changes, 3), changes);
        assert_eq!(compacted(&changes, 5), changes[1..]);
        assert_eq!(compacted(&changes, 7), changes[2..]);
    }

    #[test]
    fn compaction_drops_a_tombstone_below_but_not_at_its_revision() {
        let changes = [('p', 2, 0), ('d', 4, 0)];
        assert_eq!(compacted(&changes, 4), changes);
        assert_eq!(compacted(&changes, 5), []);
        let again = [('p', 2, 0), ('d', 4, 0), ('p', 8, 0)];
        assert_eq!(compacted(&again, 4), again);
        assert_eq!(compacted(&again, 5), again[2..]);
    }

    #[test]
    fn compaction_keeps_what_a_watch_from_its_revision_tells() {
        let changes = [('p', 2, 0), ('p', 3, 0), ('d', 4, 0), ('p', 4, 1), ('d', 4, 2), ('p', 9, 0)];
        assert_eq!(compacted(&changes, 4), changes[1..]);
        assert_eq!(compacted(&changes, 5), changes[5..]);
        // What was deleted before has no value to tell.
        let reborn = [('p', 2, 0), ('d', 3, 0), ('p', 4, 0)];
        assert_eq!(compacted(&reborn, 4), reborn[2..]);
    }
}
