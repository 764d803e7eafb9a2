//! What happened, by what the members say of it: each change of each revision, as the first member published
//! it, held against a model of its own; whatever another member publishes must be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use stentor_proto::mvccpb::{Event, KeyValue, event::EventType};

/// A pair as a change leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Pair {
    pub value: Bytes,
    pub created: i64,
    pub modified: i64,
    pub version: u64,
    /// The lease it is attached to, or 0.
    pub lease: i64,
}

impl From<&KeyValue> for Pair {
    fn from(kv: &KeyValue) -> Pair {
        Pair {
            value: kv.value.clone(),
            created: kv.create_revision,
            modified: kv.mod_revision,
            // A negative one is wrong, as none is.
            version: u64::try_from(kv.version).unwrap_or_default(),
            lease: kv.lease,
        }
    }
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Change {
    pub revision: i64,
    pub key: String,
    /// `None` if it was deleted.
    pub after: Option<Pair>,
    pub before: Option<Pair>,
}

/// One change as a member publishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Published {
    pub revision: i64,
    pub key: String,
    pub after: Option<Pair>,
}

impl Published {
    /// As a watch tells it.
    ///
    /// # Errors
    /// An event without a pair, or whose key is no text.
    pub fn of_event(event: &Event) -> Result<Published, String> {
        let pair = event.kv.as_ref().ok_or("an event without a pair")?;
        let key = String::from_utf8(pair.key.to_vec()).map_err(|error| error.to_string())?;
        let after = (event.r#type == EventType::Put as i32).then(|| Pair::from(pair));
        Ok(Published { revision: pair.mod_revision, key, after })
    }
}

/// The history on which all members agree.
#[derive(Debug)]
pub struct Log {
    /// Every change, in order.
    pub changes: Vec<Change>,
    /// When each revision was first published, from the second on.
    pub published_at: Vec<Duration>,
    /// The revisions at which history was compacted.
    pub compactions: BTreeSet<i64>,
    /// The last revision.
    pub revision: i64,
    /// Where each revision's changes begin, from the second on.
    begins: Vec<usize>,
    pairs: BTreeMap<String, Pair>,
}

impl Default for Log {
    fn default() -> Log {
        Log::new()
    }
}

impl Log {
    /// Of a store to which nothing has been written.
    pub fn new() -> Log {
        Log {
            changes: Vec::new(),
            published_at: Vec::new(),
            compactions: BTreeSet::new(),
            revision: 1,
            begins: Vec::new(),
            pairs: BTreeMap::new(),
        }
    }

    /// The revision compacted at last, or 0.
    pub fn compacted(&self) -> i64 {
        self.compactions.last().copied().unwrap_or_default()
    }

    /// The changes of one revision.
    pub fn at(&self, revision: i64) -> &[Change] {
        self.changes.get(self.places(revision)).unwrap_or_default()
    }

    /// A key as it is now.
    pub fn pair(&self, key: &str) -> Option<&Pair> {
        self.pairs.get(key)
    }

    /// All pairs as they are now.
    pub fn pairs(&self) -> &BTreeMap<String, Pair> {
        &self.pairs
    }

    /// When a revision was first published.
    pub fn first_seen(&self, revision: i64) -> Option<Duration> {
        self.published_at.get(number(revision)?).copied()
    }

    fn places(&self, revision: i64) -> Range<usize> {
        let Some(number) = number(revision) else { return 0..0 };
        let Some(begin) = self.begins.get(number).copied() else { return 0..0 };
        begin..self.begins.get(number + 1).copied().unwrap_or(self.changes.len())
    }

    /// A member has published all changes of one revision.
    ///
    /// # Errors
    /// They are not what others have published, not the next revision, or not what follows from those before.
    pub fn publish(&mut self, revision: i64, changes: &[Published], at: Duration) -> Result<(), String> {
        if revision <= self.revision {
            let known = self.at(revision);
            let is_same = known.len() == changes.len()
                && known.iter().zip(changes).all(|(a, b)| a.key == b.key && a.after == b.after);
            return if is_same {
                Ok(())
            } else {
                Err(format!("revision {revision} is {changes:?}, and was {known:?}"))
            };
        }
        if revision != self.revision + 1 {
            return Err(format!("revision {revision} follows {}", self.revision));
        }
        self.begins.push(self.changes.len());
        self.published_at.push(at);
        self.revision = revision;
        changes.iter().try_for_each(|change| self.append(change))
    }

    fn append(&mut self, change: &Published) -> Result<(), String> {
        let Published { revision, key, after } = change.clone();
        let before = self.pairs.get(&key).cloned();
        match &after {
            Some(pair) => {
                let created = before.as_ref().map_or(revision, |pair| pair.created);
                let version = before.as_ref().map_or(1, |pair| pair.version + 1);
                if (pair.created, pair.modified, pair.version) != (created, revision, version) {
                    return Err(format!("{change:?} does not follow from {before:?}"));
                }
                self.pairs.insert(key.clone(), pair.clone());
            }
            None if before.is_none() => return Err(format!("{change:?} deletes what is not there")),
            None => drop(self.pairs.remove(&key)),
        }
        self.changes.push(Change { revision, key, after, before });
        Ok(())
    }
}

fn number(revision: i64) -> Option<usize> {
    usize::try_from(revision.checked_sub(2)?).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn put(revision: i64, key: &str, value: &str, created: i64, version: u64) -> Published {
        let pair = Pair { value: value.to_owned().into(), created, modified: revision, version, lease: 0 };
        Published { revision, key: key.to_owned(), after: Some(pair) }
    }

    pub(crate) fn delete(revision: i64, key: &str) -> Published {
        Published { revision, key: key.to_owned(), after: None }
    }

    /// `a` put twice, then with `b`, then both deleted.
    pub(crate) fn log() -> Log {
        let mut log = Log::new();
        let revisions = [
            vec![put(2, "a", "1.", 2, 1)],
            vec![put(3, "a", "2.", 2, 2), put(3, "b", "2.", 3, 1)],
            vec![delete(4, "a"), delete(4, "b")],
        ];
        for (revision, changes) in (2..).zip(&revisions) {
            log.publish(revision, changes, Duration::ZERO).unwrap();
        }
        log
    }

    #[test]
    fn a_member_that_publishes_something_else_is_found() {
        let mut log = log();
        let again = [put(3, "a", "2.", 2, 2), put(3, "b", "2.", 3, 1)];
        assert_eq!(log.publish(3, &again, Duration::ZERO), Ok(()), "another member, or the same again");
        assert!(log.publish(3, &again[..1], Duration::ZERO).is_err(), "an event is missing");
        assert!(log.publish(3, &[again[1].clone(), again[0].clone()], Duration::ZERO).is_err(), "another order");
        assert!(log.publish(3, &[put(3, "a", "3.", 2, 2), again[1].clone()], Duration::ZERO).is_err());
        assert!(log.publish(4, &[delete(4, "a")], Duration::ZERO).is_err());
        assert!(log.publish(6, &[put(6, "a", "4.", 6, 1)], Duration::ZERO).is_err(), "a revision is missing");
        assert_eq!(log.publish(5, &[put(5, "a", "4.", 5, 1)], Duration::ZERO), Ok(()));
    }

    #[test]
    fn what_does_not_follow_is_found() {
        for wrong in [put(5, "a", "4.", 2, 1), put(5, "a", "4.", 5, 3), delete(5, "a")] {
            assert!(log().publish(5, &[wrong], Duration::ZERO).is_err());
        }
    }
}
