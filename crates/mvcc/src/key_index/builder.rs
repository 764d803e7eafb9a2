use std::sync::Arc;

use super::index::KeyIndex;
use super::leaf::Leaf;
use super::log::{Log, LogLimits};
use super::node::{Inner, Node, Part, Shape, Summary, separator};
use super::view::IndexView;
use super::{Generation, KeyChange};

/// Builds a [`KeyIndex`] from all keys in order, as a restart does: much faster than change by change.
///
/// ```
/// use stentor_mvcc::ChangeId;
/// use stentor_mvcc::key_index::{Builder, Generation, KeyChange};
/// use stentor_proto::Revision;
///
/// let revision = Revision::new(7).unwrap();
/// let change = KeyChange { id: ChangeId { revision, sub: 0 }, tombstone: false };
/// let mut builder = Builder::new();
/// builder.push(b"a", &[change], Some(Generation { create: revision, version: 1 }))?;
/// let index = builder.finish();
/// assert_eq!(index.live_keys(), 1);
/// # Ok::<(), stentor_mvcc::key_index::BuildError>(())
/// ```
#[derive(Debug)]
pub struct Builder {
    shape: Shape,
    log: LogLimits,
    /// Leaves that are finished, each with the bound between it and the one before it.
    leaves: Vec<Part>,
    leaf: Leaf,
    leaf_low: Vec<u8>,
    last: Vec<u8>,
    keys: u64,
    summary: Summary,
}

/// Keys handed to a [`Builder`] are not what an index can hold: their source is damaged.
///
/// ```
/// use stentor_mvcc::key_index::{BuildError, Builder};
/// assert_eq!(Builder::new().push(b"a", &[], None), Err(BuildError::ChangeOrder));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A key is not above the one before it.
    #[error("keys of an index are not in order: read the index from history instead")]
    KeyOrder,
    /// A key has no changes, or they are not in descending order.
    #[error("the changes of a key are not in order: read the index from history instead")]
    ChangeOrder,
    /// A live key has no generation, a deleted one has one, or it cannot be that of the newest change.
    #[error("the generation of a key contradicts its changes: read the index from history instead")]
    Generation,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// Without keys.
    pub fn new() -> Builder {
        Builder::with_limits(Shape::DEFAULT, LogLimits::DEFAULT)
    }

    pub(super) fn with_limits(shape: Shape, log: LogLimits) -> Builder {
        Builder {
            shape,
            log,
            leaves: Vec::new(),
            leaf: Leaf::default(),
            leaf_low: Vec::new(),
            last: Vec::new(),
            keys: 0,
            summary: Summary::EMPTY,
        }
    }

    /// Adds a key above all before it with its changes, newest first, and the generation of the newest
    /// unless that is a tombstone.
    ///
    /// ```
    /// use stentor_mvcc::key_index::{BuildError, Builder, Generation, KeyChange};
    /// # use stentor_mvcc::ChangeId;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let put = [KeyChange { id: at(7), tombstone: false }];
    /// let generation = Some(Generation { create: at(7).revision, version: 1 });
    /// let mut builder = Builder::new();
    /// builder.push(b"b", &put, generation)?;
    /// assert_eq!(builder.push(b"a", &put, generation), Err(BuildError::KeyOrder));
    /// // A live key has a generation.
    /// assert_eq!(builder.push(b"c", &put, None), Err(BuildError::Generation));
    /// # Ok::<(), BuildError>(())
    /// ```
    ///
    /// # Errors
    /// [`BuildError`]; the builder is as it was before.
    pub fn push(
        &mut self,
        key: &[u8],
        changes: &[KeyChange],
        generation: Option<Generation>,
    ) -> Result<(), BuildError> {
        if self.keys > 0 && *key <= *self.last {
            return Err(BuildError::KeyOrder);
        }
        let (newest, before) = checked(changes, generation)?;
        // Some room, so that the first puts do not split every node.
        let full = self.leaf.len() >= (self.shape.leaf - self.shape.leaf / 8).max(1)
            || self.leaf.keys.bytes() + key.len() > self.shape.bytes;
        if full && self.leaf.len() > 0 {
            self.end_leaf();
            self.leaf_low = separator(&self.last, key);
        }
        self.leaf.push(key, newest.id, generation, before);
        self.summary = self.summary.add(self.leaf.summary_of(self.leaf.len() - 1));
        self.keys += 1;
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }

    /// Finishes the leaf, and begins another of about its size.
    fn end_leaf(&mut self) {
        let next = Leaf::with_room_of(&self.leaf);
        let mut leaf = std::mem::replace(&mut self.leaf, next);
        leaf.fit();
        self.leaves.push((std::mem::take(&mut self.leaf_low), Node::Leaf(leaf)));
    }

    /// The index of all keys added.
    ///
    /// ```
    /// use stentor_mvcc::key_index::{Builder, Generation, KeyChange};
    /// # use stentor_mvcc::ChangeId;
    /// # use stentor_proto::Revision;
    /// # let at = |revision| ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 };
    /// let mut builder = Builder::new();
    /// builder.push(b"a", &[KeyChange { id: at(7), tombstone: true }], None)?;
    /// let mut index = builder.finish();
    /// // It goes on as any other.
    /// index.put(b"a", at(8));
    /// assert_eq!((index.keys(), index.live_keys()), (1, 1));
    /// # Ok::<(), stentor_mvcc::key_index::BuildError>(())
    /// ```
    pub fn finish(mut self) -> KeyIndex {
        self.end_leaf();
        let mut nodes = self.leaves;
        while nodes.len() > 1 {
            nodes = level_above(nodes, &self.shape);
        }
        let root = nodes.pop().map_or_else(Node::default, |(_, node)| node);
        let view = IndexView {
            root: Arc::new(root),
            summary: self.summary,
            keys: self.keys,
            log: Log::new(self.log, self.summary.newest),
        };
        KeyIndex::from_view(view, self.shape)
    }
}

/// The newest change and those before it.
fn checked(changes: &[KeyChange], generation: Option<Generation>) -> Result<(&KeyChange, &[KeyChange]), BuildError> {
    let [newest, before @ ..] = changes else { return Err(BuildError::ChangeOrder) };
    if changes.windows(2).any(|pair| pair[0].id <= pair[1].id) {
        return Err(BuildError::ChangeOrder);
    }
    let possible = match generation {
        None => newest.tombstone,
        Some(Generation { create, version }) => !newest.tombstone && version >= 1 && create <= newest.id.revision,
    };
    if !possible {
        return Err(BuildError::Generation);
    }
    Ok((newest, before))
}

/// Gathers nodes under inner nodes.
fn level_above(nodes: Vec<Part>, shape: &Shape) -> Vec<Part> {
    let most = shape.inner - (shape.inner / 8).max(1);
    let mut above: Vec<(Vec<u8>, Inner)> = Vec::new();
    for (low, node) in nodes {
        match above.last_mut() {
            Some((_, inner)) if !inner.is_full_for(&low, most, shape) => inner.push(&low, node),
            _ => {
                let mut inner = Inner::default();
                inner.push(&[], node);
                above.push((low, inner));
            }
        }
    }
    above.into_iter().map(|(low, inner)| (low, Node::Inner(inner))).collect()
}
