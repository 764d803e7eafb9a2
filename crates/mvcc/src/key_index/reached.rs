//! What the tests have reached: counted per thread in tests, and nothing at all outside of them.

/// Something that a test should have come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    NodeEntered,
    RecentSpilled,
    LeafSplit,
    InnerSplit,
    LeafMerge,
    InnerMerge,
    NodeVanished,
    SubtreeSkipped,
    CountedByLog,
    CountedByScan,
    BlockWhole,
    BlockPart,
    BlockDropped,
}

#[cfg(not(test))]
#[inline]
pub(super) fn reached(_: Point) {}

#[cfg(test)]
pub(super) use counting::{POINTS, reached, times};

#[cfg(test)]
mod counting {
    use std::cell::Cell;

    use super::Point;

    pub(in super::super) const POINTS: [Point; 13] = [
        Point::NodeEntered,
        Point::RecentSpilled,
        Point::LeafSplit,
        Point::InnerSplit,
        Point::LeafMerge,
        Point::InnerMerge,
        Point::NodeVanished,
        Point::SubtreeSkipped,
        Point::CountedByLog,
        Point::CountedByScan,
        Point::BlockWhole,
        Point::BlockPart,
        Point::BlockDropped,
    ];

    thread_local! {
        static TIMES: [Cell<u64>; POINTS.len()] = const { [const { Cell::new(0) }; POINTS.len()] };
    }

    pub(in super::super) fn reached(point: Point) {
        TIMES.with(|times| times[point as usize].set(times[point as usize].get() + 1));
    }

    /// How often this thread has reached it.
    pub(in super::super) fn times(point: Point) -> u64 {
        TIMES.with(|times| times[point as usize].get())
    }
}
