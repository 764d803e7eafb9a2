//! What is written and read: on few keys, so that every watch sees much.

use bytes::Bytes;

use crate::history::{Ask, Keys};
use crate::log::Log;
use crate::random::Random;

/// Neighbours of each other: below, beside, and with the sign before the slash.
pub const KEYS: [&str; 10] = ["/a/1", "/a/1-x", "/a/1/x", "/a/1/y", "/a/10", "/a/2", "/a/2/x", "/b/1", "/b/1/x", "/c"];

/// Those that are attached to leases, which others write too.
pub const LEASED: [&str; 4] = ["/a/1/y", "/b/1", "/l/1", "/l/2"];

/// Three of them and what was there before make a response that has to be sent in parts, though one write is
/// below what a member accepts.
const LARGE: usize = 300 << 10;

/// Draws operations.
pub struct Workload {
    random: Random,
    with_large: bool,
    /// Large ones to come: only one after another doubles a response by what was there before.
    large_due: u64,
}

impl Workload {
    /// Of which one in six has large values now and then.
    pub fn new(mut random: Random) -> Workload {
        let with_large = random.one_in(6);
        Workload { random, with_large, large_due: 0 }
    }

    /// Of small values only.
    pub fn of_small_values(random: Random) -> Workload {
        Workload { random, with_large: false, large_due: 0 }
    }

    /// The operation with this number, which its values begin with.
    pub fn next(&mut self, log: &Log, number: usize) -> Ask {
        if self.with_large && self.large_due == 0 && self.random.one_in(80) {
            self.large_due = self.random.between(2, 4);
        }
        if self.large_due > 0 {
            self.large_due -= 1;
            let value = value(number, LARGE);
            let writes = KEYS.iter().take(3).map(|key| (key.to_string(), Some(value.clone()))).collect();
            return Ask::Txn { key: "/none".to_owned(), unless_changed_after: 0, writes };
        }
        match self.random.below(40) {
            0 => Ask::Delete(Keys::Prefix("/b/".to_owned())),
            1 => Ask::Delete(Keys::Prefix(self.key())),
            2..=9 => self.txn(log, number),
            10..=14 => Ask::Delete(Keys::One(self.key())),
            15..=24 => self.read(),
            _ => Ask::Put { key: self.key(), value: self.small(number), lease: 0 },
        }
    }

    /// Now and then one is due: at any revision that is not compacted yet, more often a recent one.
    pub fn compaction(&mut self, log: &Log) -> Option<i64> {
        if !self.random.one_in(60) {
            return None;
        }
        let kept = u64::try_from(log.revision - log.compacted()).ok().filter(|kept| *kept > 0)?;
        let back = if self.random.one_in(3) { self.random.below(kept) } else { self.random.below(kept.min(10)) };
        Some(log.revision - i64::try_from(back).ok()?)
    }

    fn read(&mut self) -> Ask {
        let keys = match self.random.below(3) {
            0 => Keys::One(self.key()),
            1 => Keys::Prefix(self.key()),
            _ => Keys::Prefix(String::new()),
        };
        Ask::Read { keys, serializable: self.random.one_in(3) }
    }

    fn txn(&mut self, log: &Log, number: usize) -> Ask {
        // The protocol takes each key once.
        let first = self.random.below(KEYS.len() as u64) as usize;
        let many = self.random.between(1, 5) as usize;
        let keys: Vec<_> = KEYS.iter().cycle().skip(first).take(many).map(|key| key.to_string()).collect();
        let value = self.small(number);
        let mut write = |key| (key, (!self.random.one_in(4)).then(|| value.clone()));
        let writes = keys.into_iter().map(&mut write).collect();
        if self.random.one_in(2) {
            return Ask::Txn { key: "/none".to_owned(), unless_changed_after: 0, writes };
        }
        // As it was of late, mostly.
        let key = self.key();
        let modified = log.pair(&key).map_or(0, |pair| pair.modified);
        let unless_changed_after = if self.random.one_in(8) { modified + 1 } else { modified };
        Ask::Txn { key, unless_changed_after, writes }
    }

    fn key(&mut self) -> String {
        let at = self.random.below(KEYS.len() as u64) as usize;
        KEYS.get(at).copied().unwrap_or_default().to_owned()
    }

    fn small(&mut self, number: usize) -> Bytes {
        value(number, self.random.between(1, 200) as usize)
    }
}

/// No two operations have the same.
fn value(number: usize, bytes: usize) -> Bytes {
    let mut value = format!("{number}.").into_bytes();
    value.resize(bytes.max(value.len()), b'.');
    value.into()
}
