use std::sync::Arc;

use stentor_proto::{KeyRange, Revision};

use super::keys::{ALLOCATION, Keys, clone_with_room, fit, heap_bytes, make_room};
use super::leaf::Leaf;
use super::reached::{Point, reached};

/// How large nodes grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Keys in a leaf.
    pub(super) leaf: usize,
    /// Children of an inner node.
    pub(super) inner: usize,
    /// Bytes of the keys in a node, unless it has too few to be split.
    pub(super) bytes: usize,
}

impl Shape {
    /// Copying a path must be cheap, since every published write does it; a leaf must be large, since
    /// everything beside its keys is overhead.
    pub(super) const DEFAULT: Shape = Shape { leaf: 64, inner: 32, bytes: 16 << 10 };
}

/// An inner node with fewer children than this is not split for the bytes of its keys: with fewer
/// than two children each, levels would not make the tree narrower.
const MIN_SPLIT: usize = 4;

/// A node of the tree; unchanged once shared.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

/// Children in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct Inner {
    /// For each child a bound: its keys are at or above it, those of the child before it below. The
    /// first is empty, for nobody asks.
    pub(super) lows: Keys,
    pub(super) children: Vec<Child>,
}

/// A link to a node, with what can be told about it without following the link.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) node: Arc<Node>,
    pub(super) summary: Summary,
}

/// What is below a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Keys whose newest change is no tombstone.
    pub(super) live: u64,
    /// The revision of the newest change.
    pub(super) newest: Revision,
    /// The revision of the oldest change.
    pub(super) oldest: Revision,
}

impl Summary {
    pub(super) const EMPTY: Summary = Summary { live: 0, newest: Revision::ZERO, oldest: Revision::MAX };

    /// No key is live at `at`.
    pub(super) fn nothing_at(&self, at: Revision) -> bool {
        (self.live == 0 && self.newest <= at) || self.oldest > at
    }

    pub(super) fn add(self, other: Summary) -> Summary {
        Summary {
            live: self.live + other.live,
            newest: self.newest.max(other.newest),
            oldest: self.oldest.min(other.oldest),
        }
    }
}

/// Whether a range may end within a node: else a side need not be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clip {
    pub(super) left: bool,
    pub(super) right: bool,
}

impl Clip {
    pub(super) const BOTH: Clip = Clip { left: true, right: true };
    pub(super) const NONE: Clip = Clip { left: false, right: false };
}

/// What a node's split leaves to its right: a bound between the two, and the new node.
pub(super) type Part = (Vec<u8>, Node);

impl Default for Node {
    /// The whole of an empty tree.
    fn default() -> Node {
        Node::Leaf(Leaf::default())
    }
}

impl Node {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys of a leaf, children of an inner node.
    fn len(&self) -> usize {
        self.keys().len()
    }

    fn keys(&self) -> &Keys {
        match self {
            Node::Leaf(leaf) => &leaf.keys,
            Node::Inner(inner) => &inner.lows,
        }
    }

    pub(super) fn summary(&self) -> Summary {
        match self {
            Node::Leaf(leaf) => leaf.summary(),
            Node::Inner(inner) => inner.children.iter().map(|child| child.summary).fold(Summary::EMPTY, Summary::add),
        }
    }

    pub(super) fn is_overfull(&self, shape: &Shape) -> bool {
        let (limit, few) = match self {
            Node::Leaf(_) => (shape.leaf, 2),
            Node::Inner(_) => (shape.inner, MIN_SPLIT),
        };
        self.len() > limit || (self.keys().bytes() > shape.bytes && self.len() >= few)
    }

    /// Whether this node and the one to its right should be one. Well below what makes a node
    /// overfull, so that a put and a compaction in turn do not split and merge in turn.
    pub(super) fn belongs_with(&self, low: &[u8], right: &Node, shape: &Shape) -> bool {
        let len = self.len() + right.len();
        let bytes = self.keys().bytes() + right.keys().bytes();
        match (self, right) {
            (Node::Leaf(_), Node::Leaf(_)) => len * 4 <= shape.leaf * 3 && bytes * 4 <= shape.bytes * 3,
            (Node::Inner(_), Node::Inner(_)) => {
                let bytes = bytes + low.len();
                len * 4 <= shape.inner * 3 && (bytes * 4 <= shape.bytes * 3 || len < MIN_SPLIT)
            }
            _ => false,
        }
    }

    /// Splits this node until neither it nor what it leaves to its right is overfull. `appended`: it
    /// became overfull by something at its end; then most likely more follows there, so the old part
    /// is left full.
    pub(super) fn split(&mut self, shape: &Shape, appended: bool) -> Vec<Part> {
        if !self.is_overfull(shape) {
            return Vec::new();
        }
        reached(if matches!(self, Node::Leaf(_)) { Point::LeafSplit } else { Point::InnerSplit });
        let at = if appended { self.len() - 1 } else { self.middle(shape) };
        let (low, mut right) = match self {
            Node::Leaf(leaf) => {
                let right = leaf.split_off(at);
                (separator(leaf.keys.last().unwrap_or_default(), right.keys.get(0)), Node::Leaf(right))
            }
            Node::Inner(inner) => inner.split_off(at),
        };
        let mut parts = self.split(shape, false);
        let more = right.split(shape, false);
        parts.push((low, right));
        parts.extend(more);
        parts
    }

    /// Where to split: in the middle by number or, if few long keys make it overfull, by bytes.
    fn middle(&self, shape: &Shape) -> usize {
        let (keys, limit, least) = match self {
            Node::Leaf(leaf) => (&leaf.keys, shape.leaf, 1),
            Node::Inner(inner) => (&inner.lows, shape.inner, MIN_SPLIT / 2),
        };
        if keys.len() > limit {
            return keys.len() / 2;
        }
        let half = keys.bytes() / 2;
        let distance = |n: usize| keys.bytes_before(n).abs_diff(half);
        let nearest = (least..=keys.len() - least).min_by_key(|&n| distance(n));
        nearest.unwrap_or(keys.len() / 2)
    }

    /// Bytes on the heap of this node and all below it.
    pub(super) fn memory_bytes(&self) -> usize {
        let own = size_of::<Node>() + 2 * size_of::<usize>() + ALLOCATION;
        own + match self {
            Node::Leaf(leaf) => leaf.memory_bytes(),
            Node::Inner(inner) => {
                let below: usize = inner.children.iter().map(|child| child.node.memory_bytes()).sum();
                inner.lows.memory_bytes() + heap_bytes(&inner.children) + below
            }
        }
    }
}

impl Inner {
    /// The child that has `key`, or would.
    pub(super) fn route(&self, key: &[u8]) -> usize {
        self.lows.partition_point(|low| low <= key).saturating_sub(1)
    }

    /// The positions of the children that may have keys of `range`, which is not empty.
    pub(super) fn span(&self, range: &KeyRange, clip: Clip) -> (usize, usize) {
        let from = if clip.left { self.route(range.start()) } else { 0 };
        let to = if clip.right { self.lows.partition_point(|low| !range.ends_before(low)) } else { self.lows.len() };
        (from, to.max(from))
    }

    pub(super) fn push(&mut self, low: &[u8], node: Node) {
        self.insert(self.children.len(), low, node);
    }

    pub(super) fn insert(&mut self, i: usize, low: &[u8], node: Node) {
        self.lows.insert(i, low);
        make_room(&mut self.children, 1);
        let summary = node.summary();
        self.children.insert(i, Child { node: Arc::new(node), summary });
    }

    /// Whether one more child should go into another node, when `most` are aimed at.
    pub(super) fn is_full_for(&self, low: &[u8], most: usize, shape: &Shape) -> bool {
        let len = self.children.len();
        len >= most || (len + 1 >= MIN_SPLIT && self.lows.bytes() + low.len() > shape.bytes)
    }

    fn remove(&mut self, i: usize) {
        self.lows.remove(i);
        self.children.remove(i);
        if i == 0 && self.lows.len() > 0 {
            self.lows.clear_first();
        }
    }

    fn split_off(&mut self, at: usize) -> Part {
        let mut lows = self.lows.split_off(at);
        let children = self.children.split_off(at);
        fit(&mut self.children);
        let low = lows.get(0).to_vec();
        lows.clear_first();
        (low, Node::Inner(Inner { lows, children }))
    }

    /// Restores what holds between siblings after the children from `first` to `last` have changed:
    /// none is empty, and no two neighbours should be one.
    pub(super) fn settle(&mut self, first: usize, last: usize, shape: &Shape) {
        let mut i = last;
        loop {
            if self.children.get(i).is_some_and(|child| child.node.is_empty()) {
                reached(Point::NodeVanished);
                self.remove(i);
            } else {
                self.merge_with_next(i, shape);
            }
            // The one before `first` has a new neighbour too.
            if i == 0 || i < first {
                return;
            }
            i -= 1;
        }
    }

    fn merge_with_next(&mut self, i: usize, shape: &Shape) {
        let Some([left, right]) = self.children.get(i..i + 2) else { return };
        if !left.node.belongs_with(self.lows.get(i + 1), &right.node, shape) {
            return;
        }
        reached(if matches!(*left.node, Node::Leaf(_)) { Point::LeafMerge } else { Point::InnerMerge });
        let low = self.lows.get(i + 1).to_vec();
        let right = self.children.remove(i + 1);
        self.lows.remove(i + 1);
        let left = &mut self.children[i];
        left.summary = left.summary.add(right.summary);
        match (Arc::make_mut(&mut left.node), Arc::unwrap_or_clone(right.node)) {
            (Node::Leaf(left), Node::Leaf(right)) => left.append(right),
            (Node::Inner(left), Node::Inner(right)) => left.append(&low, right, shape),
            // Siblings are of one kind: `belongs_with` has seen to it.
            _ => {}
        }
    }

    fn append(&mut self, low: &[u8], right: Inner, shape: &Shape) {
        let seam = self.children.len();
        for (i, child) in right.children.into_iter().enumerate() {
            self.lows.push(if i == 0 { low } else { right.lows.get(i) });
            make_room(&mut self.children, 1);
            self.children.push(child);
        }
        if let Some(before) = seam.checked_sub(1) {
            self.merge_with_next(before, shape);
        }
    }
}

impl Clone for Inner {
    fn clone(&self) -> Inner {
        Inner { lows: self.lows.clone(), children: clone_with_room(&self.children) }
    }
}

/// The shortest key above `left` and not above `right`.
pub(super) fn separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    let common = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    right[..right.len().min(common + 1)].to_vec()
}
