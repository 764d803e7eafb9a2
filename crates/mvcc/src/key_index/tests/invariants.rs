use super::super::node::{Node, Shape, Summary};
use super::super::view::IndexView;

/// Checks everything that must hold of a tree.
pub(super) fn check(view: &IndexView, shape: &Shape) {
    let mut checked = Checked { last: None, keys: 0, leaf_depth: None };
    let summary = checked.node(&view.root, None, None, 0, shape);
    assert_eq!(summary, view.summary);
    assert_eq!(checked.keys, view.keys);
    if let Node::Inner(root) = &*view.root {
        assert!(root.children.len() > 1, "a root with one child");
    }
}

struct Checked {
    last: Option<Vec<u8>>,
    keys: u64,
    leaf_depth: Option<usize>,
}

impl Checked {
    fn node(&mut self, node: &Node, low: Option<&[u8]>, high: Option<&[u8]>, depth: usize, shape: &Shape) -> Summary {
        assert!(!node.is_overfull(shape), "overfull: {node:?}");
        match node {
            Node::Leaf(leaf) => {
                assert_eq!(*self.leaf_depth.get_or_insert(depth), depth);
                assert_eq!(leaf.keys.len(), leaf.len());
                self.keys += leaf.len() as u64;
                for i in 0..leaf.keys.len() {
                    let key = leaf.keys.get(i);
                    assert!(low.is_none_or(|low| low <= key) && high.is_none_or(|high| key < high));
                    assert!(self.last.as_deref().is_none_or(|last| last < key), "keys out of order");
                    self.last = Some(key.to_vec());
                    let changes: Vec<_> = leaf.entry(i).changes().map(|change| change.id).collect();
                    assert!(changes.is_sorted_by(|a, b| a > b), "changes out of order");
                    assert_eq!(leaf.entry(i).oldest(), *changes.last().unwrap());
                }
                leaf.summary()
            }
            Node::Inner(inner) => {
                assert_eq!(inner.lows.len(), inner.children.len());
                assert!(inner.lows.get(0).is_empty());
                let mut sum = Summary::EMPTY;
                for (i, child) in inner.children.iter().enumerate() {
                    assert!(!child.node.is_empty(), "an empty node");
                    let low = if i == 0 { low } else { Some(inner.lows.get(i)) };
                    let next = inner.children.get(i + 1).map(|right| (inner.lows.get(i + 1), right));
                    if let Some((bound, right)) = next {
                        assert!(!child.node.belongs_with(bound, &right.node, shape), "nodes to be merged");
                    }
                    let summary = self.node(&child.node, low, next.map(|(bound, _)| bound).or(high), depth + 1, shape);
                    assert_eq!(summary, child.summary);
                    sum = sum.add(summary);
                }
                sum
            }
        }
    }
}
