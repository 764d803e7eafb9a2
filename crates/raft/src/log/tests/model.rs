//! Random changes, crashes and failures of a log beside an obvious model of it.
//!
//! `STENTOR_CASES` sets the number of cases, `STENTOR_SEED` the first one's seed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::super::{Disk, Durability, Log, LogError, Options, Position, SystemDisk, memory};
use super::{Chance, Change, Content, number};

/// From this many cases on, everything must have been reached.
const ENOUGH_CASES: u64 = 100;

/// What there is to come by.
const REACHED: [&str; 25] = [
    "append",
    "overwrite",
    "hard state",
    "purge",
    "reset",
    "sync",
    "prepare",
    "read of a part",
    "clean reopening",
    "reopening after a failure",
    "crash",
    "crash loses unsynced changes",
    "crash keeps unsynced changes",
    "crash keeps some unsynced changes",
    "failed write",
    "failed sync",
    "full",
    "success after full",
    "refused after a failure",
    "kept after a failure",
    "gone after a failure",
    "failed opening",
    "second crash",
    "several segments",
    "segment used again",
];

struct Run {
    disk: Option<memory::Disk>,
    root: Arc<dyn Disk>,
    options: Options,
    chance: Chance,
    /// What the log may be after a crash: from what is durable to what it is now. Never empty.
    states: Vec<Content>,
    counts: BTreeMap<&'static str, u64>,
}

impl Run {
    fn new(seed: u64, root: Arc<dyn Disk>, disk: Option<memory::Disk>) -> Run {
        let mut chance = Chance::new(seed);
        let options = Options {
            segment_bytes: [4 << 10, 8 << 10, 20 << 10][chance.below(3) as usize],
            cached_bytes: [0, 600, 5_000, 1 << 20][chance.below(4) as usize],
            write_ahead_bytes: [0, 512, 4 << 10, 64 << 10][chance.below(4) as usize],
        };
        let start = if chance.one_in(2) { Position::default() } else { Position { term: 3, index: 40 } };
        chance.term += start.term;
        let states = vec![Content { start, ..Content::default() }];
        Run { disk, root, options, chance, states, counts: BTreeMap::new() }
    }

    fn reach(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn now(&self) -> &Content {
        self.states.last().unwrap()
    }

    fn made_durable(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    /// Creates the log; now and then that is interrupted.
    fn create(&mut self) -> Log {
        let start = self.now().start;
        if let Some(disk) = self.disk.clone() {
            while self.chance.one_in(2) {
                disk.fail_sync(self.chance.below(3), io::ErrorKind::Other);
                let failed = Log::create(self.root.clone(), start, self.options).is_err();
                self.crash_disk(&disk);
                match Log::open(self.root.clone(), self.options).unwrap() {
                    None => assert!(failed),
                    Some(log) => {
                        assert_eq!(Content::of(&log).unwrap(), *self.now());
                        return log;
                    }
                }
            }
        }
        assert!(Log::open(self.root.clone(), self.options).unwrap().is_none());
        let log = Log::create(self.root.clone(), start, self.options).unwrap();
        let again = Log::create(self.root.clone(), start, self.options);
        assert!(matches!(again, Err(LogError::Exists)), "{again:?}");
        log
    }

    fn crash_disk(&mut self, disk: &memory::Disk) {
        let chance = &mut self.chance;
        disk.crash(&mut || chance.below(u64::MAX));
    }

    /// Opens the log, which must be one of the states, and checks that it is.
    fn open(&mut self) -> Log {
        let log = Log::open(self.root.clone(), self.options);
        let log = log.unwrap_or_else(|e| panic!("does not open: {e}")).expect("the log is gone");
        let found = Content::of(&log).unwrap();
        let at = self.states.iter().position(|state| *state == found);
        let at = at.unwrap_or_else(|| panic!("the log is {found:#?}\nand should be one of {:#?}", self.states));
        // Any of those that are alike.
        let (lost, kept) = (self.states.len() - 1 - at, at);
        if lost > 0 {
            self.reach("crash loses unsynced changes");
        }
        if kept > 0 {
            self.reach("crash keeps unsynced changes");
        }
        if lost > 0 && kept > 0 {
            self.reach("crash keeps some unsynced changes");
        }
        self.states = vec![found];
        log
    }

    /// From one opening to the next.
    fn life(&mut self, mut log: Log) -> Log {
        let most = if self.chance.one_in(3) { 4 } else { 40 };
        let steps = self.chance.below(most);
        for _ in 0..steps {
            if !self.step(&mut log) {
                return self.after_failure(log);
            }
        }
        assert_eq!(Content::of(&log).unwrap(), *self.now());
        drop(log);
        let Some(disk) = self.disk.clone().filter(|_| self.chance.one_in(2)) else {
            self.reach("clean reopening");
            self.states.drain(..self.states.len() - 1);
            return self.open();
        };
        self.reach("crash");
        self.crash_disk(&disk);
        self.opening_fails(&disk);
        self.open()
    }

    /// Opening fails at any place, and the power goes once more.
    fn opening_fails(&mut self, disk: &memory::Disk) {
        while self.chance.one_in(3) {
            if self.chance.one_in(2) {
                disk.fail_sync(self.chance.below(4), io::ErrorKind::Other);
            } else {
                disk.fail_write(self.chance.below(4), io::ErrorKind::Other);
            }
            let opened = Log::open(self.root.clone(), self.options);
            match opened {
                Ok(log) => {
                    // What was seen once must not go.
                    let found = Content::of(&log.expect("the log is gone")).unwrap();
                    assert!(self.states.contains(&found), "the log is {found:#?}\nand not of {:#?}", self.states);
                    self.states = vec![found];
                }
                Err(LogError::Io { .. }) => self.reach("failed opening"),
                Err(other) => panic!("{other}"),
            }
            if self.chance.one_in(2) {
                self.reach("second crash");
                self.crash_disk(disk);
            }
            disk.clear_faults();
        }
    }

    /// After a failure: nothing is accepted; what had failed may have happened or not.
    fn after_failure(&mut self, mut log: Log) -> Log {
        let (_, change) = self.chance.change(&self.now().clone());
        match change.make(&mut log, Durability::Synced) {
            Err(LogError::Failed { .. }) => self.reach("refused after a failure"),
            // A purge of nothing, a misplaced change.
            other => panic!("{other:?} after a failure"),
        }
        drop(log);
        let disk = self.disk.clone().unwrap();
        disk.clear_faults();
        let (before, attempted) = (self.states.len(), self.states.last().cloned().unwrap());
        if self.chance.one_in(2) {
            self.crash_disk(&disk);
            self.opening_fails(&disk);
        } else {
            self.reach("reopening after a failure");
            // With the process alone nothing is lost but what had failed.
            self.states.drain(..before.saturating_sub(2));
        }
        let log = self.open();
        if before > 1 {
            self.reach(if *self.now() == attempted { "kept after a failure" } else { "gone after a failure" });
        }
        log
    }

    /// False if the log has failed.
    fn step(&mut self, log: &mut Log) -> bool {
        match self.chance.below(100) {
            0..6 => {
                self.reach("sync");
                log.sync().unwrap();
                self.made_durable();
            }
            6..12 => {
                self.reach("prepare");
                log.prepare().unwrap();
            }
            12..24 => self.read(log),
            24..28 if self.disk.is_some() => return self.failing_change(log),
            28..32 if self.disk.is_some() => return self.full_disk(log),
            _ => {
                let (name, change) = self.chance.change(&self.now().clone());
                self.reach(name);
                let durability = self.durability();
                change.make(log, durability).unwrap();
                self.changed(&change, durability);
            }
        }
        self.look_at_files();
        true
    }

    fn durability(&mut self) -> Durability {
        if self.chance.one_in(3) { Durability::Synced } else { Durability::Buffered }
    }

    fn changed(&mut self, change: &Change, durability: Durability) {
        let mut state = self.now().clone();
        state.apply(change);
        self.states.push(state);
        let synced = match change {
            Change::Append(..) => durability == Durability::Synced,
            Change::Purge(_) => false,
            Change::Reset(..) => true,
        };
        if synced {
            self.made_durable();
        }
    }

    /// A change during which the disk may fail.
    fn failing_change(&mut self, log: &mut Log) -> bool {
        let disk = self.disk.clone().unwrap();
        let write = self.chance.one_in(2);
        let after = self.chance.below(2);
        if write {
            disk.fail_write(after, io::ErrorKind::Other);
        } else {
            disk.fail_sync(after, io::ErrorKind::Other);
        }
        let (_, change) = self.chance.change(&self.now().clone());
        let durability = self.durability();
        let result = change.make(log, durability);
        let happened = disk.clear_faults() == 0;
        match result {
            Ok(()) => {
                // A segment that cannot be freed is nothing that a change fails for.
                self.changed(&change, durability);
                true
            }
            Err(LogError::Io { .. }) => {
                assert!(happened);
                self.reach(if write { "failed write" } else { "failed sync" });
                let mut state = self.now().clone();
                state.apply(&change);
                self.states.push(state);
                false
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    /// A few changes while the disk has no more room. Those that are refused change nothing.
    fn full_disk(&mut self, log: &mut Log) -> bool {
        let disk = self.disk.clone().unwrap();
        disk.set_capacity(Some(log.bytes() + self.chance.below(3_000)));
        for _ in 0..self.chance.below(30) {
            let (_, change) = self.chance.change(&self.now().clone());
            let durability = self.durability();
            match change.make(log, durability) {
                Ok(()) => self.changed(&change, durability),
                Err(LogError::Full(_)) => {
                    self.reach("full");
                    assert_eq!(Content::of(log).unwrap(), *self.now());
                    if self.chance.one_in(2) {
                        disk.set_capacity(None);
                        change.make(log, durability).unwrap();
                        self.changed(&change, durability);
                        self.reach("success after full");
                    }
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        disk.set_capacity(None);
        true
    }

    fn read(&mut self, log: &Log) {
        let content = self.now().clone();
        assert_eq!((log.start(), log.last(), log.hard_state()), (content.start, content.last(), content.hard_state));
        if content.entries.is_empty() {
            return;
        }
        self.reach("read of a part");
        let from = self.chance.below(content.entries.len() as u64);
        let to = from + 1 + self.chance.below(content.entries.len() as u64 - from);
        let max_bytes = self.chance.below(2_000);
        let mut bytes = 0;
        let expected = content.entries[from as usize..to as usize].iter().enumerate().take_while(|(at, entry)| {
            bytes += (entry.data.len() + entry.context.len()) as u64;
            *at == 0 || bytes <= max_bytes
        });
        let expected: Vec<_> = expected.map(|(_, entry)| entry.clone()).collect();
        let first = content.start.index + 1;
        assert_eq!(log.entries(first + from, first + to, max_bytes).unwrap(), expected);
    }

    fn look_at_files(&mut self) {
        let names = self.root.list().unwrap();
        let logs: Vec<_> = names.iter().filter(|name| name.ends_with(".log")).collect();
        if logs.len() > 1 {
            self.reach("several segments");
        }
        if logs.len() == 1 && names.len() > 1 && !names.iter().any(|name| name.starts_with("0000000000000001")) {
            self.reach("segment used again");
        }
    }

    fn all(mut self) -> BTreeMap<&'static str, u64> {
        let mut log = self.create();
        for _ in 0..1 + self.chance.below(8) {
            log = self.life(log);
        }
        self.counts
    }
}

#[test]
fn memory_agrees_with_the_model() {
    let (cases, first) = (number("STENTOR_CASES", 300), number("STENTOR_SEED", 1));
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in first..first + cases {
        println!("replay with STENTOR_CASES=1 STENTOR_SEED={seed}");
        let disk = memory::Disk::new();
        let run = Run::new(seed, Arc::new(disk.clone()), Some(disk));
        run.all().into_iter().for_each(|(name, count)| *counts.entry(name).or_default() += count);
    }
    println!("{counts:?}");
    for what in REACHED.iter().filter(|_| cases >= ENOUGH_CASES) {
        assert!(counts.contains_key(what), "{what} was not reached: {counts:?}");
    }
}

#[test]
fn a_directory_agrees_with_the_model() {
    let first = number("STENTOR_SEED", 1);
    for seed in first..first + 6 {
        println!("seed {seed}");
        let directory = tempfile::tempdir().unwrap();
        let disk = SystemDisk::new(directory.path().join("raft")).unwrap();
        Run::new(seed, Arc::new(disk), None).all();
    }
}
