//! What is written: on few keys, so that every watch sees much.

use bytes::Bytes;

use crate::log::{Log, Op};
use crate::random::Random;

/// Neighbours of each other: below, beside, and with the sign before the slash.
pub(crate) const KEYS: [&str; 10] =
    ["/a/1", "/a/1-x", "/a/1/x", "/a/1/y", "/a/10", "/a/2", "/a/2/x", "/b/1", "/b/1/x", "/c"];

/// Three of them and what was there before make a response that has to be sent in parts, though one write is
/// below what a member accepts.
const LARGE: usize = 300 << 10;

/// Draws operations.
pub(crate) struct Workload {
    random: Random,
    written: u64,
    with_large: bool,
    /// Large ones to come: only one after another doubles a response by what was there before.
    large_due: u64,
}

impl Workload {
    pub(crate) fn new(mut random: Random) -> Workload {
        let with_large = random.one_in(4);
        Workload { random, written: 0, with_large, large_due: 0 }
    }

    pub(crate) fn next(&mut self, log: &Log) -> Op {
        if self.with_large && self.large_due == 0 && self.random.one_in(80) {
            self.large_due = self.random.between(2, 4);
        }
        if self.large_due > 0 {
            self.large_due -= 1;
            return Op::Several(KEYS.iter().take(3).map(|key| (key.to_string(), Some(self.value(LARGE)))).collect());
        }
        match self.random.below(40) {
            0 => self.compaction(log).unwrap_or(Op::DeletePrefix("/b/".to_owned())),
            1 => Op::DeletePrefix(self.key()),
            2..=12 => Op::Several(self.several()),
            13..=19 => Op::One(self.key(), None),
            _ => {
                let key = self.key();
                Op::One(key, Some(self.small()))
            }
        }
    }

    /// At any revision that is not compacted yet, more often a recent one.
    fn compaction(&mut self, log: &Log) -> Option<Op> {
        let kept = u64::try_from(log.revision - log.compacted()).ok().filter(|kept| *kept > 0)?;
        let back = if self.random.one_in(3) { self.random.below(kept) } else { self.random.below(kept.min(10)) };
        Some(Op::Compact(log.revision - i64::try_from(back).ok()?))
    }

    fn several(&mut self) -> Vec<(String, Option<Bytes>)> {
        // The protocol takes each key once.
        let first = self.random.below(KEYS.len() as u64) as usize;
        let many = self.random.between(2, 5) as usize;
        let keys: Vec<_> = KEYS.iter().cycle().skip(first).take(many).map(|key| key.to_string()).collect();
        keys.into_iter().map(|key| (key, (!self.random.one_in(4)).then(|| self.small()))).collect()
    }

    fn key(&mut self) -> String {
        let at = self.random.below(KEYS.len() as u64) as usize;
        KEYS.get(at).copied().unwrap_or_default().to_owned()
    }

    fn small(&mut self) -> Bytes {
        let bytes = self.random.between(1, 200) as usize;
        self.value(bytes)
    }

    /// No two values are the same.
    fn value(&mut self, bytes: usize) -> Bytes {
        self.written += 1;
        let mut value = self.written.to_string().into_bytes();
        value.resize(bytes.max(value.len()), b'.');
        value.into()
    }
}
