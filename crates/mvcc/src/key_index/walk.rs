use stentor_proto::{KeyRange, Revision};

use super::entry::Entry;
use super::leaf::Leaf;
use super::node::{Child, Clip, Inner, Node};
use super::reached::{Point, reached};

/// Goes over the keys of a range in one direction, entering no subtree that has nothing to find.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    range: KeyRange,
    /// Subtrees in which no key is live at this revision are skipped; `None` skips none.
    at: Option<Revision>,
    reverse: bool,
    /// Inner nodes from the root down, with the children still to be visited.
    stack: Vec<Frame<'a>>,
    leaf: &'a Leaf,
    /// Positions in `leaf` still to be visited.
    from: usize,
    to: usize,
}

/// An inner node with the children still to be visited.
#[derive(Debug)]
struct Frame<'a> {
    inner: &'a Inner,
    from: usize,
    to: usize,
    clip: Clip,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Node, range: &KeyRange, at: Option<Revision>, reverse: bool) -> Walk<'a> {
        let mut walk = Walk::nowhere(range.clone(), at, reverse);
        if !range.is_empty() {
            walk.enter(root, Clip::BOTH);
        }
        walk
    }

    /// Over every key, the empty one included.
    pub(super) fn over_all(root: &'a Node) -> Walk<'a> {
        let mut walk = Walk::nowhere(KeyRange::all(), None, false);
        walk.enter(root, Clip::NONE);
        walk
    }

    fn nowhere(range: KeyRange, at: Option<Revision>, reverse: bool) -> Walk<'a> {
        Walk { range, at, reverse, stack: Vec::new(), leaf: Leaf::EMPTY, from: 0, to: 0 }
    }

    fn enter(&mut self, node: &'a Node, clip: Clip) {
        reached(Point::NodeEntered);
        match node {
            Node::Leaf(leaf) => {
                self.leaf = leaf;
                (self.from, self.to) = leaf.span(&self.range, clip);
            }
            Node::Inner(inner) => {
                let (from, to) = inner.span(&self.range, clip);
                self.stack.push(Frame { inner, from, to, clip });
            }
        }
    }

    /// Goes to the next leaf, if there is one.
    fn advance(&mut self) -> Option<()> {
        while let Some(frame) = self.stack.last_mut() {
            let Some((child, clip)) = frame.next(self.reverse) else {
                self.stack.pop();
                continue;
            };
            if self.at.is_some_and(|at| child.summary.nothing_at(at)) {
                reached(Point::SubtreeSkipped);
                continue;
            }
            self.enter(&child.node, clip);
            if matches!(*child.node, Node::Leaf(_)) {
                return Some(());
            }
        }
        None
    }
}

impl<'a> Frame<'a> {
    /// The next child, and on which sides the range may end in it.
    fn next(&mut self, reverse: bool) -> Option<(&'a Child, Clip)> {
        if self.from == self.to {
            return None;
        }
        let only = self.from + 1 == self.to;
        let Clip { left, right } = self.clip;
        if reverse {
            self.to -= 1;
            self.clip.right = false;
            Some((self.inner.children.get(self.to)?, Clip { left: left && only, right }))
        } else {
            self.from += 1;
            self.clip.left = false;
            Some((self.inner.children.get(self.from - 1)?, Clip { left, right: right && only }))
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (&'a [u8], Entry<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.from == self.to {
            self.advance()?;
        }
        let i = if self.reverse {
            self.to -= 1;
            self.to
        } else {
            self.from += 1;
            self.from - 1
        };
        Some((self.leaf.keys.get(i), self.leaf.entry(i)))
    }
}
