use stentor_proto::Revision;

use super::past::{Packed, Past, newest_at};
use super::{Found, Generation, KeyChange, Newest};
use crate::ChangeId;

/// The newest change of a key. What was before is kept by the leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    revision: Revision,
    sub: u32,
    /// Where the changes before it end in the leaf's list of recent ones.
    pub(super) recent_end: u32,
    /// Where the generation began; meaningless for a tombstone.
    create: Revision,
    /// 0 for a tombstone, as in the protocol.
    version: i64,
}

/// What a change makes of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    /// The next version of the key, or the first of a new generation.
    Put,
    /// This, whatever the key was; `None` is a tombstone.
    Set(Option<Generation>),
}

/// What a compaction does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compaction {
    Nothing,
    /// Drop the changes below this one.
    Trim(ChangeId),
    /// Drop the key.
    Remove,
}

impl Head {
    pub(super) fn new(at: ChangeId, generation: Option<Generation>, recent_end: u32) -> Head {
        let (create, version) = generation.map_or((Revision::ZERO, 0), |life| (life.create, life.version));
        Head { revision: at.revision, sub: at.sub, recent_end, create, version }
    }

    pub(super) fn is_live(&self) -> bool {
        self.version != 0
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn generation(&self) -> Option<Generation> {
        self.is_live().then_some(Generation { create: self.create, version: self.version })
    }

    pub(super) fn change(&self) -> KeyChange {
        KeyChange { id: ChangeId { revision: self.revision, sub: self.sub }, tombstone: !self.is_live() }
    }
}

impl Edit {
    /// The generation after a change at `at` of a key that was in `now`.
    pub(super) fn apply(self, now: Option<Generation>, at: ChangeId) -> Option<Generation> {
        match (self, now) {
            (Edit::Set(generation), _) => generation,
            (Edit::Put, Some(now)) => Some(Generation { version: now.version + 1, ..now }),
            (Edit::Put, None) => Some(Generation { create: at.revision, version: 1 }),
        }
    }
}

/// All changes of one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) head: &'a Head,
    /// Those before the head, oldest first.
    pub(super) recent: &'a [Packed],
    /// Those before the recent ones.
    pub(super) past: Option<&'a Past>,
}

impl<'a> Entry<'a> {
    /// The newest change, if the key is live.
    pub(super) fn live(self) -> Option<Newest> {
        let Generation { create, version } = self.head.generation()?;
        Some(Newest { change: self.head.change().id, create, version })
    }

    /// The oldest change.
    pub(super) fn oldest(self) -> ChangeId {
        let recent = || self.recent.first().map(|change| change.id());
        self.past.and_then(Past::oldest).or_else(recent).unwrap_or_else(|| self.head.change().id)
    }

    /// The newest change at or below `at`.
    pub(super) fn change_at(self, at: Revision) -> Option<KeyChange> {
        if self.head.revision <= at {
            return Some(self.head.change());
        }
        newest_at(self.recent, at).or_else(|| self.past?.newest_at(at))
    }

    /// What a read at `at` finds.
    pub(super) fn find(self, at: Revision) -> Option<Found> {
        if self.head.revision <= at {
            let newest = self.head.generation()?;
            return Some(Found { change: self.head.change().id, newest: Some(newest) });
        }
        let change = self.change_at(at).filter(|change| !change.tombstone)?.id;
        Some(Found { change, newest: None })
    }

    /// All changes, newest first.
    pub(super) fn changes(self) -> impl Iterator<Item = KeyChange> + use<'a> {
        let recent = self.recent.iter().rev().map(|change| change.unpack());
        let past = self.past.into_iter().flat_map(Past::iter);
        std::iter::once(self.head.change()).chain(recent).chain(past)
    }

    /// What is to be done for a compaction at `compact`. What is kept is always the newest part of the
    /// changes, so a bound says it all.
    pub(super) fn compaction(self, compact: Revision) -> Compaction {
        let bound = match self.change_at(compact) {
            None => return Compaction::Nothing,
            // A watch from `compact` delivers the changes of that revision, and what they replaced.
            Some(last) if last.id.revision == compact => match self.change_at(compact.previous()) {
                Some(before) if !before.tombstone && compact > Revision::ZERO => before.id,
                _ => ChangeId { revision: compact, sub: 0 },
            },
            Some(last) if last.tombstone => ChangeId { revision: compact, sub: 0 },
            Some(last) => last.id,
        };
        if self.head.change().id < bound {
            Compaction::Remove
        } else if self.oldest() < bound {
            Compaction::Trim(bound)
        } else {
            Compaction::Nothing
        }
    }
}
