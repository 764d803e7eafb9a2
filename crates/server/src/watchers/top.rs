use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// The items that rank highest of all it is offered, a bounded number: k items cost k places, and one that
/// is not among them a comparison.
#[derive(Debug)]
pub(super) struct Top<R, T> {
    limit: usize,
    /// The lowest of those kept is at its head.
    kept: BinaryHeap<Reverse<Ranked<R, T>>>,
}

#[derive(Debug)]
struct Ranked<R, T> {
    rank: R,
    item: T,
}

impl<R: Ord, T> PartialEq for Ranked<R, T> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl<R: Ord, T> Eq for Ranked<R, T> {}

impl<R: Ord, T> PartialOrd for Ranked<R, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R: Ord, T> Ord for Ranked<R, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl<R: Ord, T> Top<R, T> {
    pub(super) fn new(limit: usize) -> Top<R, T> {
        Top { limit, kept: BinaryHeap::new() }
    }

    /// Whether an item of this rank would be kept.
    pub(super) fn wants(&self, rank: &R) -> bool {
        self.kept.len() < self.limit || self.kept.peek().is_some_and(|Reverse(lowest)| *rank > lowest.rank)
    }

    /// Keeps an item if it ranks high enough.
    pub(super) fn offer(&mut self, rank: R, item: T) {
        if self.wants(&rank) {
            if self.kept.len() >= self.limit {
                self.kept.pop();
            }
            self.kept.push(Reverse(Ranked { rank, item }));
        }
    }

    /// What was kept, the highest first.
    pub(super) fn into_sorted(self) -> Vec<T> {
        // Sorted ascending, of reversed items: the highest comes first.
        self.kept.into_sorted_vec().into_iter().map(|Reverse(ranked)| ranked.item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_are_kept_whatever_the_order_they_come_in() {
        let mut top = Top::new(3);
        // A fixed order in which every number below 1,000 comes once.
        for n in (0..1_000u64).map(|n| n * 7 % 1_000) {
            top.offer(n, n);
            assert!(top.kept.len() <= 3);
        }
        assert!(top.wants(&998) && !top.wants(&997));
        assert_eq!(top.into_sorted(), [999, 998, 997]);
    }

    #[test]
    fn a_limit_of_nothing_keeps_nothing() {
        let mut top = Top::new(0);
        top.offer(1, ());
        assert!(!top.wants(&2) && top.into_sorted().is_empty());
    }
}
