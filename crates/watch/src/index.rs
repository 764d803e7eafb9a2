//! Which watchers a key concerns, in time that grows with their number only.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::mem;

use stentor_proto::{KeyRange, RangeEnd};

/// Watchers by range: a hash of single keys, and a tree of intervals. Equal ranges are kept once.
pub(crate) struct Index<T> {
    keys: HashMap<Vec<u8>, Vec<T>>,
    intervals: Option<Box<Node<T>>>,
    /// Keyed, so that no client can choose ranges that make the tree deep.
    priorities: RandomState,
    len: usize,
}

impl<T> Default for Index<T> {
    fn default() -> Index<T> {
        Index { keys: HashMap::new(), intervals: None, priorities: RandomState::new(), len: 0 }
    }
}

impl<T: Copy + Eq> Index<T> {
    pub(crate) fn insert(&mut self, range: &KeyRange, item: T) {
        self.len += 1;
        match range.single() {
            Some(key) => self.keys.entry(key.to_vec()).or_default().push(item),
            None => {
                let priority = self.priorities.hash_one(range);
                self.intervals = Some(insert(self.intervals.take(), range, item, priority));
            }
        }
    }

    pub(crate) fn remove(&mut self, range: &KeyRange, item: T) {
        let removed = match range.single() {
            Some(key) => match self.keys.entry(key.to_vec()) {
                Entry::Occupied(mut entry) => {
                    let removed = take(entry.get_mut(), item);
                    if entry.get().is_empty() {
                        entry.remove();
                    }
                    removed
                }
                Entry::Vacant(_) => false,
            },
            None => {
                let (rest, removed) = remove(self.intervals.take(), range, item);
                self.intervals = rest;
                removed
            }
        };
        self.len -= usize::from(removed);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `found` with each item whose range has `key` in it.
    pub(crate) fn matching(&self, key: &[u8], mut found: impl FnMut(T)) {
        if let Some(items) = self.keys.get(key) {
            items.iter().copied().for_each(&mut found);
        }
        stab(self.intervals.as_deref(), key, &mut found);
    }
}

/// A node of a treap: ordered by range, a heap by priority, with the highest end of its subtree.
struct Node<T> {
    range: KeyRange,
    items: Vec<T>,
    priority: u64,
    highest: RangeEnd,
    left: Option<Box<Node<T>>>,
    right: Option<Box<Node<T>>>,
}

impl<T> Node<T> {
    fn update(&mut self) {
        let mut highest = self.range.end();
        for child in [&self.left, &self.right].into_iter().flatten() {
            if end_order(&child.highest, highest) == Ordering::Greater {
                highest = &child.highest;
            }
        }
        self.highest = highest.clone();
    }
}

fn end_order(a: &RangeEnd, b: &RangeEnd) -> Ordering {
    match (a, b) {
        (RangeEnd::Before(a), RangeEnd::Before(b)) => a.cmp(b),
        (RangeEnd::Unbounded, RangeEnd::Unbounded) => Ordering::Equal,
        (RangeEnd::Unbounded, _) => Ordering::Greater,
        (_, RangeEnd::Unbounded) => Ordering::Less,
        // Single keys are not in the tree.
        _ => Ordering::Equal,
    }
}

fn order(a: &KeyRange, b: &KeyRange) -> Ordering {
    a.start().cmp(b.start()).then_with(|| end_order(a.end(), b.end()))
}

fn insert<T: Copy>(node: Option<Box<Node<T>>>, range: &KeyRange, item: T, priority: u64) -> Box<Node<T>> {
    let Some(mut node) = node else {
        let highest = range.end().clone();
        return Box::new(Node { range: range.clone(), items: vec![item], priority, highest, left: None, right: None });
    };
    match order(range, &node.range) {
        Ordering::Equal => node.items.push(item),
        Ordering::Less => {
            let mut left = insert(node.left.take(), range, item, priority);
            if left.priority > node.priority {
                node.left = left.right.take();
                node.update();
                left.right = Some(node);
                left.update();
                return left;
            }
            node.left = Some(left);
        }
        Ordering::Greater => {
            let mut right = insert(node.right.take(), range, item, priority);
            if right.priority > node.priority {
                node.right = right.left.take();
                node.update();
                right.left = Some(node);
                right.update();
                return right;
            }
            node.right = Some(right);
        }
    }
    node.update();
    node
}

fn remove<T: Copy + Eq>(node: Option<Box<Node<T>>>, range: &KeyRange, item: T) -> (Option<Box<Node<T>>>, bool) {
    let Some(mut node) = node else { return (None, false) };
    let removed = match order(range, &node.range) {
        Ordering::Equal => {
            let removed = take(&mut node.items, item);
            if node.items.is_empty() {
                return (merge(node.left.take(), node.right.take()), removed);
            }
            removed
        }
        Ordering::Less => {
            let (left, removed) = remove(node.left.take(), range, item);
            node.left = left;
            removed
        }
        Ordering::Greater => {
            let (right, removed) = remove(node.right.take(), range, item);
            node.right = right;
            removed
        }
    };
    node.update();
    (Some(node), removed)
}

/// Joins two trees, every range of the first below those of the second.
fn merge<T>(left: Option<Box<Node<T>>>, right: Option<Box<Node<T>>>) -> Option<Box<Node<T>>> {
    let (mut left, mut right) = match (left, right) {
        (Some(left), Some(right)) => (left, right),
        (left, right) => return left.or(right),
    };
    if left.priority > right.priority {
        left.right = merge(left.right.take(), Some(right));
        left.update();
        Some(left)
    } else {
        right.left = merge(Some(left), right.left.take());
        right.update();
        Some(right)
    }
}

fn stab<T: Copy>(node: Option<&Node<T>>, key: &[u8], found: &mut impl FnMut(T)) {
    let Some(node) = node else { return };
    if matches!(&node.highest, RangeEnd::Before(end) if &end[..] <= key) {
        return;
    }
    stab(node.left.as_deref(), key, found);
    if &node.range.start()[..] <= key {
        if node.range.contains(key) {
            node.items.iter().copied().for_each(&mut *found);
        }
        stab(node.right.as_deref(), key, found);
    }
}

/// Takes one item out, in no order.
fn take<T: Eq>(items: &mut Vec<T>, item: T) -> bool {
    let Some(at) = items.iter().position(|i| *i == item) else { return false };
    items.swap_remove(at);
    if items.capacity() > 8 && items.len() < items.capacity() / 4 {
        let shrunk = mem::take(items);
        *items = shrunk.into_iter().collect();
    }
    true
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn it_finds_what_looking_at_each_range_finds() {
        let random = &mut SmallRng::seed_from_u64(7);
        let text = |random: &mut SmallRng| -> Vec<u8> {
            (0..random.random_range(1..4)).map(|_| random.random_range(b'a'..b'e')).collect()
        };
        let mut index = Index::default();
        let mut all: Vec<(KeyRange, u32)> = Vec::new();
        let mut found_any = 0;
        for item in 0..4000 {
            let range = match random.random_range(0..4) {
                0 => KeyRange::key(text(random)),
                1 => KeyRange::from_key(text(random)),
                2 => KeyRange::prefix(text(random)),
                _ => KeyRange::interval(text(random), text(random)),
            };
            index.insert(&range, item);
            all.push((range, item));
            // It grows to some hundreds, then shrinks to nothing.
            while all.len() > 300 || (item > 3700 && !all.is_empty() && random.random_bool(0.7)) {
                let (range, item) = all.swap_remove(random.random_range(0..all.len()));
                index.remove(&range, item);
            }
            let key = text(random);
            let mut found = Vec::new();
            index.matching(&key, |item| found.push(item));
            found.sort_unstable();
            let mut expected: Vec<u32> = all.iter().filter(|(r, _)| r.contains(&key)).map(|(_, i)| *i).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{:?}", key.escape_ascii());
            found_any += found.len();
        }
        assert!(found_any > 10_000);
        all.iter().for_each(|(range, item)| index.remove(range, *item));
        assert!(index.is_empty() && index.intervals.is_none() && index.keys.is_empty());
    }

    #[test]
    fn ranges_in_order_do_not_make_it_deep() {
        fn depth(node: Option<&Node<u32>>) -> usize {
            node.map_or(0, |n| 1 + depth(n.left.as_deref()).max(depth(n.right.as_deref())))
        }
        let mut index = Index::default();
        (0..20_000u32).for_each(|n| index.insert(&KeyRange::prefix(format!("/{n:06}/")), n));
        assert!(depth(index.intervals.as_deref()) < 60);
    }
}
