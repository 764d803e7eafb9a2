//! An interval tree: which of many intervals a key lies in, in time that grows with the number found.
//!
//! A treap: ordered by interval, a heap by priority, each node knowing the highest end below it. It keeps
//! numbers; whoever holds the tree knows which interval each stands for.

use std::cmp::Ordering;

use crate::span::Span;

/// No node.
const NONE: u32 = u32::MAX;

/// Intervals by number. No two of them are equal.
pub(crate) struct IntervalTree {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
}

#[derive(Clone, Copy)]
struct Node {
    item: u32,
    /// Drawn with a key, so that no choice of intervals makes the tree deep.
    priority: u32,
    left: u32,
    right: u32,
    /// The item with the highest end of this node and those below.
    highest: u32,
}

impl Default for IntervalTree {
    fn default() -> IntervalTree {
        IntervalTree { nodes: Vec::new(), free: Vec::new(), root: NONE }
    }
}

/// What the numbers in a tree stand for.
pub(crate) trait Spans {
    /// The span of a number that is in the tree.
    fn span(&self, item: u32) -> Option<&Span>;
}

fn order(a: &Span, b: &Span) -> Ordering {
    a.start().cmp(b.start()).then_with(|| ends(a, b))
}

fn ends(a: &Span, b: &Span) -> Ordering {
    match (a.end(), b.end()) {
        (Some(a), Some(b)) => a.cmp(b),
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
    }
}

impl IntervalTree {
    /// The number in it whose interval is this one.
    pub(crate) fn find(&self, span: &Span, spans: &impl Spans) -> Option<u32> {
        let mut at = self.root;
        while let Some(node) = self.node(at) {
            at = match order(span, spans.span(node.item)?) {
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
                Ordering::Equal => return Some(node.item),
            };
        }
        None
    }

    /// Adds a number whose interval is not in it.
    pub(crate) fn insert(&mut self, item: u32, priority: u32, spans: &impl Spans) {
        let node = Node { item, priority, left: NONE, right: NONE, highest: item };
        let new = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.nodes.get_mut(at as usize) {
                    *place = node;
                }
                at
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.root = self.insert_below(self.root, new, spans);
    }

    fn insert_below(&mut self, at: u32, new: u32, spans: &impl Spans) -> u32 {
        let (Some(node), Some(added)) = (self.node(at), self.node(new)) else { return new };
        let before = match (spans.span(added.item), spans.span(node.item)) {
            (Some(added), Some(here)) => order(added, here) == Ordering::Less,
            _ => false,
        };
        let child = self.insert_below(if before { node.left } else { node.right }, new, spans);
        let risen = self.node(child).is_some_and(|child| child.priority > node.priority);
        // A child of higher priority becomes the parent.
        let inner = if !risen {
            child
        } else if before {
            self.node(child).map_or(NONE, |child| child.right)
        } else {
            self.node(child).map_or(NONE, |child| child.left)
        };
        self.set_child(at, before, inner, spans);
        if !risen {
            return at;
        }
        self.set_child(child, !before, at, spans);
        child
    }

    /// Takes a number out.
    pub(crate) fn remove(&mut self, item: u32, spans: &impl Spans) {
        let Some(span) = spans.span(item) else { return };
        self.root = self.remove_below(self.root, span, spans);
    }

    fn remove_below(&mut self, at: u32, span: &Span, spans: &impl Spans) -> u32 {
        let Some(node) = self.node(at) else { return NONE };
        let Some(here) = spans.span(node.item) else { return at };
        match order(span, here) {
            Ordering::Equal => {
                self.free.push(at);
                self.join(node.left, node.right, spans)
            }
            Ordering::Less => {
                let child = self.remove_below(node.left, span, spans);
                self.set_child(at, true, child, spans);
                at
            }
            Ordering::Greater => {
                let child = self.remove_below(node.right, span, spans);
                self.set_child(at, false, child, spans);
                at
            }
        }
    }

    /// Joins two trees, every interval of the first below those of the second.
    fn join(&mut self, left: u32, right: u32, spans: &impl Spans) -> u32 {
        match (self.node(left), self.node(right)) {
            (None, _) => right,
            (_, None) => left,
            (Some(l), Some(r)) if l.priority > r.priority => {
                let child = self.join(l.right, right, spans);
                self.set_child(left, false, child, spans);
                left
            }
            (_, Some(r)) => {
                let child = self.join(left, r.left, spans);
                self.set_child(right, true, child, spans);
                right
            }
        }
    }

    /// Puts another number in the place of one, for the same interval; both must be known to `spans`.
    pub(crate) fn replace(&mut self, item: u32, by: u32, spans: &impl Spans) {
        let Some(span) = spans.span(item) else { return };
        self.replace_below(self.root, span, by, spans);
    }

    fn replace_below(&mut self, at: u32, span: &Span, by: u32, spans: &impl Spans) {
        let Some(node) = self.node(at) else { return };
        let Some(here) = spans.span(node.item) else { return };
        match order(span, here) {
            Ordering::Equal => {
                if let Some(node) = self.nodes.get_mut(at as usize) {
                    node.item = by;
                }
            }
            Ordering::Less => self.replace_below(node.left, span, by, spans),
            Ordering::Greater => self.replace_below(node.right, span, by, spans),
        }
        self.update(at, spans);
    }

    /// Calls `found` with each number whose interval has `key` in it.
    pub(crate) fn stab(&self, key: &[u8], spans: &impl Spans, found: &mut impl FnMut(u32)) {
        self.stab_below(self.root, key, spans, found);
    }

    fn stab_below(&self, at: u32, key: &[u8], spans: &impl Spans, found: &mut impl FnMut(u32)) {
        let Some(node) = self.node(at) else { return };
        let Some(highest) = spans.span(node.highest) else { return };
        if highest.end().is_some_and(|end| end <= key) {
            return;
        }
        self.stab_below(node.left, key, spans, found);
        let Some(here) = spans.span(node.item) else { return };
        if here.start() <= key {
            if here.end().is_none_or(|end| key < end) {
                found(node.item);
            }
            self.stab_below(node.right, key, spans, found);
        }
    }

    fn node(&self, at: u32) -> Option<Node> {
        self.nodes.get(at as usize).copied()
    }

    fn set_child(&mut self, at: u32, is_left: bool, child: u32, spans: &impl Spans) {
        if let Some(node) = self.nodes.get_mut(at as usize) {
            if is_left {
                node.left = child;
            } else {
                node.right = child;
            }
        }
        self.update(at, spans);
    }

    fn update(&mut self, at: u32, spans: &impl Spans) {
        let Some(node) = self.node(at) else { return };
        let mut highest = node.item;
        for child in [node.left, node.right] {
            let Some(child) = self.node(child) else { continue };
            if let (Some(a), Some(b)) = (spans.span(child.highest), spans.span(highest))
                && ends(a, b) == Ordering::Greater
            {
                highest = child.highest;
            }
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.highest = highest;
        }
    }

    #[cfg(test)]
    fn depth(&self, at: u32) -> usize {
        self.node(at).map_or(0, |node| 1 + self.depth(node.left).max(self.depth(node.right)))
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    use stentor_proto::KeyRange;

    use super::*;

    #[derive(Default)]
    struct All(Vec<Span>);

    impl Spans for All {
        fn span(&self, item: u32) -> Option<&Span> {
            self.0.get(item as usize)
        }
    }

    fn interval(start: Vec<u8>, end: Option<Vec<u8>>) -> Span {
        let range = match end {
            Some(end) => KeyRange::interval(start, end),
            None => KeyRange::from_key(start),
        };
        Span::of(&range).into_interval()
    }

    #[test]
    fn it_finds_what_looking_at_each_interval_finds() {
        let random = &mut SmallRng::seed_from_u64(7);
        let text = |random: &mut SmallRng| -> Vec<u8> {
            (0..random.random_range(1..4)).map(|_| random.random_range(b'a'..b'e')).collect()
        };
        let (mut tree, mut all, mut there) = (IntervalTree::default(), All::default(), Vec::new());
        let (mut found_any, mut replaced, mut equal) = (0, 0, 0);
        for item in 0..6000u32 {
            let start = text(random);
            let end = random.random_bool(0.8).then(|| text(random)).filter(|end| *end > start);
            let span = interval(start, end);
            all.0.push(span.clone());
            match tree.find(&span, &all) {
                // One of the same interval takes its place.
                Some(old) => {
                    equal += 1;
                    if random.random() {
                        tree.replace(old, item, &all);
                        there.retain(|i| *i != old);
                        there.push(item);
                        replaced += 1;
                    }
                }
                None => {
                    tree.insert(item, random.random(), &all);
                    there.push(item);
                }
            }
            while there.len() > 200 || (item > 5500 && !there.is_empty() && random.random_bool(0.7)) {
                let gone = there.swap_remove(random.random_range(0..there.len()));
                tree.remove(gone, &all);
            }
            let key = text(random);
            let mut found = Vec::new();
            tree.stab(&key, &all, &mut |item| found.push(item));
            found.sort_unstable();
            let mut expected: Vec<u32> = there.iter().copied().filter(|i| all.0[*i as usize].contains(&key)).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{:?}", key.escape_ascii());
            found_any += found.len();
        }
        assert!(found_any > 10_000 && replaced > 100 && equal > 200, "{found_any} {replaced} {equal}");
        there.iter().for_each(|item| tree.remove(*item, &all));
        assert!(tree.root == NONE && tree.nodes.len() == tree.free.len() && tree.nodes.len() <= 201);
    }

    #[test]
    fn intervals_in_order_do_not_make_it_deep() {
        let keyed = RandomState::new();
        let (mut tree, mut all) = (IntervalTree::default(), All::default());
        for item in 0..20_000u32 {
            let span = interval(format!("{item:06}").into(), Some(format!("{item:06}!").into()));
            let priority = keyed.hash_one(&span) as u32;
            all.0.push(span);
            tree.insert(item, priority, &all);
        }
        assert!(tree.depth(tree.root) < 60, "{}", tree.depth(tree.root));
    }
}
