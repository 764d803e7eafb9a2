//! Reads on their way.

use std::collections::BTreeMap;

use crate::check::{Broken, Checker};

/// Ticks after which a round is taken for lost.
const PATIENCE: u64 = 12;

#[derive(Clone, Copy, Debug)]
struct Read {
    member: u64,
    life: u64,
    /// What it must see.
    floor: u64,
    asked: u64,
    /// From which entry on it is answered.
    index: Option<u64>,
}

/// By the round that was asked for last.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    open: BTreeMap<u64, Read>,
    rounds: u64,
}

impl Reads {
    pub(crate) fn begin(&mut self, member: u64, life: u64, floor: u64, now: u64) -> u64 {
        self.rounds += 1;
        self.open.insert(self.rounds, Read { member, life, floor, asked: now, index: None });
        self.rounds
    }

    pub(crate) fn may_read(&mut self, member: u64, round: u64, index: u64) {
        if let Some(read) = self.open.get_mut(&round).filter(|read| read.member == member) {
            read.index.get_or_insert(index);
        }
    }

    /// Answers what can be answered by a store as of `applied`, and says how many those are.
    pub(crate) fn answer(&mut self, member: u64, life: u64, applied: u64, check: &mut Checker) -> Result<u64, Broken> {
        let mut answered = 0;
        for (round, read) in self.open.clone() {
            let can = read.member == member && read.life == life;
            if let Some(index) = read.index.filter(|index| can && *index <= applied) {
                self.open.remove(&round);
                check.answered(member, read.floor, index)?;
                answered += 1;
            }
        }
        Ok(answered)
    }

    /// Those that were not answered for long: member, life and round.
    pub(crate) fn overdue(&self, now: u64) -> Vec<(u64, u64, u64)> {
        let late = self.open.iter().filter(|(_, read)| read.index.is_none() && read.asked + PATIENCE < now);
        late.map(|(round, read)| (read.member, read.life, *round)).collect()
    }

    /// Asks in a new round.
    pub(crate) fn again(&mut self, round: u64, now: u64) -> u64 {
        self.rounds += 1;
        if let Some(read) = self.open.remove(&round) {
            self.open.insert(self.rounds, Read { asked: now, ..read });
        }
        self.rounds
    }

    pub(crate) fn give_up(&mut self, round: u64) {
        self.open.remove(&round);
    }

    pub(crate) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whoever asked has gone.
    pub(crate) fn drop_those_of_others(&mut self, is_there: impl Fn(u64, u64) -> bool) {
        self.open.retain(|_, read| is_there(read.member, read.life));
    }
}
