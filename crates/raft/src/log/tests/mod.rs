//! Tests of the whole log.

mod damage;
mod model;
mod simple;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Durability, Entry, EntryKind, HardState, Log, LogError, Position, ReadError};

/// A number from the environment.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |n| n.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

/// What a log should say.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    start: Position,
    hard_state: HardState,
    entries: Vec<Entry>,
}

impl Content {
    fn of(log: &Log) -> Result<Content, ReadError> {
        let (start, last) = (log.start(), log.last());
        let mut entries = Vec::new();
        while start.index + (entries.len() as u64) < last.index {
            let next = start.index + 1 + entries.len() as u64;
            entries.extend(log.entries(next, last.index + 1, 1_000)?);
        }
        let content = Content { start, hard_state: log.hard_state(), entries };
        assert_eq!(content.last(), last);
        for position in content.entries.iter().map(|entry| entry.position).chain([start]) {
            assert_eq!(log.term(position.index), Ok(position.term));
        }
        Ok(content)
    }

    fn last(&self) -> Position {
        self.entries.last().map_or(self.start, |entry| entry.position)
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Append(hard_state, entries) => {
                if let Some(first) = entries.first() {
                    self.entries.retain(|entry| entry.position.index < first.position.index);
                    self.entries.extend_from_slice(entries);
                }
                self.hard_state = hard_state.unwrap_or(self.hard_state);
            }
            Change::Purge(through) => {
                if let Some(to) = self.entries.iter().find(|entry| entry.position.index == *through) {
                    self.start = to.position;
                }
                self.entries.retain(|entry| entry.position.index > *through);
            }
            Change::Reset(start, hard_state) => {
                *self = Content { start: *start, hard_state: *hard_state, entries: Vec::new() };
            }
        }
    }
}

/// A change of the log.
#[derive(Clone, Debug)]
enum Change {
    Append(Option<HardState>, Vec<Entry>),
    Purge(u64),
    Reset(Position, HardState),
}

impl Change {
    fn make(&self, log: &mut Log, durability: Durability) -> Result<(), LogError> {
        match self {
            Change::Append(hard_state, entries) => log.append(*hard_state, entries, durability),
            Change::Purge(through) => log.purge(*through),
            Change::Reset(start, hard_state) => log.reset(*start, *hard_state),
        }
    }
}

/// Makes changes that fit a log.
struct Chance {
    rng: StdRng,
    term: u64,
    /// Most frames are of 96 bytes, some of 144: with that of an opening, of 48, new ones often end where
    /// old ones did that were cut off.
    aligned: bool,
}

impl Chance {
    fn new(seed: u64) -> Chance {
        let mut rng = StdRng::seed_from_u64(seed);
        let aligned = rng.random_ratio(1, 4);
        Chance { rng, term: 1, aligned }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    fn bytes(&mut self, most: usize) -> Bytes {
        let length = self.rng.random_range(0..=most);
        (0..length).map(|_| self.rng.random::<u8>()).collect()
    }

    fn hard_state(&mut self) -> HardState {
        HardState { term: self.term, vote: self.below(4), commit: self.below(100) }
    }

    fn entries(&mut self, first: u64) -> Vec<Entry> {
        let count = if self.one_in(3) { 1 + self.below(6) } else { 1 };
        let largest = if self.one_in(40) { 6_000 } else { 400 };
        let mut entry = |index| Entry {
            position: Position { term: self.term, index },
            kind: [EntryKind::Normal, EntryKind::Change, EntryKind::ChangeV2][self.below(3) as usize],
            context: if self.one_in(3) { self.bytes(20) } else { Bytes::new() },
            data: self.bytes(largest),
        };
        (first..first + count).map(&mut entry).collect()
    }

    /// Entries at the end, or in place of some.
    fn append(&mut self, content: &Content, overwrite: bool) -> Change {
        let mut first = content.last().index + 1;
        if overwrite && !content.entries.is_empty() {
            first -= 1 + self.below(content.entries.len().min(8) as u64);
            self.term += 1;
        }
        let entries = self.entries(first);
        Change::Append(self.one_in(3).then(|| self.hard_state()), entries)
    }

    /// The name of a kind of change, and one of that kind.
    fn change(&mut self, content: &Content) -> (&'static str, Change) {
        if self.aligned && !self.one_in(10) {
            let position = Position { term: self.term, index: content.last().index + 1 };
            let data = vec![1; if self.one_in(4) { 60 } else { 12 }].into();
            return ("append", Change::Append(None, vec![Entry { position, data, ..Entry::default() }]));
        }
        match self.below(100) {
            0..66 => ("append", self.append(content, false)),
            66..76 => ("overwrite", self.append(content, true)),
            76..84 => ("hard state", Change::Append(Some(self.hard_state()), Vec::new())),
            84..97 => {
                let through = content.start.index + self.below(content.entries.len() as u64 + 1);
                ("purge", Change::Purge(through))
            }
            _ => {
                self.term += 1;
                let index = content.start.index + self.below(2 * content.entries.len() as u64 + 2);
                ("reset", Change::Reset(Position { term: self.term, index }, self.hard_state()))
            }
        }
    }
}
