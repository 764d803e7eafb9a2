use stentor_proto::{KeyRange, Revision};

use super::node::{Clip, Node, Summary};
use super::reached::{Point, reached};

/// The number of keys of `range` that are live at `at`. Nodes in which nothing has changed since are
/// not entered, so at the newest revision only the two ends of the range are.
pub(super) fn count(node: &Node, summary: Summary, range: &KeyRange, at: Revision) -> u64 {
    if range.is_empty() { 0 } else { count_below(node, summary, range, at, Clip::BOTH) }
}

fn count_below(node: &Node, summary: Summary, range: &KeyRange, at: Revision, clip: Clip) -> u64 {
    if summary.nothing_at(at) {
        reached(Point::SubtreeSkipped);
        return 0;
    }
    if !clip.left && !clip.right && summary.newest <= at {
        return summary.live;
    }
    reached(Point::NodeEntered);
    match node {
        Node::Leaf(leaf) => {
            let (from, to) = leaf.span(range, clip);
            (from..to).filter(|&i| leaf.entry(i).find(at).is_some()).count() as u64
        }
        Node::Inner(inner) => {
            let (from, to) = inner.span(range, clip);
            let children = inner.children[from..to].iter().enumerate();
            children
                .map(|(i, child)| {
                    let clip = Clip { left: clip.left && i == 0, right: clip.right && from + i + 1 == to };
                    count_below(&child.node, child.summary, range, at, clip)
                })
                .sum()
        }
    }
}
