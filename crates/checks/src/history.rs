//! What clients asked for and were answered, held against the log: together they must be linearizable.
//!
//! The log gives the order: each write that does something has a revision, and each read says at which one it
//! was made. So it is enough that every answer fits the state at its revision, that no revision is below one
//! that was known before its operation was asked for, and that everything in the log was asked for, once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::log::{Change, Log, Pair};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Ask {
    Put {
        key: String,
        value: Bytes,
        lease: i64,
    },
    Delete(Keys),
    /// If the key was last changed at this revision (0: is not there), these are written, else it is read.
    Txn {
        key: String,
        unless_changed_after: i64,
        writes: Vec<(String, Option<Bytes>)>,
    },
    Read {
        keys: Keys,
        serializable: bool,
    },
    Revoke(i64),
}

/// One key, or all with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Keys {
    One(String),
    Prefix(String),
}

impl Keys {
    /// Whether a key is one of them.
    pub fn contain(&self, key: &str) -> bool {
        match self {
            Keys::One(one) => key == one,
            Keys::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}

/// Pairs by key.
pub type Pairs = BTreeMap<String, Pair>;

/// What a client was answered, beside the revision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Answer {
    Done,
    Deleted(i64),
    /// Whether it changed something, or what was read instead.
    Txn(Result<bool, Pairs>),
    Read(Pairs),
}

/// One operation.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Operation {
    pub name: String,
    pub ask: Ask,
    /// The highest revision that anybody had been told of when it was asked for.
    pub known: i64,
    /// Revision and answer. Without one, it may have happened.
    pub answer: Option<(i64, Answer)>,
}

/// A lease as its holder knows it.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct LeaseLife {
    pub ttl: Duration,
    /// When the last grant or renewal that was acknowledged had been asked for.
    pub renewed_at: Duration,
}

/// What clients did in a run.
#[derive(Debug, Default)]
pub struct History {
    /// In the order in which they were asked for.
    pub operations: Vec<Operation>,
    /// The leases whose grant was answered.
    pub leases: BTreeMap<i64, LeaseLife>,
    /// The highest revision that anybody was told of.
    pub known: i64,
}

/// What a check has found.
pub struct Checked {
    /// Everything that is wrong.
    pub wrong: Vec<String>,
    /// Revisions that are ends of leases that had run out.
    pub expiries: u64,
}

/// Clocks of hosts are apart by a step of the simulation.
const SLACK: Duration = Duration::from_millis(10);

impl History {
    /// An operation is asked for; returns its place.
    pub fn ask(&mut self, name: String, ask: Ask) -> usize {
        self.operations.push(Operation { name, ask, known: self.known, answer: None });
        self.operations.len() - 1
    }

    /// It is answered.
    pub fn answer(&mut self, at: usize, revision: i64, answer: Answer) {
        let Some(operation) = self.operations.get_mut(at) else { return };
        operation.answer = Some((revision, answer));
        if !matches!(operation.ask, Ask::Read { serializable: true, .. }) {
            self.tell(revision);
        }
    }

    /// Somebody was told of this revision: no later answer may be older.
    pub fn tell(&mut self, revision: i64) {
        self.known = self.known.max(revision);
    }

    /// Holds it against the log.
    pub fn check(&self, log: &Log) -> Checked {
        let (mut wrong, mut expiries) = (Vec::new(), 0);
        let mut by_revision: BTreeMap<i64, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            if let Some((revision, _)) = operation.answer {
                by_revision.entry(revision).or_default().push(operation);
            }
        }
        let mut state = State { log, pairs: Pairs::new(), revision: 0 };
        let mut done = BTreeSet::new();
        for revision in 1..=log.revision {
            state.revision = revision;
            let before = state.pairs.clone();
            log.at(revision).iter().for_each(|change| state.apply(change));
            let answered = by_revision.remove(&revision).unwrap_or_default();
            let mut claims = 0;
            for operation in &answered {
                match state.fits(&before, operation) {
                    Ok(claimed) => claims += usize::from(claimed),
                    Err(error) => wrong.push(format!("{operation:.400?} at {revision}: {error}")),
                }
            }
            if claims > 1 {
                wrong.push(format!("revision {revision} was acknowledged to {claims} writes"));
            }
            match self.is_asked_for(&state, &before, claims == 1, &mut done) {
                Ok(has_expired) => expiries += u64::from(has_expired),
                Err(error) => wrong.push(format!("revision {revision}: {error}: {:.400?}", log.at(revision))),
            }
        }
        for (revision, operations) in by_revision {
            wrong.push(format!("{:.400?} at {revision}, and the log ends at {}", operations.first(), log.revision));
        }
        Checked { wrong, expiries }
    }

    /// Whether what a revision did was asked for, before and once; true if it is the end of a lease that nobody
    /// has asked for.
    fn is_asked_for(
        &self,
        state: &State<'_>,
        before: &Pairs,
        is_claimed: bool,
        done: &mut BTreeSet<usize>,
    ) -> Result<bool, String> {
        let changes = state.log.at(state.revision);
        let values: BTreeSet<_> = changes.iter().filter_map(|c| c.after.as_ref()).map(|p| writer(&p.value)).collect();
        for at in values {
            let at = at.ok_or("a value that nobody wrote")?;
            let operation = self.operations.get(at).ok_or("a value that nobody wrote")?;
            if !done.insert(at) {
                return Err(format!("{} was done twice", operation.name));
            }
            if operation.known >= state.revision {
                return Err(format!("{} was done before it was asked for", operation.name));
            }
            state.did(before, &operation.ask)?;
        }
        let only_deletes = changes.iter().all(|change| change.after.is_none());
        if is_claimed || !only_deletes || changes.is_empty() {
            return Ok(false);
        }
        let is_possible = |operation: &&Operation| {
            let at = operation.answer.as_ref().map(|(revision, _)| *revision);
            operation.known < state.revision
                && at.is_none_or(|at| at == state.revision && matches!(operation.ask, Ask::Revoke(_)))
        };
        if self.operations.iter().filter(is_possible).any(|operation| state.did(before, &operation.ask).is_ok()) {
            return Ok(false);
        }
        self.has_expired(state, before).map(|()| true)
    }

    /// Whether a revision is the end of a lease that had run out.
    fn has_expired(&self, state: &State<'_>, before: &Pairs) -> Result<(), String> {
        let leases: BTreeSet<_> =
            state.log.at(state.revision).iter().filter_map(|c| c.before.as_ref()).map(|p| p.lease).collect();
        let lease = leases.first().copied().filter(|lease| leases.len() == 1 && *lease != 0);
        let lease = lease.ok_or("nobody has deleted this")?;
        state.did(before, &Ask::Revoke(lease))?;
        // The answer to its grant may have been lost: then its holder does not know it, nor renews it.
        let Some(life) = self.leases.get(&lease) else { return Ok(()) };
        let at = state.log.first_seen(state.revision).unwrap_or_default();
        if at + SLACK < life.renewed_at + life.ttl {
            return Err(format!("lease {lease} has ended at {} ms, too early for {life:?}", at.as_millis()));
        }
        Ok(())
    }
}

/// The operation that wrote a value: each begins with its number.
fn writer(value: &[u8]) -> Option<usize> {
    let digits = value.split(|byte| *byte == b'.').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The state at one revision.
struct State<'a> {
    log: &'a Log,
    pairs: Pairs,
    revision: i64,
}

impl State<'_> {
    fn apply(&mut self, change: &Change) {
        match &change.after {
            Some(pair) => drop(self.pairs.insert(change.key.clone(), pair.clone())),
            None => drop(self.pairs.remove(&change.key)),
        }
    }

    /// Whether an operation's answer is right here, and whether this revision is what it did.
    fn fits(&self, before: &Pairs, operation: &Operation) -> Result<bool, String> {
        let Some((revision, answer)) = &operation.answer else { return Ok(false) };
        let is_serializable = matches!(operation.ask, Ask::Read { serializable: true, .. });
        if *revision < operation.known && !is_serializable {
            return Err(format!("{} was known before", operation.known));
        }
        let writes = match (&operation.ask, answer) {
            (Ask::Put { .. }, Answer::Done) => true,
            (Ask::Delete(_), Answer::Deleted(deleted)) => *deleted > 0,
            (Ask::Txn { .. }, Answer::Txn(Ok(did))) => *did,
            (Ask::Txn { key, unless_changed_after, .. }, Answer::Txn(Err(read))) => {
                if modified(&self.pairs, key) == *unless_changed_after {
                    return Err("it should have written".to_owned());
                }
                self.is_read(&Keys::One(key.clone()), read)?;
                false
            }
            (Ask::Read { keys, .. }, Answer::Read(read)) => {
                self.is_read(keys, read)?;
                false
            }
            // Whether it had keys, its answer does not say.
            (Ask::Revoke(_), Answer::Done) => return Ok(false),
            _ => return Err("an answer to something else".to_owned()),
        };
        if !writes {
            return match &operation.ask {
                Ask::Delete(keys) if self.pairs.keys().any(|key| keys.contain(key)) => {
                    Err("it should have deleted something".to_owned())
                }
                Ask::Txn { key, unless_changed_after, .. }
                    if matches!(answer, Answer::Txn(Ok(_))) && modified(&self.pairs, key) != *unless_changed_after =>
                {
                    Err("it should have written nothing".to_owned())
                }
                _ => Ok(false),
            };
        }
        if *revision == operation.known {
            return Err("another was told of this revision before".to_owned());
        }
        if let Answer::Deleted(deleted) = answer
            && usize::try_from(*deleted) != Ok(self.log.at(*revision).len())
        {
            return Err("another number was deleted".to_owned());
        }
        self.did(before, &operation.ask).map(|()| true)
    }

    fn is_read(&self, keys: &Keys, read: &Pairs) -> Result<(), String> {
        let right = self.pairs.iter().filter(|(key, _)| keys.contain(key));
        if right.eq(read.iter()) { Ok(()) } else { Err("another state was read".to_owned()) }
    }

    /// Whether this revision is what these writes do to the state before.
    fn did(&self, before: &Pairs, ask: &Ask) -> Result<(), String> {
        let writes: Vec<(String, Option<(Bytes, i64)>)> = match ask {
            Ask::Put { key, value, lease } => vec![(key.clone(), Some((value.clone(), *lease)))],
            Ask::Delete(keys) => before.keys().filter(|key| keys.contain(key)).map(|key| (key.clone(), None)).collect(),
            Ask::Txn { key, unless_changed_after, writes } => {
                if modified(before, key) != *unless_changed_after {
                    return Err("it should have written nothing".to_owned());
                }
                let kept = writes.iter().filter(|(key, value)| value.is_some() || before.contains_key(key));
                kept.map(|(key, value)| (key.clone(), value.clone().map(|value| (value, 0)))).collect()
            }
            Ask::Revoke(lease) => {
                let attached = before.iter().filter(|(_, pair)| pair.lease == *lease);
                attached.map(|(key, _)| (key.clone(), None)).collect()
            }
            Ask::Read { .. } => return Err("a read writes nothing".to_owned()),
        };
        let mut did: Vec<_> = self
            .log
            .at(self.revision)
            .iter()
            .map(|change| (change.key.clone(), change.after.as_ref().map(|pair| (pair.value.clone(), pair.lease))))
            .collect();
        let mut writes = writes;
        did.sort();
        writes.sort();
        if did == writes { Ok(()) } else { Err("it has done something else".to_owned()) }
    }
}

fn modified(pairs: &Pairs, key: &str) -> i64 {
    pairs.get(key).map_or(0, |pair| pair.modified)
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
