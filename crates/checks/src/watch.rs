//! What a watch was told, held against the log: every event that it asked for, whole revisions, each once, in
//! order, with what was there before; and no promise that is ahead of what came.

use std::iter::Peekable;

use crate::log::{Change, Log, Pair};

/// Which keys a watch is for.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Keys {
    Key(String),
    Prefix(String),
    /// A key and what is below it, `/` between them.
    Segment(String),
    /// From the first, up to before the second.
    Interval(String, String),
    All,
}

impl Keys {
    /// Whether a key is one of them.
    pub fn contain(&self, key: &str) -> bool {
        match self {
            Keys::Key(one) => key == one,
            Keys::Prefix(prefix) => key.starts_with(prefix),
            Keys::Segment(above) => {
                key.strip_prefix(above.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
            }
            Keys::Interval(start, end) => start.as_str() <= key && key < end.as_str(),
            Keys::All => true,
        }
    }
}

/// Which events a watch asks for.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Selection {
    pub keys: Keys,
    pub prev_kv: bool,
    pub skip_puts: bool,
    pub skip_deletes: bool,
}

impl Selection {
    /// Whether it asks for this one.
    pub fn wants(&self, change: &Change) -> bool {
        let skipped = if change.after.is_some() { self.skip_puts } else { self.skip_deletes };
        !skipped && self.keys.contain(&change.key)
    }

    /// What it must be told, from a revision on.
    pub fn due<'a>(&'a self, log: &'a Log, start: i64) -> impl Iterator<Item = &'a Change> {
        log.changes.iter().filter(move |change| change.revision >= start && self.wants(change))
    }
}

/// A batch as a program takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Up to here it is whole.
    pub revision: i64,
    /// What it holds.
    pub events: Vec<Seen>,
}

/// An event of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Seen {
    pub key: Vec<u8>,
    pub revision: i64,
    pub after: Option<Pair>,
    pub before: Before,
}

/// What an event says of the pair before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing, since it was not asked for.
    NotAsked,
    /// There was none.
    Nothing,
    /// Nobody knows any more.
    Unknown,
    /// This was there.
    Pair(Vec<u8>, Pair),
}

/// Holds what a watch is told, one thing after the other, against what it must be told.
pub struct Follower<I: Iterator> {
    due: Peekable<I>,
    prev_kv: bool,
}

impl<'a, I: Iterator<Item = &'a Change>> Follower<I> {
    /// For a watch that must be told of `due`.
    pub fn new(due: I, prev_kv: bool) -> Follower<I> {
        Follower { due: due.peekable(), prev_kv }
    }

    /// It was told this.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, batch: &Taken) -> Result<(), String> {
        for event in &batch.events {
            let Some(change) = self.due.next() else { return Err(format!("an event too many: {event:?}")) };
            if let Some(what) = differs(event, change, self.prev_kv) {
                return Err(format!("{what}: {event:.300?} instead of {}", describe(change)));
            }
        }
        if batch.events.is_empty() {
            return Err("an empty batch".to_owned());
        }
        self.promised(batch.revision, "a batch")
    }

    /// It was told that it has had everything up to a revision, by `who`.
    ///
    /// # Errors
    /// It has not.
    pub fn promised(&mut self, revision: i64, who: &str) -> Result<(), String> {
        match self.due.peek() {
            Some(change) if change.revision <= revision => {
                Err(format!("{who} says {revision}, and {} has not come", describe(change)))
            }
            _ => Ok(()),
        }
    }

    /// What it has not been told yet, and will be.
    pub fn missing(&mut self) -> Option<&'a Change> {
        self.due.peek().copied()
    }
}

/// What is wrong with an event that should be this change, if anything.
fn differs(event: &Seen, change: &Change, prev_kv: bool) -> Option<&'static str> {
    if event.key != change.key.as_bytes() || event.revision != change.revision {
        return Some("another key or revision");
    }
    if event.after != change.after {
        return Some("another pair, or none");
    }
    let right = match (&event.before, &change.before) {
        (Before::NotAsked, _) => !prev_kv,
        (Before::Nothing, before) => prev_kv && before.is_none(),
        // Stentor keeps it as long as the event.
        (Before::Unknown, _) => false,
        (Before::Pair(key, pair), Some(before)) => prev_kv && key == change.key.as_bytes() && pair == before,
        (Before::Pair(..), None) => false,
    };
    (!right).then_some("another pair before")
}

fn describe(change: &Change) -> String {
    let what = if change.after.is_some() { "put" } else { "delete" };
    format!("{what} {} at {}", change.key, change.revision)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
