//! The log that all members apply, and what it means, by a model of its own.

use std::collections::BTreeMap;

use bytes::Bytes;

/// A pair as the log leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) value: Bytes,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) version: u64,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    pub(crate) key: String,
    /// `None` if it was deleted.
    pub(crate) after: Option<Pair>,
    pub(crate) before: Option<Pair>,
}

/// One entry of the log.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// One key; `None` deletes it.
    One(String, Option<Bytes>),
    /// All keys with this prefix are deleted.
    DeletePrefix(String),
    /// Several keys in one revision.
    Several(Vec<(String, Option<Bytes>)>),
    Compact(i64),
}

/// What was written, and what it did.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Op>,
    pub(crate) changes: Vec<Change>,
    /// In ascending order.
    pub(crate) compactions: Vec<i64>,
    pub(crate) revision: i64,
    /// After each entry.
    pub(crate) revisions: Vec<i64>,
    pairs: BTreeMap<String, Pair>,
}

impl Log {
    pub(crate) fn new() -> Log {
        Log {
            entries: Vec::new(),
            changes: Vec::new(),
            compactions: Vec::new(),
            revision: 1,
            revisions: Vec::new(),
            pairs: BTreeMap::new(),
        }
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compactions.last().copied().unwrap_or_default()
    }

    pub(crate) fn append(&mut self, op: Op) {
        match &op {
            Op::One(key, value) => self.write(vec![(key.clone(), value.clone())]),
            Op::Several(writes) => self.write(writes.clone()),
            Op::DeletePrefix(prefix) => {
                let keys = self.pairs.keys().filter(|key| key.starts_with(prefix));
                self.write(keys.map(|key| (key.clone(), None)).collect());
            }
            Op::Compact(revision) => self.compactions.push(*revision),
        }
        self.entries.push(op);
        self.revisions.push(self.revision);
    }

    /// All in one revision, which is used only if something changes.
    fn write(&mut self, writes: Vec<(String, Option<Bytes>)>) {
        let revision = self.revision + 1;
        for (key, value) in writes {
            let before = self.pairs.get(&key).cloned();
            let after = value.map(|value| Pair {
                value,
                created: before.as_ref().map_or(revision, |pair| pair.created),
                modified: revision,
                version: before.as_ref().map_or(1, |pair| pair.version + 1),
            });
            match &after {
                Some(pair) => drop(self.pairs.insert(key.clone(), pair.clone())),
                None if before.is_none() => continue,
                None => drop(self.pairs.remove(&key)),
            }
            self.changes.push(Change { revision, key, after, before });
            self.revision = revision;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_used_only_by_what_changes_something() {
        let mut log = Log::new();
        log.append(Op::One("a".into(), Some("1".into())));
        log.append(Op::One("b".into(), None));
        log.append(Op::Several(vec![("a".into(), Some("2".into())), ("b".into(), Some("1".into()))]));
        log.append(Op::DeletePrefix("".into()));
        log.append(Op::DeletePrefix("".into()));
        assert_eq!(log.revisions, [2, 2, 3, 4, 4]);
        let seen: Vec<_> = log.changes.iter().map(|c| (c.revision, c.key.as_str(), c.after.is_some())).collect();
        assert_eq!(seen, [(2, "a", true), (3, "a", true), (3, "b", true), (4, "a", false), (4, "b", false)]);
        let pair = log.changes.get(1).unwrap().after.clone().unwrap();
        assert_eq!((pair.created, pair.modified, pair.version), (2, 3, 2));
    }
}
