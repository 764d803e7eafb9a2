//! What was sent to the server and what it acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

/// One change that a write asks for: a put of a value, or a delete.
pub(crate) type Change = (Bytes, Option<Bytes>);

/// A write, in the order in which its writer sent it.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) changes: Vec<Change>,
    /// The revision that the server told, once it did.
    pub(crate) revision: Option<i64>,
}

/// Every write of a run.
#[derive(Default)]
pub(crate) struct Journal {
    writes: Vec<Write>,
    /// Leases that were granted, and neither revoked nor sent a revoke.
    pub(crate) leases: BTreeSet<i64>,
    revision: i64,
}

impl Journal {
    /// Takes note of a write, before its answer (`None`) or with it.
    pub(crate) fn add(&mut self, changes: Vec<Change>, revision: Option<i64>) {
        self.at_least(revision.unwrap_or_default());
        self.writes.push(Write { changes, revision });
    }

    /// Adds another's writes.
    pub(crate) fn extend(&mut self, other: Journal) {
        self.at_least(other.revision);
        self.writes.extend(other.writes);
        self.leases.extend(other.leases);
    }

    /// Takes note of a revision that the server has told.
    pub(crate) fn at_least(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
    }

    /// The highest revision that the server has told.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.writes.iter().filter(|write| write.revision.is_some()).count()
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.writes.len() - self.acknowledged()
    }

    /// The acknowledged writes by revision.
    pub(crate) fn by_revision(&self) -> BTreeMap<i64, &Write> {
        self.writes.iter().filter_map(|write| Some((write.revision?, write))).collect()
    }

    /// The last acknowledged change of each key, with its revision.
    pub(crate) fn last_changes(&self) -> HashMap<&Bytes, (i64, Option<&Bytes>)> {
        let mut last = HashMap::new();
        for (revision, write) in self.by_revision() {
            for (key, value) in &write.changes {
                last.insert(key, (revision, value.as_ref()));
            }
        }
        last
    }

    /// The writes that were not acknowledged, in the order in which they were sent.
    pub(crate) fn unanswered_writes(&self) -> impl Iterator<Item = &Write> {
        self.writes.iter().filter(|write| write.revision.is_none())
    }

    /// Every change that was sent and not acknowledged.
    pub(crate) fn maybe(&self) -> BTreeSet<&Change> {
        self.writes.iter().filter(|write| write.revision.is_none()).flat_map(|write| &write.changes).collect()
    }
}
