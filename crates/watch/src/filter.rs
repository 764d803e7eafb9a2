//! Which streams a changed key can concern, so that all others sleep on.
//!
//! Asked once for every change by the thread that writes, so what it costs is bounded whatever clients
//! choose: one look for the key, one for each length of prefix in use (at most [`MAX_LENGTHS`] of them), and
//! one in a tree that holds few intervals of each stream. It may name a stream too many, never one too few:
//! a stream knows its watchers exactly.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Found;
use stentor_proto::KeyRange;

use crate::span::{Span, SpanKind};
use crate::sync::{Mutex, RwLock};
use crate::tree::{IntervalTree, Spans};

/// Prefixes of more different lengths than this are looked up as intervals.
const MAX_LENGTHS: usize = 64;

/// A stream with more different intervals than this is looked up by one that covers them all.
const MAX_INTERVALS: usize = 64;

const SHARDS: usize = 64;

/// A stream's number in its hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u32);

/// The ranges of all streams.
pub(crate) struct Filter {
    /// Keyed anew in each hub, so that nobody can choose keys that meet.
    keyed: RandomState,
    /// Keys and prefixes, by hash alone. Apart, so that a table that grows holds up little.
    shards: Box<[Mutex<Shard>]>,
    lengths: RwLock<Lengths>,
    intervals: RwLock<Intervals>,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter {
            keyed: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            lengths: RwLock::default(),
            intervals: RwLock::default(),
        }
    }
}

impl Filter {
    /// The hash that keys and prefixes are looked up by, here and in the streams.
    pub(crate) fn hash(&self, kind: SpanKind, bytes: &[u8]) -> u64 {
        self.keyed.hash_one((kind, bytes))
    }

    /// The state of that hash.
    pub(crate) fn keyed(&self) -> &RandomState {
        &self.keyed
    }

    /// From now on changes in `span` concern `stream`. A stream adds each of its ranges once.
    pub(crate) fn add(&self, stream: StreamId, span: &Span) {
        match span.kind() {
            SpanKind::Key => self.add_hashed(stream, span),
            SpanKind::Prefix if self.lengths.write().add(span.start().len()) => self.add_hashed(stream, span),
            SpanKind::Prefix | SpanKind::From | SpanKind::Interval => {
                self.intervals.write().add(stream, span, &self.keyed);
            }
        }
    }

    /// Undoes [`Filter::add`].
    pub(crate) fn remove(&self, stream: StreamId, span: &Span) {
        let hashed = matches!(span.kind(), SpanKind::Key | SpanKind::Prefix);
        if hashed && self.remove_hashed(stream, span) {
            if span.kind() == SpanKind::Prefix {
                self.lengths.write().remove(span.start().len());
            }
            return;
        }
        self.intervals.write().remove(stream, span);
    }

    fn add_hashed(&self, stream: StreamId, span: &Span) {
        let hash = self.hash(span.kind(), span.start());
        if let Some(shard) = self.shard(hash) {
            shard.lock().add(hash as u32, stream);
        }
    }

    fn remove_hashed(&self, stream: StreamId, span: &Span) -> bool {
        let hash = self.hash(span.kind(), span.start());
        self.shard(hash).is_some_and(|shard| shard.lock().remove(hash as u32, stream))
    }

    /// By the half of the hash that a table does not see.
    fn shard(&self, hash: u64) -> Option<&Mutex<Shard>> {
        self.shards.get((hash >> 32) as usize % SHARDS)
    }

    /// Calls `found` with each stream that a change of `key` can concern, maybe more than once.
    pub(crate) fn concerned(&self, key: &[u8], mut found: impl FnMut(StreamId)) {
        self.look_up(SpanKind::Key, key, &mut found);
        let lengths = self.lengths.read();
        for &(len, _) in &lengths.0 {
            let Some(prefix) = key.get(..len) else { break };
            self.look_up(SpanKind::Prefix, prefix, &mut found);
        }
        drop(lengths);
        let intervals = self.intervals.read();
        intervals.tree.stab(key, &intervals.all, &mut |item| {
            if let Some(interval) = intervals.all.0.get(item as usize).and_then(Option::as_ref) {
                interval.streams.iter().copied().for_each(&mut found);
            }
        });
    }

    fn look_up(&self, kind: SpanKind, bytes: &[u8], found: &mut impl FnMut(StreamId)) {
        let hash = self.hash(kind, bytes);
        let Some(shard) = self.shard(hash) else { return };
        shard.lock().find(hash as u32, found);
    }
}

/// The prefix lengths in use, ascending, each with the number of prefixes.
#[derive(Default)]
pub(crate) struct Lengths(pub(crate) Vec<(usize, usize)>);

impl Lengths {
    /// False if there are too many different ones for another.
    pub(crate) fn add(&mut self, len: usize) -> bool {
        match self.0.binary_search_by_key(&len, |(len, _)| *len) {
            Ok(at) => {
                if let Some((_, count)) = self.0.get_mut(at) {
                    *count += 1;
                }
                true
            }
            Err(at) if self.0.len() < MAX_LENGTHS => {
                self.0.insert(at, (len, 1));
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn remove(&mut self, len: usize) {
        let Ok(at) = self.0.binary_search_by_key(&len, |(len, _)| *len) else { return };
        let Some((_, count)) = self.0.get_mut(at) else { return };
        *count -= 1;
        if *count == 0 {
            self.0.remove(at);
        }
    }
}

/// Streams by hash. Eight bytes for each range of each stream.
#[derive(Default)]
struct Shard {
    table: HashTable<Entry>,
    /// Where a hash has more than one stream, or a stream has more than one range: those, in order, and how
    /// often.
    many: Vec<Vec<(StreamId, u32)>>,
    free: Vec<u32>,
}

struct Entry {
    hash: u32,
    /// One stream, with one range; or, with [`MANY`] set, an index into the list of many.
    place: u32,
}

/// The highest bit; no hub has so many streams.
const MANY: u32 = 1 << 31;

/// Spreads 32 bits over the 64 that a table looks at.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Shard {
    fn add(&mut self, hash: u32, stream: StreamId) {
        let found = self.table.entry(spread(hash), |entry| entry.hash == hash, |entry| spread(entry.hash));
        match found {
            Found::Vacant(vacant) => drop(vacant.insert(Entry { hash, place: stream.0 })),
            Found::Occupied(mut occupied) => {
                let entry = occupied.get_mut();
                if entry.place & MANY == 0 {
                    let list = vec![(StreamId(entry.place), 1)];
                    let index = match self.free.pop() {
                        Some(index) => {
                            if let Some(free) = self.many.get_mut(index as usize) {
                                *free = list;
                            }
                            index
                        }
                        None => {
                            self.many.push(list);
                            (self.many.len() - 1) as u32
                        }
                    };
                    entry.place = MANY | index;
                }
                let Some(list) = self.many.get_mut((entry.place & !MANY) as usize) else { return };
                match list.binary_search_by_key(&stream, |(stream, _)| *stream) {
                    Ok(at) => {
                        if let Some((_, count)) = list.get_mut(at) {
                            *count += 1;
                        }
                    }
                    Err(at) => list.insert(at, (stream, 1)),
                }
            }
        }
    }

    /// Whether it was there.
    fn remove(&mut self, hash: u32, stream: StreamId) -> bool {
        let Ok(mut occupied) = self.table.find_entry(spread(hash), |entry| entry.hash == hash) else { return false };
        let entry = occupied.get_mut();
        if entry.place & MANY == 0 {
            let is_it = entry.place == stream.0;
            if is_it {
                occupied.remove();
                self.give_back();
            }
            return is_it;
        }
        let index = entry.place & !MANY;
        let Some(list) = self.many.get_mut(index as usize) else { return false };
        let Ok(at) = list.binary_search_by_key(&stream, |(stream, _)| *stream) else { return false };
        let Some((_, count)) = list.get_mut(at) else { return false };
        *count -= 1;
        if *count == 0 {
            list.remove(at);
        }
        if let [(last, 1)] = list[..] {
            entry.place = last.0;
            *list = Vec::new();
            self.free.push(index);
        }
        true
    }

    fn find(&self, hash: u32, found: &mut impl FnMut(StreamId)) {
        let Some(entry) = self.table.find(spread(hash), |entry| entry.hash == hash) else { return };
        if entry.place & MANY == 0 {
            return found(StreamId(entry.place));
        }
        if let Some(list) = self.many.get((entry.place & !MANY) as usize) {
            list.iter().for_each(|(stream, _)| found(*stream));
        }
    }

    /// Memory of watchers that are gone.
    fn give_back(&mut self) {
        if self.table.capacity() > 64 && self.table.len() < self.table.capacity() / 8 {
            self.table.shrink_to(self.table.len() * 2, |entry| spread(entry.hash));
        }
    }
}

/// The intervals of all streams that are neither keys nor prefixes.
#[derive(Default)]
struct Intervals {
    tree: IntervalTree,
    all: AllIntervals,
    free: Vec<u32>,
    streams: HashMap<StreamId, Own>,
}

#[derive(Default)]
struct AllIntervals(Vec<Option<Interval>>);

struct Interval {
    span: Span,
    streams: Vec<StreamId>,
}

impl Spans for AllIntervals {
    fn span(&self, item: u32) -> Option<&Span> {
        self.0.get(item as usize)?.as_ref().map(|interval| &interval.span)
    }
}

/// What a stream has in the tree.
enum Own {
    Each(Vec<Span>),
    /// One that covers all, and how many there are.
    Cover(Span, usize),
}

impl Intervals {
    fn add(&mut self, stream: StreamId, span: &Span, keyed: &RandomState) {
        let span = span.clone().into_interval();
        let own = self.streams.entry(stream).or_insert_with(|| Own::Each(Vec::new()));
        match own {
            Own::Each(spans) if spans.len() < MAX_INTERVALS => {
                spans.push(span.clone());
                self.put(stream, span, keyed);
            }
            Own::Each(spans) => {
                let (old, count) = (std::mem::take(spans), MAX_INTERVALS + 1);
                let cover = old.iter().fold(span, |cover, span| union(&cover, span));
                *own = Own::Cover(cover.clone(), count);
                old.iter().for_each(|span| self.take(stream, span));
                self.put(stream, cover, keyed);
            }
            Own::Cover(cover, count) => {
                *count += 1;
                let wider = union(cover, &span);
                if wider != *cover {
                    let old = std::mem::replace(cover, wider.clone());
                    self.take(stream, &old);
                    self.put(stream, wider, keyed);
                }
            }
        }
    }

    fn remove(&mut self, stream: StreamId, span: &Span) {
        let span = span.clone().into_interval();
        let MapEntry::Occupied(mut own) = self.streams.entry(stream) else { return };
        let gone = match own.get_mut() {
            Own::Each(spans) => {
                let Some(at) = spans.iter().position(|s| *s == span) else { return };
                let gone = spans.swap_remove(at);
                if spans.is_empty() {
                    own.remove();
                }
                gone
            }
            Own::Cover(cover, count) => {
                *count -= 1;
                if *count > 0 {
                    return;
                }
                let cover = cover.clone();
                own.remove();
                cover
            }
        };
        self.take(stream, &gone);
    }

    fn put(&mut self, stream: StreamId, span: Span, keyed: &RandomState) {
        if let Some(item) = self.tree.find(&span, &self.all) {
            if let Some(interval) = self.all.0.get_mut(item as usize).and_then(Option::as_mut) {
                interval.streams.push(stream);
            }
            return;
        }
        let priority = keyed.hash_one(&span) as u32;
        let interval = Some(Interval { span, streams: vec![stream] });
        let item = match self.free.pop() {
            Some(item) => {
                if let Some(place) = self.all.0.get_mut(item as usize) {
                    *place = interval;
                }
                item
            }
            None => {
                self.all.0.push(interval);
                (self.all.0.len() - 1) as u32
            }
        };
        self.tree.insert(item, priority, &self.all);
    }

    fn take(&mut self, stream: StreamId, span: &Span) {
        let Some(item) = self.tree.find(span, &self.all) else { return };
        let Some(interval) = self.all.0.get_mut(item as usize).and_then(Option::as_mut) else { return };
        if let Some(at) = interval.streams.iter().position(|s| *s == stream) {
            interval.streams.swap_remove(at);
        }
        if interval.streams.is_empty() {
            self.tree.remove(item, &self.all);
            if let Some(place) = self.all.0.get_mut(item as usize) {
                *place = None;
            }
            self.free.push(item);
        }
    }
}

/// The least interval with both in it.
fn union(a: &Span, b: &Span) -> Span {
    let start = a.start().min(b.start()).to_vec();
    let range = match (a.end(), b.end()) {
        (Some(a), Some(b)) => KeyRange::interval(start, a.max(b).to_vec()),
        _ => KeyRange::from_key(start),
    };
    Span::of(&range).into_interval()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn streams(filter: &Filter, key: &[u8]) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        filter.concerned(key, |stream| {
            found.insert(stream.0);
        });
        found
    }

    #[test]
    fn it_names_exactly_those_whose_ranges_have_the_key() {
        let random = &mut SmallRng::seed_from_u64(5);
        let text = |random: &mut SmallRng| -> Vec<u8> {
            (0..random.random_range(1..5)).map(|_| random.random_range(b'a'..b'e')).collect()
        };
        let filter = Filter::default();
        let mut all: BTreeSet<(u32, Vec<u8>)> = BTreeSet::new();
        let mut ranges: Vec<(u32, KeyRange)> = Vec::new();
        let mut named = 0;
        for step in 0..20_000 {
            let stream = random.random_range(0..8);
            let range = match random.random_range(0..8) {
                0..3 => KeyRange::key(text(random)),
                3..6 => KeyRange::prefix(text(random)),
                6 => KeyRange::from_key(text(random)),
                _ => KeyRange::interval(text(random), text(random)),
            };
            let (start, end) = range.to_wire();
            let name = (stream, [&start[..], b"|", &end[..]].concat());
            // A stream adds each of its ranges once.
            if !range.is_empty() && all.insert(name) {
                filter.add(StreamId(stream), &Span::of(&range));
                ranges.push((stream, range));
            }
            while ranges.len() > 120 || (step > 18_000 && !ranges.is_empty() && random.random()) {
                let (stream, range) = ranges.swap_remove(random.random_range(0..ranges.len()));
                let (start, end) = range.to_wire();
                all.remove(&(stream, [&start[..], b"|", &end[..]].concat()));
                filter.remove(StreamId(stream), &Span::of(&range));
            }
            let key = text(random);
            let expected: BTreeSet<u32> =
                ranges.iter().filter(|(_, range)| range.contains(&key)).map(|(stream, _)| *stream).collect();
            named += expected.len();
            assert_eq!(streams(&filter, &key), expected);
        }
        assert!(named > 10_000, "{named}");
        ranges.iter().for_each(|(stream, range)| filter.remove(StreamId(*stream), &Span::of(range)));
        assert!(filter.shards.iter().all(|shard| shard.lock().table.is_empty()));
        assert!(filter.lengths.read().0.is_empty());
        assert!(filter.intervals.read().streams.is_empty());
    }

    #[test]
    fn what_clients_choose_costs_a_bounded_number_of_looks() {
        let filter = Filter::default();
        // 1,000 prefixes of different lengths, 1,000 nested intervals.
        let key = "k".repeat(1_001);
        for n in 1..=1_000 {
            filter.add(StreamId(0), &Span::of(&KeyRange::prefix(key[..n].to_owned())));
            filter.add(StreamId(1), &Span::of(&KeyRange::interval(format!("a{n:04}"), format!("z{:04}", 9999 - n))));
        }
        assert_eq!(filter.lengths.read().0.len(), MAX_LENGTHS);
        let mut looks = 0;
        filter.concerned(key.as_bytes(), |_| looks += 1);
        assert!(looks <= MAX_LENGTHS + 2, "{looks}");
        for n in (1..=1_000).rev() {
            filter.remove(StreamId(0), &Span::of(&KeyRange::prefix(key[..n].to_owned())));
            filter.remove(StreamId(1), &Span::of(&KeyRange::interval(format!("a{n:04}"), format!("z{:04}", 9999 - n))));
        }
        assert!(streams(&filter, key.as_bytes()).is_empty());
        assert!(filter.lengths.read().0.is_empty() && filter.intervals.read().streams.is_empty());
    }
}
