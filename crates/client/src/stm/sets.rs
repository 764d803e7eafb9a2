//! What a run has read and is to write, and what follows from that. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::stm::Isolation;
use crate::txn::{Compare, Op, delete, key, put};
use crate::{KeyValue, LeaseId, Revision};

/// Keys and what was found of them.
pub(super) type Pairs = BTreeMap<Bytes, Option<KeyValue>>;

/// What is to become of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Put { value: Bytes, lease: Option<LeaseId> },
    Delete,
}

/// One run.
#[derive(Debug)]
pub(super) struct Sets {
    isolation: Isolation,
    pub(super) reads: Pairs,
    pub(super) writes: BTreeMap<Bytes, Write>,
    /// When was read first; at a snapshot, everything.
    pub(super) first: Option<Revision>,
    /// Known from the conflict of the run before, at `first`; read as soon as it is asked for.
    known: Pairs,
}

/// What must be true of a key at the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// Its last change is this one. Zero: it does not exist.
    Changed(Revision),
    /// It has not changed after this.
    NotAfter(Revision),
}

impl Sets {
    pub(super) fn new(isolation: Isolation) -> Sets {
        let (reads, writes, known) = (Pairs::new(), BTreeMap::new(), Pairs::new());
        Sets { isolation, reads, writes, first: None, known }
    }

    /// For a run after one that has found the pairs to be so at a revision.
    pub(super) fn after_conflict(isolation: Isolation, known: Pairs, revision: Revision) -> Sets {
        Sets { known, first: Some(revision), ..Sets::new(isolation) }
    }

    /// Those that have to be read from the store. What is known counts as read from here on.
    pub(super) fn missing(&mut self, keys: &[Bytes]) -> Vec<Bytes> {
        let mut missing = BTreeSet::new();
        for key in keys {
            if self.reads.contains_key(key) {
                continue;
            }
            match self.known.remove(key) {
                Some(pair) => drop(self.reads.insert(key.clone(), pair)),
                None => drop(missing.insert(key.clone())),
            }
        }
        missing.into_iter().collect()
    }

    /// All keys of the run, in order.
    pub(super) fn keys(&self) -> BTreeSet<Bytes> {
        self.reads.keys().chain(self.writes.keys()).cloned().collect()
    }

    /// There is nothing to be said to the store: nothing is written, and what was read was so at one revision or is
    /// not to be checked.
    pub(super) fn is_settled(&self) -> bool {
        self.writes.is_empty() && (self.isolation != Isolation::RepeatableReads || self.reads.is_empty())
    }

    pub(super) fn conditions(&self) -> Vec<Compare> {
        let condition = |name: Bytes| {
            Some(match self.guard(&name)? {
                Guard::Changed(revision) => key(name).mod_revision().eq(revision),
                Guard::NotAfter(revision) => key(name).mod_revision().lt(revision.next()),
            })
        };
        self.keys().into_iter().filter_map(condition).collect()
    }

    pub(super) fn steps(&self) -> Vec<Op> {
        let step = |(key, write): (&Bytes, &Write)| match write {
            Write::Put { value, lease: None } => Op::from(put(key.clone(), value.clone())),
            Write::Put { value, lease: Some(lease) } => put(key.clone(), value.clone()).lease(*lease).into(),
            Write::Delete => delete(key.clone()).into(),
        };
        self.writes.iter().map(step).collect()
    }

    /// Of several sendings of the commit at most one takes effect: it makes one of its own conditions fail.
    pub(super) fn at_most_once(&self) -> bool {
        self.writes.iter().any(|(key, write)| match (self.guard(key), write) {
            (Some(_), Write::Put { .. }) => true,
            (Some(Guard::Changed(revision)), Write::Delete) => revision > Revision::ZERO,
            (Some(Guard::NotAfter(_)) | None, _) => false,
        })
    }

    /// Whether the keys as they are now show that a commit without an answer has not taken effect, and never will.
    pub(super) fn surely_failed(&self, now: &Pairs) -> bool {
        let pair = |key: &Bytes| now.get(key).and_then(Option::as_ref);
        // A key that has gone on from a revision never comes back to it. One that did not exist may be deleted again.
        let never_will = self.reads.iter().any(|(key, read)| {
            let revision = |pair: &KeyValue| pair.mod_revision();
            read.is_some()
                && self.isolation != Isolation::ReadCommitted
                && read.as_ref().map(revision) != pair(key).map(revision)
        });
        never_will && self.writes.iter().any(|(key, write)| self.is_untouched(key, write, pair(key)))
    }

    /// The key as it is now shows that it was not written so.
    fn is_untouched(&self, key: &Bytes, write: &Write, now: Option<&KeyValue>) -> bool {
        let Some(now) = now else { return false };
        match self.guard(key) {
            Some(Guard::NotAfter(revision)) => now.mod_revision() <= revision,
            Some(Guard::Changed(revision)) if now.mod_revision() == revision => true,
            Some(Guard::Changed(revision)) => match write {
                // It lives on since before.
                Write::Delete => now.create_revision() <= revision,
                // It was written once since, and not by this.
                Write::Put { value, lease } => {
                    let read = self.reads.get(key).and_then(Option::as_ref);
                    let once = read.is_some_and(|read| {
                        read.create_revision() == now.create_revision() && read.version() + 1 == now.version()
                    });
                    once && (now.value() != value || now.lease() != *lease)
                }
            },
            None => false,
        }
    }

    fn guard(&self, key: &Bytes) -> Option<Guard> {
        match (self.isolation, self.reads.get(key)) {
            (Isolation::ReadCommitted, _) => None,
            (_, Some(read)) => Some(Guard::Changed(read.as_ref().map_or(Revision::ZERO, KeyValue::mod_revision))),
            (Isolation::SerializableSnapshot, None) => self.first.map(Guard::NotAfter),
            (Isolation::Serializable | Isolation::RepeatableReads, None) => None,
        }
    }

    pub(super) fn isolation(&self) -> Isolation {
        self.isolation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stentor_proto::mvccpb;

    fn pair(name: &'static str, value: &'static str, created: i64, modified: i64, version: i64) -> Option<KeyValue> {
        Some(KeyValue::from(mvccpb::KeyValue {
            key: Bytes::from_static(name.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
            create_revision: created,
            mod_revision: modified,
            version,
            lease: 0,
        }))
    }

    fn sets(
        isolation: Isolation,
        reads: &[(&'static str, Option<KeyValue>)],
        writes: &[(&'static str, Write)],
    ) -> Sets {
        let mut sets = Sets::new(isolation);
        sets.first = Revision::new(10);
        sets.reads.extend(reads.iter().map(|(key, pair)| (Bytes::from_static(key.as_bytes()), pair.clone())));
        sets.writes.extend(writes.iter().map(|(key, write)| (Bytes::from_static(key.as_bytes()), write.clone())));
        sets
    }

    fn put_of(value: &'static str) -> Write {
        Write::Put { value: Bytes::from_static(value.as_bytes()), lease: None }
    }

    #[test]
    fn each_level_has_its_conditions() {
        use Isolation as I;
        let (read, written) = ([("a", pair("a", "1", 5, 7, 2)), ("n", None)], [("a", put_of("2")), ("w", put_of("2"))]);
        let text = |isolation| format!("{:?}", sets(isolation, &read, &written).conditions());
        let of_reads = "\"a\" mod_revision == 7, \"n\" mod_revision == 0";
        assert_eq!(text(I::SerializableSnapshot), format!("[{of_reads}, \"w\" mod_revision < 11]"));
        assert_eq!(text(I::Serializable), format!("[{of_reads}]"));
        assert_eq!(text(I::RepeatableReads), format!("[{of_reads}]"));
        assert_eq!(text(I::ReadCommitted), "[]");
    }

    #[test]
    fn it_is_sent_again_only_if_it_makes_its_own_condition_fail() {
        use Isolation as I;
        let a = [("a", pair("a", "1", 5, 7, 2))];
        let once = |isolation, reads: &[_], writes: &[_]| sets(isolation, reads, writes).at_most_once();
        assert!(once(I::Serializable, &a, &[("a", put_of("2"))]));
        assert!(once(I::RepeatableReads, &a, &[("a", Write::Delete)]));
        assert!(once(I::SerializableSnapshot, &a, &[("w", put_of("2"))]));
        assert!(!once(I::Serializable, &a, &[("w", put_of("2"))]), "no condition is about what it writes");
        assert!(!once(I::SerializableSnapshot, &a, &[("w", Write::Delete)]), "what is deleted has not changed later");
        assert!(!once(I::Serializable, &[("n", None)], &[("n", Write::Delete)]), "it changes nothing");
        assert!(once(I::Serializable, &[("n", None)], &[("n", put_of("1"))]));
        assert!(!once(I::ReadCommitted, &a, &[("a", put_of("2"))]));
    }

    /// What one key, read as (created 5, modified 7, version 2), shows after a write of "mine" without an answer.
    fn failed(now: Option<KeyValue>, write: Write) -> bool {
        let sets = sets(Isolation::Serializable, &[("a", pair("a", "old", 5, 7, 2))], &[("a", write)]);
        sets.surely_failed(&BTreeMap::from([(Bytes::from_static(b"a"), now)]))
    }

    #[test]
    fn a_key_tells_what_became_of_a_write_without_an_answer() {
        assert!(failed(pair("a", "other", 5, 8, 3), put_of("mine")), "written once since, by another");
        assert!(!failed(pair("a", "mine", 5, 8, 3), put_of("mine")), "by this or by another");
        assert!(!failed(pair("a", "other", 5, 9, 4), put_of("mine")), "twice: one may be this");
        assert!(!failed(pair("a", "other", 8, 8, 1), put_of("mine")), "deleted in between");
        assert!(!failed(None, put_of("mine")), "deleted since");
        assert!(failed(pair("a", "other", 5, 8, 3), Write::Delete), "it lives on");
        assert!(!failed(pair("a", "other", 8, 8, 1), Write::Delete), "created again");
        assert!(!failed(None, Write::Delete), "by this or by another");
        assert!(!failed(pair("a", "old", 5, 7, 2), put_of("mine")), "an earlier sending may still come through");
    }

    #[test]
    fn one_key_that_is_untouched_speaks_for_all() {
        let reads = [("a", pair("a", "old", 5, 7, 2)), ("b", pair("b", "old", 6, 6, 1))];
        let sets = sets(Isolation::Serializable, &reads, &[("b", put_of("mine"))]);
        let now = |a, b| BTreeMap::from([(Bytes::from_static(b"a"), a), (Bytes::from_static(b"b"), b)]);
        assert!(sets.surely_failed(&now(pair("a", "other", 5, 9, 3), pair("b", "old", 6, 6, 1))));
        assert!(!sets.surely_failed(&now(pair("a", "other", 5, 9, 3), pair("b", "mine", 6, 8, 2))));
    }

    #[test]
    fn what_is_created_may_be_deleted_again() {
        let sets =
            sets(Isolation::SerializableSnapshot, &[("n", None)], &[("n", put_of("mine")), ("w", put_of("mine"))]);
        let now = [("n", pair("n", "other", 11, 11, 1)), ("w", pair("w", "old", 3, 3, 1))];
        let now = now.into_iter().map(|(key, pair)| (Bytes::from_static(key.as_bytes()), pair)).collect();
        assert!(!sets.surely_failed(&now), "the condition may come true again while a sending is on its way");
    }
}
