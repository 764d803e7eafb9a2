use stentor_proto::Revision;

use super::past::Past;
use super::{Found, Generation, KeyChange, Newest};
use crate::ChangeId;

/// The changes of one key.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    newest: ChangeId,
    /// Where the generation of the newest change began; meaningless for a tombstone.
    create: Revision,
    /// The version of the newest change; 0 for a tombstone, as in the protocol.
    version: i64,
    past: Past,
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

impl Entry {
    /// A key that has its first change.
    pub(super) fn new(at: ChangeId, edit: Edit) -> Entry {
        let generation = match edit {
            Edit::Put => Some(Generation { create: at.revision, version: 1 }),
            Edit::Set(generation) => generation,
        };
        let (create, version) = packed(generation);
        Entry { newest: at, create, version, past: Past::default() }
    }

    /// A key with a newest change and, newest first, those before it.
    pub(super) fn with_past(at: ChangeId, edit: Edit, before: &[KeyChange]) -> Entry {
        let mut entry = Entry::new(at, edit);
        for change in before.iter().rev() {
            entry.past.push(*change);
        }
        entry
    }

    /// Adds a change.
    pub(super) fn change(&mut self, at: ChangeId, edit: Edit) {
        let generation = match (edit, self.generation()) {
            (Edit::Set(generation), _) => generation,
            (Edit::Put, Some(now)) => Some(Generation { version: now.version + 1, ..now }),
            (Edit::Put, None) => Some(Generation { create: at.revision, version: 1 }),
        };
        self.past.push(self.newest_change());
        self.newest = at;
        (self.create, self.version) = packed(generation);
    }

    pub(super) fn is_live(&self) -> bool {
        self.version != 0
    }

    pub(super) fn generation(&self) -> Option<Generation> {
        self.is_live().then_some(Generation { create: self.create, version: self.version })
    }

    /// The newest change, if the key is live.
    pub(super) fn live(&self) -> Option<Newest> {
        self.is_live().then_some(Newest { change: self.newest, create: self.create, version: self.version })
    }

    pub(super) fn newest_change(&self) -> KeyChange {
        KeyChange { id: self.newest, tombstone: !self.is_live() }
    }

    /// The revision of the oldest change.
    pub(super) fn oldest(&self) -> Revision {
        self.past.oldest().unwrap_or(self.newest).revision
    }

    /// The newest change at or below `at`.
    pub(super) fn change_at(&self, at: Revision) -> Option<KeyChange> {
        if self.newest.revision <= at { Some(self.newest_change()) } else { self.past.newest_at(at) }
    }

    /// What a read at `at` finds.
    pub(super) fn find(&self, at: Revision) -> Option<Found> {
        let change = self.change_at(at).filter(|change| !change.tombstone)?.id;
        let newest = if change == self.newest { self.generation() } else { None };
        Some(Found { change, newest })
    }

    /// All changes, newest first.
    pub(super) fn changes(&self) -> impl Iterator<Item = KeyChange> {
        std::iter::once(self.newest_change()).chain(self.past.iter())
    }

    /// What is to be done for a compaction at `compact`. What is kept is always the newest part of the
    /// changes, so a bound says it all.
    pub(super) fn compaction(&self, compact: Revision) -> Compaction {
        let bound = match self.change_at(compact) {
            None => return Compaction::Nothing,
            // A watch from `compact` delivers the changes of that revision, and what they replaced.
            Some(last) if last.id.revision == compact => match self.change_at(compact.previous()) {
                Some(before) if !before.tombstone && compact > Revision::ZERO => before.id,
                _ => ChangeId { revision: compact, sub: 0 },
            },
            Some(last) if last.tombstone => ChangeId { revision: compact.next(), sub: 0 },
            Some(last) => last.id,
        };
        if self.newest < bound {
            Compaction::Remove
        } else if self.past.oldest().is_some_and(|oldest| oldest < bound) {
            Compaction::Trim(bound)
        } else {
            Compaction::Nothing
        }
    }

    /// Drops the changes below `bound`, which is not above the newest.
    pub(super) fn trim(&mut self, bound: ChangeId) {
        self.past.trim(bound);
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        self.past.memory_bytes()
    }
}

fn packed(generation: Option<Generation>) -> (Revision, i64) {
    generation.map_or((Revision::ZERO, 0), |generation| (generation.create, generation.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key with changes such as "2/0 put, 3/0 delete": `p` and `d` with revision and sub-revision.
    fn entry(changes: &[(char, i64, u32)]) -> Entry {
        let edit = |kind| if kind == 'p' { Edit::Put } else { Edit::Set(None) };
        let (kind, revision, sub) = changes[0];
        let mut entry = Entry::new(id(revision, sub), edit(kind));
        for &(kind, revision, sub) in &changes[1..] {
            entry.change(id(revision, sub), edit(kind));
        }
        entry
    }

    fn id(revision: i64, sub: u32) -> ChangeId {
        ChangeId { revision: Revision::new(revision).unwrap(), sub }
    }

    /// The changes left by a compaction.
    fn compacted(changes: &[(char, i64, u32)], at: i64) -> Vec<(char, i64, u32)> {
        let mut entry = entry(changes);
        match entry.compaction(Revision::new(at).unwrap()) {
            Compaction::Nothing => {}
            Compaction::Trim(bound) => entry.trim(bound),
            Compaction::Remove => return Vec::new(),
        }
        let kind = |change: &KeyChange| if change.tombstone { 'd' } else { 'p' };
        let mut left: Vec<_> = entry.changes().map(|c| (kind(&c), c.id.revision.get(), c.id.sub)).collect();
        left.reverse();
        left
    }

    #[test]
    fn a_put_after_a_tombstone_begins_a_generation() {
        let entry = entry(&[('p', 2, 0), ('p', 3, 0), ('d', 4, 0), ('p', 4, 1), ('p', 4, 2)]);
        assert_eq!(entry.generation(), Some(Generation { create: id(4, 0).revision, version: 2 }));
        assert_eq!(entry.find(Revision::new(3).unwrap()), Some(Found { change: id(3, 0), newest: None }));
        let newest = entry.generation();
        assert_eq!(entry.find(Revision::new(4).unwrap()), Some(Found { change: id(4, 2), newest }));
        assert_eq!(entry.find(Revision::new(1).unwrap()), None);
    }

    #[test]
    fn compaction_keeps_the_newest_below() {
        let changes = [('p', 2, 0), ('p', 4, 0), ('p', 6, 0)];
        assert_eq!(compacted(&changes, 1), changes);
        assert_eq!(compacted(&changes, 3), changes);
        assert_eq!(compacted(&changes, 5), changes[1..]);
        assert_eq!(compacted(&changes, 7), changes[2..]);
    }

    #[test]
    fn compaction_drops_a_tombstone_below_but_not_at_its_revision() {
        let changes = [('p', 2, 0), ('d', 4, 0)];
        assert_eq!(compacted(&changes, 4), changes);
        assert_eq!(compacted(&changes, 5), []);
        let again = [('p', 2, 0), ('d', 4, 0), ('p', 8, 0)];
        assert_eq!(compacted(&again, 4), again);
        assert_eq!(compacted(&again, 5), again[2..]);
    }

    #[test]
    fn compaction_keeps_what_a_watch_from_its_revision_tells() {
        let changes = [('p', 2, 0), ('p', 3, 0), ('d', 4, 0), ('p', 4, 1), ('d', 4, 2), ('p', 9, 0)];
        assert_eq!(compacted(&changes, 4), changes[1..]);
        assert_eq!(compacted(&changes, 5), changes[5..]);
        // What was deleted before has no value to tell.
        let reborn = [('p', 2, 0), ('d', 3, 0), ('p', 4, 0)];
        assert_eq!(compacted(&reborn, 4), reborn[2..]);
    }
}
