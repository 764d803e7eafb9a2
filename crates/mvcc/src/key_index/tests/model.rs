use std::collections::BTreeMap;

use stentor_proto::{KeyRange, Revision};

use super::super::{Generation, KeyChange, Newest, Placed};
use crate::ChangeId;

/// The index as obvious as can be.
#[derive(Clone, Default)]
pub(super) struct Model {
    /// Every key with its changes, oldest first.
    pub(super) keys: BTreeMap<Vec<u8>, Vec<Change>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) id: ChangeId,
    /// `None` for a tombstone.
    pub(super) generation: Option<Generation>,
}

impl Model {
    pub(super) fn put(&mut self, key: &[u8], at: ChangeId) -> Placed {
        let changes = self.keys.entry(key.to_vec()).or_default();
        let last = changes.last().copied();
        let generation = match last.and_then(|last| last.generation) {
            Some(Generation { create, version }) => Generation { create, version: version + 1 },
            None => Generation { create: at.revision, version: 1 },
        };
        changes.push(Change { id: at, generation: Some(generation) });
        Placed { create: generation.create, version: generation.version, previous: last.map(|last| last.id) }
    }

    pub(super) fn delete(&mut self, key: &[u8], at: ChangeId) -> Option<Newest> {
        let changes = self.keys.get_mut(key)?;
        let last = *changes.last()?;
        let Generation { create, version } = last.generation?;
        changes.push(Change { id: at, generation: None });
        Some(Newest { change: last.id, create, version })
    }

    pub(super) fn compact_key(&mut self, key: &[u8], compact: Revision) {
        let Some(changes) = self.keys.get_mut(key) else { return };
        let newest = |at: Revision| changes.iter().rev().find(|change| change.id.revision <= at).copied();
        let last = newest(compact);
        let before = newest(compact.previous());
        let changed_then = changes.iter().any(|change| change.id.revision == compact);
        changes.retain(|change| {
            let is_last = last.is_some_and(|last| last.id == change.id);
            let is_before = before.is_some_and(|before| before.id == change.id);
            change.id.revision >= compact
                || (is_last && change.generation.is_some())
                || (is_before && changed_then && change.generation.is_some())
        });
        if changes.is_empty() {
            self.keys.remove(key);
        }
    }

    pub(super) fn change_at(&self, key: &[u8], at: Revision) -> Option<Change> {
        self.keys.get(key)?.iter().rev().find(|change| change.id.revision <= at).copied()
    }

    /// The live keys with the change of each, and the generation if it is the key's newest.
    pub(super) fn range(&self, range: &KeyRange, at: Revision) -> Vec<(Vec<u8>, ChangeId, Option<Generation>)> {
        let keys = self.keys.iter().filter(|(key, _)| range.contains(key));
        keys.filter_map(|(key, changes)| {
            let change = self.change_at(key, at)?;
            let generation = change.generation?;
            let newest = changes.last()?.id == change.id;
            Some((key.clone(), change.id, newest.then_some(generation)))
        })
        .collect()
    }

    /// As `IndexView::entries` has them.
    pub(super) fn entries(&self) -> Vec<(Vec<u8>, Vec<KeyChange>, Option<Generation>)> {
        let entry = |(key, changes): (&Vec<u8>, &Vec<Change>)| {
            let newest_first = changes.iter().rev();
            let newest_first = newest_first.map(|c| KeyChange { id: c.id, tombstone: c.generation.is_none() });
            (key.clone(), newest_first.collect(), changes.last().and_then(|last| last.generation))
        };
        self.keys.iter().map(entry).collect()
    }
}
