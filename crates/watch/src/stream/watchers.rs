//! The watchers of a stream: by key, by id, and by what they watch.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::filter::Lengths;
use crate::span::{Span, SpanKind};
use crate::tree::{IntervalTree, Spans};
use crate::watcher::{Key, Watcher};

/// Slots are allocated so many at a time, so that a large stream does not hold twice what it needs.
const BLOCK: usize = 128;

pub(super) struct Watchers {
    slots: Slots,
    /// By id.
    ids: HashTable<u32>,
    /// The first of each chain of watchers of one key, or of one prefix.
    exact: HashTable<u32>,
    /// Prefixes in use.
    lengths: Lengths,
    /// The first of each chain of watchers of one interval.
    intervals: IntervalTree,
    keyed: RandomState,
}

/// What became of the chains when a watcher came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// It is alone in its range.
    Alone,
    /// Others watch just the same range.
    Shared,
}

impl Watchers {
    pub(super) fn new(keyed: RandomState) -> Watchers {
        Watchers {
            slots: Slots::default(),
            ids: HashTable::new(),
            exact: HashTable::new(),
            lengths: Lengths::default(),
            intervals: IntervalTree::default(),
            keyed,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(super) fn get(&self, key: Key) -> Option<&Watcher> {
        let slot = self.slots.get(key.slot)?;
        (slot.generation == key.generation).then_some(&slot.watcher)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Watcher> {
        let slot = self.slots.get_mut(key.slot)?;
        (slot.generation == key.generation).then_some(&mut slot.watcher)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Watcher)> {
        self.slots.iter()
    }

    pub(super) fn by_id(&self, id: i64) -> Option<Key> {
        let found = self.ids.find(self.keyed.hash_one(id), |slot| self.slots.id(*slot) == Some(id))?;
        self.slots.key(*found)
    }

    pub(super) fn insert(&mut self, watcher: Watcher) -> (Key, Chain) {
        let id = watcher.id;
        let slot = self.slots.put(watcher);
        let (slots, keyed) = (&self.slots, &self.keyed);
        let hash = |slot: &u32| slots.id(*slot).map_or(0, |id| keyed.hash_one(id));
        self.ids.insert_unique(keyed.hash_one(id), slot, hash);
        let chain = self.link(slot);
        (self.slots.key(slot).unwrap_or(Key { slot, generation: 0 }), chain)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<(Watcher, Chain)> {
        let id = self.get(key)?.id;
        let (slots, keyed) = (&self.slots, &self.keyed);
        if let Ok(entry) = self.ids.find_entry(keyed.hash_one(id), |slot| slots.id(*slot) == Some(id)) {
            entry.remove();
        }
        let chain = self.unlink(key.slot);
        self.shrink();
        Some((self.slots.take(key.slot)?, chain))
    }

    /// Calls `found` with the first of each chain of watchers whose range has `key` in it.
    pub(super) fn chains(&self, key: &[u8], mut found: impl FnMut(u32)) {
        self.look_up(SpanKind::Key, key, &mut found);
        for &(len, _) in &self.lengths.0 {
            let Some(prefix) = key.get(..len) else { break };
            self.look_up(SpanKind::Prefix, prefix, &mut found);
        }
        self.intervals.stab(key, &self.slots, &mut found);
    }

    fn look_up(&self, kind: SpanKind, bytes: &[u8], found: &mut impl FnMut(u32)) {
        if self.exact.is_empty() {
            return;
        }
        let hash = self.keyed.hash_one((kind, bytes));
        let is_it = |slot: &u32| self.slots.span(*slot).is_some_and(|s| s.kind() == kind && s.start() == bytes);
        if let Some(&first) = self.exact.find(hash, is_it) {
            found(first);
        }
    }

    /// Calls `each` with every watcher of a chain.
    pub(super) fn each_of_chain(&mut self, first: u32, mut each: impl FnMut(Key, &mut Watcher)) {
        let mut slot = first;
        loop {
            let Some(at) = self.slots.get_mut(slot) else { return };
            let key = Key { slot, generation: at.generation };
            let Some(watcher) = &mut at.watcher else { return };
            let next = watcher.next;
            each(key, watcher);
            if next == first {
                return;
            }
            slot = next;
        }
    }

    /// Every watcher of a chain.
    pub(super) fn chain(&self, first: u32) -> impl Iterator<Item = (Key, &Watcher)> {
        let next = move |slot: &u32| self.slots.next(*slot).filter(|next| *next != first);
        std::iter::successors(Some(first), next).filter_map(|slot| {
            let key = self.slots.key(slot)?;
            Some((key, self.get(key)?))
        })
    }

    /// Adds a slot to the chain of its range, at the end, or begins one.
    fn link(&mut self, slot: u32) -> Chain {
        let Watchers { slots, exact, lengths, intervals, keyed, .. } = self;
        let Some(span) = slots.span(slot) else { return Chain::Alone };
        let first = match span.kind() {
            SpanKind::Key | SpanKind::Prefix => {
                let hash = keyed.hash_one((span.kind(), span.start()));
                let rehash = |slot: &u32| slots.span(*slot).map_or(0, |s| keyed.hash_one((s.kind(), s.start())));
                match exact.entry(hash, |other| slots.span(*other) == Some(span), rehash) {
                    Entry::Occupied(entry) => Some(*entry.get()),
                    Entry::Vacant(_) if span.kind() == SpanKind::Prefix && !lengths.add(span.start().len()) => {
                        // Too many lengths: this one is looked up as an interval.
                        let interval = span.clone().into_interval();
                        slots.set_span(slot, interval);
                        return self.link(slot);
                    }
                    Entry::Vacant(entry) => {
                        entry.insert(slot);
                        None
                    }
                }
            }
            SpanKind::From | SpanKind::Interval => {
                let found = intervals.find(span, slots);
                if found.is_none() {
                    intervals.insert(slot, keyed.hash_one(span) as u32, slots);
                }
                found
            }
        };
        match first {
            Some(first) => {
                self.slots.chain_behind(first, slot);
                Chain::Shared
            }
            None => Chain::Alone,
        }
    }

    fn unlink(&mut self, slot: u32) -> Chain {
        let Watchers { slots, exact, lengths, intervals, keyed, .. } = self;
        let Some(span) = slots.span(slot) else { return Chain::Alone };
        let next = slots.next(slot).filter(|next| *next != slot);
        match span.kind() {
            SpanKind::Key | SpanKind::Prefix => {
                let hash = keyed.hash_one((span.kind(), span.start()));
                if let Ok(mut entry) = exact.find_entry(hash, |other| *other == slot) {
                    match next {
                        Some(next) => *entry.get_mut() = next,
                        None => drop(entry.remove()),
                    }
                }
                if next.is_none() && span.kind() == SpanKind::Prefix {
                    lengths.remove(span.start().len());
                }
            }
            SpanKind::From | SpanKind::Interval => match next {
                None => intervals.remove(slot, slots),
                Some(next) if intervals.find(span, slots) == Some(slot) => intervals.replace(slot, next, slots),
                Some(_) => {}
            },
        }
        self.slots.unchain(slot);
        if next.is_some() { Chain::Shared } else { Chain::Alone }
    }

    /// Gives memory back when most watchers are gone.
    fn shrink(&mut self) {
        let Watchers { slots, ids, exact, keyed, .. } = self;
        if ids.capacity() > 256 && ids.len() < ids.capacity() / 8 {
            ids.shrink_to(ids.len() * 2, |slot| slots.id(*slot).map_or(0, |id| keyed.hash_one(id)));
        }
        if exact.capacity() > 256 && exact.len() < exact.capacity() / 8 {
            let hash = |slot: &u32| slots.span(*slot).map_or(0, |s| keyed.hash_one((s.kind(), s.start())));
            exact.shrink_to(exact.len() * 2, hash);
        }
    }
}

/// Places of watchers. A place that is free again is used again, under another generation.
#[derive(Default)]
struct Slots {
    blocks: Vec<Vec<Slot>>,
    free: Vec<u32>,
}

struct Slot {
    watcher: Option<Watcher>,
    generation: u32,
    /// In the ring of its range, the one before; the one behind is in the watcher, where there is room for it.
    previous: u32,
}

impl Slots {
    fn get(&self, slot: u32) -> Option<&Slot> {
        self.blocks.get(slot as usize / BLOCK)?.get(slot as usize % BLOCK)
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.blocks.get_mut(slot as usize / BLOCK)?.get_mut(slot as usize % BLOCK)
    }

    fn watcher(&self, slot: u32) -> Option<&Watcher> {
        self.get(slot)?.watcher.as_ref()
    }

    fn id(&self, slot: u32) -> Option<i64> {
        self.watcher(slot).map(|watcher| watcher.id)
    }

    fn key(&self, slot: u32) -> Option<Key> {
        self.get(slot).map(|at| Key { slot, generation: at.generation })
    }

    fn next(&self, slot: u32) -> Option<u32> {
        self.watcher(slot).map(|watcher| watcher.next)
    }

    fn set_next(&mut self, slot: u32, next: u32) {
        if let Some(watcher) = self.get_mut(slot).and_then(|at| at.watcher.as_mut()) {
            watcher.next = next;
        }
    }

    fn set_span(&mut self, slot: u32, span: Span) {
        if let Some(watcher) = self.get_mut(slot).and_then(|at| at.watcher.as_mut()) {
            watcher.span = span;
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Key, &Watcher)> {
        self.blocks.iter().flatten().enumerate().filter_map(|(slot, at)| {
            let watcher = at.watcher.as_ref()?;
            Some((Key { slot: slot as u32, generation: at.generation }, watcher))
        })
    }

    fn put(&mut self, mut watcher: Watcher) -> u32 {
        if let Some(slot) = self.free.pop() {
            if let Some(at) = self.get_mut(slot) {
                (watcher.next, at.previous) = (slot, slot);
                at.watcher = Some(watcher);
            }
            return slot;
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            // The first one grows, since most streams are small.
            self.blocks.push(if self.blocks.is_empty() { Vec::new() } else { Vec::with_capacity(BLOCK) });
        }
        let before = (self.blocks.len() - 1) * BLOCK;
        let Some(block) = self.blocks.last_mut() else { return 0 };
        let slot = (before + block.len()) as u32;
        watcher.next = slot;
        block.push(Slot { watcher: Some(watcher), generation: 0, previous: slot });
        slot
    }

    fn take(&mut self, slot: u32) -> Option<Watcher> {
        let at = self.get_mut(slot)?;
        let watcher = at.watcher.take()?;
        at.generation = at.generation.wrapping_add(1);
        self.free.push(slot);
        Some(watcher)
    }

    /// Puts `slot` at the end of the ring that `first` begins.
    fn chain_behind(&mut self, first: u32, slot: u32) {
        let Some(last) = self.get(first).map(|at| at.previous) else { return };
        if let Some(at) = self.get_mut(slot) {
            at.previous = last;
        }
        self.set_next(slot, first);
        self.set_next(last, slot);
        if let Some(at) = self.get_mut(first) {
            at.previous = slot;
        }
    }

    fn unchain(&mut self, slot: u32) {
        let (Some(previous), Some(next)) = (self.get(slot).map(|at| at.previous), self.next(slot)) else { return };
        self.set_next(previous, next);
        if let Some(at) = self.get_mut(next) {
            at.previous = previous;
        }
    }
}

impl Spans for Slots {
    fn span(&self, item: u32) -> Option<&Span> {
        self.watcher(item).map(|watcher| &watcher.span)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    use stentor_proto::{KeyRange, Revision};

    use super::*;
    use crate::watcher::Options;

    fn watcher(id: i64, range: &KeyRange) -> Watcher {
        Watcher::new(id, Span::of(range), Revision::FIRST, Options::default())
    }

    #[test]
    fn an_idle_watcher_is_small() {
        assert_eq!(size_of::<Slot>(), 64);
    }

    fn matching(watchers: &mut Watchers, key: &[u8]) -> Vec<i64> {
        let mut firsts = Vec::new();
        watchers.chains(key, |first| firsts.push(first));
        let mut found = Vec::new();
        for first in firsts {
            watchers.each_of_chain(first, |_, watcher| found.push(watcher.id));
        }
        found.sort_unstable();
        found
    }

    #[test]
    fn it_finds_what_looking_at_each_watcher_finds() {
        let random = &mut SmallRng::seed_from_u64(11);
        let text = |random: &mut SmallRng| -> Vec<u8> {
            (0..random.random_range(1..4)).map(|_| random.random_range(b'a'..b'd')).collect()
        };
        let mut watchers = Watchers::new(RandomState::new());
        let mut all: BTreeMap<i64, (Key, KeyRange)> = BTreeMap::new();
        let mut ranges: Vec<KeyRange> = Vec::new();
        let (mut found_any, mut shared) = (0, 0);
        for id in 0..3_000i64 {
            let range = match random.random_range(0..6) {
                0 => KeyRange::key(text(random)),
                1 => KeyRange::prefix(text(random)),
                2 => KeyRange::from_key(text(random)),
                3 => KeyRange::interval(text(random), text(random)),
                _ if ranges.is_empty() => KeyRange::all(),
                // One that others have.
                _ => ranges[random.random_range(0..ranges.len())].clone(),
            };
            if !range.is_empty() {
                let same = all.values().any(|(_, r)| *r == range);
                let (key, chain) = watchers.insert(watcher(id, &range));
                assert_eq!(chain == Chain::Shared, same);
                shared += usize::from(same);
                ranges.push(range.clone());
                all.insert(id, (key, range));
            }
            while all.len() > 200 || (id > 2_700 && !all.is_empty() && random.random()) {
                let id = *all.keys().nth(random.random_range(0..all.len())).unwrap();
                let (key, range) = all.remove(&id).unwrap();
                let (gone, chain) = watchers.remove(key).unwrap();
                assert_eq!((gone.id, chain == Chain::Shared), (id, all.values().any(|(_, r)| *r == range)));
                assert!(watchers.get(key).is_none() && watchers.by_id(id).is_none());
                ranges.retain(|r| all.values().any(|(_, there)| there == r));
            }
            let key = text(random);
            let expected: Vec<i64> = all.iter().filter(|(_, (_, r))| r.contains(&key)).map(|(id, _)| *id).collect();
            found_any += expected.len();
            assert_eq!(matching(&mut watchers, &key), expected, "{:?}", key.escape_ascii());
            if let Some((id, (key, _))) = all.first_key_value() {
                assert_eq!(watchers.by_id(*id), Some(*key));
            }
            assert_eq!(watchers.len(), all.len());
        }
        assert!(found_any > 30_000 && shared > 500, "{found_any} {shared}");
    }

    #[test]
    fn prefixes_of_many_lengths_are_found_too() {
        let mut watchers = Watchers::new(RandomState::new());
        let key = "k".repeat(200);
        let prefix = |len: i64| KeyRange::prefix(key[..len as usize].to_owned());
        // Two of each.
        let mut keys: Vec<Key> = (1..=200).map(|id| watchers.insert(watcher(id, &prefix(id))).0).collect();
        keys.extend((1..=200).map(|len| watchers.insert(watcher(1000 + len, &prefix(len))).0));
        assert_eq!(watchers.lengths.0.len(), 64);
        assert_eq!(matching(&mut watchers, key.as_bytes()).len(), 400);
        assert_eq!(matching(&mut watchers, b"kkk"), [1, 2, 3, 1001, 1002, 1003]);
        for key in keys.into_iter().rev() {
            watchers.remove(key).unwrap();
        }
        assert!(watchers.is_empty() && watchers.lengths.0.is_empty() && watchers.exact.is_empty());
        assert!(matching(&mut watchers, key.as_bytes()).is_empty());
    }

    #[test]
    fn a_watcher_of_one_key_takes_about_a_hundred_bytes() {
        assert!(size_of::<Slot>() <= 96, "{}", size_of::<Slot>());
    }
}
