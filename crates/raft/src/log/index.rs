//! Which entries there are, of which term each is, and in which frame it is found.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Position, Unavailable};

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment's number.
    pub segment: u64,
    /// Where it begins there, in bytes.
    pub offset: u64,
    /// Its bytes, without what follows the payload.
    pub bytes: usize,
}

/// Entries that were appended together, up to where the next group begins.
#[derive(Clone, Copy, Debug)]
struct Group {
    first: u64,
    place: Place,
}

/// Entries of one term, up to where the next run begins.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    term: u64,
}

#[derive(Debug)]
pub(super) struct Index {
    start: Position,
    last: Position,
    groups: VecDeque<Group>,
    runs: VecDeque<Run>,
    /// Entries up to this one, as far as they are after the start, are in no frame that was seen.
    absent: u64,
}

impl Index {
    /// Of a log of which nothing was seen yet.
    pub(super) fn new(start: Position, last: Position) -> Index {
        let absent = if last.index > start.index { last.index } else { 0 };
        Index { start, last, groups: VecDeque::new(), runs: VecDeque::new(), absent }
    }

    pub(super) fn start(&self) -> Position {
        self.start
    }

    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Whether each entry of the log is in a frame.
    pub(super) fn is_complete(&self) -> bool {
        self.absent <= self.start.index
    }

    /// Whether an entry of this index can be appended.
    pub(super) fn accepts(&self, index: u64) -> bool {
        index > self.start.index && index - 1 <= self.last.index
    }

    /// The segment of the first entry.
    pub(super) fn first_segment(&self) -> Option<u64> {
        self.groups.front().map(|group| group.place.segment)
    }

    /// Adds entries that follow one another, all in one frame, in place of those from the first one's index
    /// on. That index must be one that is accepted.
    pub(super) fn append(&mut self, positions: impl Iterator<Item = Position>, place: Place) {
        let mut first = true;
        for position in positions {
            if std::mem::take(&mut first) {
                self.truncate(position.index);
                self.groups.push_back(Group { first: position.index, place });
            }
            if self.runs.back().is_none_or(|run| run.term != position.term) {
                self.runs.push_back(Run { first: position.index, term: position.term });
            }
            self.last = position;
        }
    }

    fn truncate(&mut self, from: u64) {
        while self.groups.back().is_some_and(|group| group.first >= from) {
            self.groups.pop_back();
        }
        while self.runs.back().is_some_and(|run| run.first >= from) {
            self.runs.pop_back();
        }
        self.absent = self.absent.min(from.saturating_sub(1));
    }

    /// Forgets the entries up to this one, which must be one that is there.
    pub(super) fn purge(&mut self, to: Position) {
        self.start = to;
        if self.last.index <= to.index {
            return self.reset(to);
        }
        while self.groups.get(1).is_some_and(|group| group.first - 1 <= to.index) {
            self.groups.pop_front();
        }
        while self.runs.get(1).is_some_and(|run| run.first - 1 <= to.index) {
            self.runs.pop_front();
        }
    }

    /// Forgets all entries, and goes on after `start`.
    pub(super) fn reset(&mut self, start: Position) {
        *self = Index::new(start, start);
    }

    pub(super) fn term(&self, index: u64) -> Result<u64, Unavailable> {
        if index == self.start.index {
            return Ok(self.start.term);
        }
        self.check(index)?;
        let runs = self.runs.partition_point(|run| run.first <= index);
        let run = runs.checked_sub(1).and_then(|at| self.runs.get(at));
        run.map(|run| run.term).ok_or(Unavailable::Purged)
    }

    /// Whether an entry is there.
    pub(super) fn check(&self, index: u64) -> Result<(), Unavailable> {
        match index {
            _ if index <= self.start.index => Err(Unavailable::Purged),
            _ if index > self.last.index => Err(Unavailable::Beyond),
            _ => Ok(()),
        }
    }

    /// The frame that an entry is in, and the indexes of those entries of the frame that are the log's.
    pub(super) fn find(&self, index: u64) -> Result<(Place, Range<u64>), Unavailable> {
        self.check(index)?;
        let after = self.groups.partition_point(|group| group.first <= index);
        let group = after.checked_sub(1).and_then(|at| self.groups.get(at)).ok_or(Unavailable::Purged)?;
        let end = self.groups.get(after).map_or(self.last.index.saturating_add(1), |next| next.first);
        Ok((group.place, group.first..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(term: u64, index: u64) -> Position {
        Position { term, index }
    }

    fn place(segment: u64) -> Place {
        Place { segment, offset: 0, bytes: 1 }
    }

    #[test]
    fn a_tail_is_overwritten_and_a_head_purged() {
        let mut index = Index::new(at(1, 10), at(1, 10));
        index.append([at(1, 11), at(2, 12), at(2, 13)].into_iter(), place(1));
        index.append([at(2, 14)].into_iter(), place(2));
        index.append([at(3, 13), at(3, 14), at(4, 15)].into_iter(), place(3));
        assert_eq!([10, 11, 12, 13, 14, 15].map(|n| index.term(n)), [Ok(1), Ok(1), Ok(2), Ok(3), Ok(3), Ok(4)]);
        assert_eq!((index.term(9), index.term(16)), (Err(Unavailable::Purged), Err(Unavailable::Beyond)));
        assert_eq!(index.find(12), Ok((place(1), 11..13)));
        assert_eq!(index.find(15), Ok((place(3), 13..16)));
        index.purge(at(2, 12));
        assert_eq!((index.first_segment(), index.term(12), index.term(13)), (Some(3), Ok(2), Ok(3)));
        assert!(index.accepts(13) && index.accepts(16) && !index.accepts(12) && !index.accepts(17));
        index.purge(at(4, 15));
        assert_eq!((index.first_segment(), index.start(), index.last()), (None, at(4, 15), at(4, 15)));
    }

    #[test]
    fn entries_that_were_not_seen_are_missed_until_they_do_not_count() {
        let mut index = Index::new(at(1, 10), at(2, 20));
        assert!(!index.is_complete());
        index.append([at(3, 18)].into_iter(), place(1));
        index.purge(at(1, 16));
        assert!(!index.is_complete());
        index.purge(at(2, 17));
        assert!(index.is_complete());
    }
}
