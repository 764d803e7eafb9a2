//! Changing the tree: every function copies what is shared on the path to a key and changes the rest
//! in place.

use std::sync::Arc;

use super::entry::{Compaction, Edit};
use super::node::{Inner, Node, Part, Shape, Summary};
use super::{Generation, KeyChange};
use crate::ChangeId;

/// What a change found and made.
pub(super) struct Changed {
    /// The key's newest change before, with its generation if it was live.
    pub(super) before: Option<(KeyChange, Option<Generation>)>,
    /// `None` if it is a tombstone.
    pub(super) after: Option<Generation>,
}

impl Changed {
    pub(super) fn was_live(&self) -> bool {
        self.before.is_some_and(|(_, generation)| generation.is_some())
    }

    pub(super) fn is_live(&self) -> bool {
        self.after.is_some()
    }
}

impl Summary {
    /// Takes note of a change below.
    pub(super) fn note(&mut self, changed: &Changed, at: ChangeId) {
        self.live = self.live + u64::from(changed.is_live()) - u64::from(changed.was_live());
        self.newest = self.newest.max(at.revision);
        self.oldest = self.oldest.min(at.revision);
    }
}

/// Adds a change to a key of the tree.
pub(super) fn change(root: &mut Arc<Node>, key: &[u8], at: ChangeId, edit: Edit, shape: &Shape) -> Changed {
    let below = change_below(root, key, at, edit, shape);
    if !below.parts.is_empty() {
        let mut top = Inner::default();
        top.push(&[], Arc::unwrap_or_clone(std::mem::take(root)));
        top.take_split(0, below.parts, shape);
        *root = Arc::new(Node::Inner(top));
    }
    if below.reshaped {
        lower(root);
    }
    below.changed
}

/// What a change did to a node and those below it.
struct Below {
    changed: Changed,
    /// What it left to its right.
    parts: Vec<Part>,
    /// Nodes were split or merged, so it may have become smaller or larger.
    reshaped: bool,
}

fn change_below(link: &mut Arc<Node>, key: &[u8], at: ChangeId, edit: Edit, shape: &Shape) -> Below {
    let node = Arc::make_mut(link);
    let (changed, appended, reshaped) = match node {
        Node::Leaf(leaf) => {
            let (changed, appended) = leaf.change(key, at, edit);
            (changed, appended, false)
        }
        Node::Inner(inner) => {
            let i = inner.route(key);
            let Below { changed, parts, reshaped } = change_below(&mut inner.children[i].node, key, at, edit, shape);
            if !reshaped {
                inner.children[i].summary.note(&changed, at);
                return Below { changed, parts, reshaped };
            }
            let appended = i + 1 == inner.children.len();
            inner.take_split(i, parts, shape);
            (changed, appended, true)
        }
    };
    let parts = node.split(shape, appended);
    let reshaped = reshaped || !parts.is_empty();
    Below { changed, parts, reshaped }
}

/// A root with one child is no use.
fn lower(root: &mut Arc<Node>) {
    while let Node::Inner(inner) = &**root {
        match &inner.children[..] {
            [] => *root = Arc::default(),
            [only] => *root = Arc::clone(&only.node),
            _ => return,
        }
    }
}

impl Inner {
    /// Child `i` was reshaped: takes what it left to its right, if anything.
    fn take_split(&mut self, i: usize, parts: Vec<Part>, shape: &Shape) {
        let last = i + parts.len();
        for (n, (low, node)) in parts.into_iter().enumerate() {
            self.insert(i + 1 + n, &low, node);
        }
        let child = &mut self.children[i];
        child.summary = child.node.summary();
        self.settle(i, last, shape);
    }
}

/// Does to a key of the tree what [`super::entry::Entry::compaction`] said.
pub(super) fn compact(root: &mut Arc<Node>, key: &[u8], what: Compaction, shape: &Shape) {
    compact_below(root, key, what, shape);
    lower(root);
}

fn compact_below(link: &mut Arc<Node>, key: &[u8], what: Compaction, shape: &Shape) {
    match Arc::make_mut(link) {
        Node::Leaf(leaf) => {
            let Ok(i) = leaf.keys.search(key) else { return };
            match what {
                Compaction::Nothing => {}
                Compaction::Trim(bound) => leaf.trim(i, bound),
                Compaction::Remove => leaf.remove(i),
            }
        }
        Node::Inner(inner) => {
            let i = inner.route(key);
            let child = &mut inner.children[i];
            compact_below(&mut child.node, key, what, shape);
            child.summary = child.node.summary();
            if what == Compaction::Remove {
                inner.settle(i, i, shape);
            }
        }
    }
}
