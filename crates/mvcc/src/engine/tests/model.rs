//! Random operations on an engine beside a model of it.
//!
//! `STENTOR_CASES` sets the number of cases in memory, `STENTOR_ROCKSDB_CASES` on RocksDB, `STENTOR_SEED`
//! the first one's seed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::memory::Disk;
use super::super::{Batch, Durability, Engine, Entry, Family, Read};
use super::Random;
use super::behaviour::{History, Host, Meta, entries};

type Key = [u8; 12];
type State = BTreeMap<(Family, Bytes), Bytes>;

/// A host that a test can do more to than open it.
trait Lab: Host {
    /// Takes what is not durable. False if it cannot.
    fn crash(&self) -> bool {
        false
    }

    /// Makes all durable by itself. False if it cannot.
    fn write_back(&self) -> bool {
        false
    }
}

impl Lab for Disk {
    fn crash(&self) -> bool {
        Disk::crash(self);
        true
    }

    fn write_back(&self) -> bool {
        Disk::write_back(self);
        true
    }
}

#[cfg(feature = "rocksdb")]
impl Lab for super::rocksdb::Directory {}

/// What the engine should hold.
struct Model {
    random: Random,
    now: State,
    /// What a crash leaves.
    durable: State,
    /// How often each thing was done.
    counts: BTreeMap<&'static str, u64>,
}

impl Model {
    fn new() -> Model {
        Model { random: Random::new(0), now: State::new(), durable: State::new(), counts: BTreeMap::new() }
    }

    fn family(&mut self) -> Family {
        if self.random.below(2) == 0 { History } else { Meta }
    }

    /// One of few keys, so that they are overwritten, deleted and scanned often.
    fn key(&mut self) -> Key {
        let mut key = [0; 12];
        key[7] = self.random.below(8) as u8;
        key[11] = self.random.below(4) as u8;
        key
    }

    fn bound(&mut self) -> Bytes {
        let key = self.key();
        let length = self.random.below(13) as usize;
        Bytes::copy_from_slice(&key[..length])
    }

    fn value(&mut self) -> Bytes {
        let length = [0, 3, 40, 300][self.random.below(4) as usize];
        Bytes::from(vec![self.random.next() as u8; length])
    }

    fn write(&mut self, engine: &dyn Engine) {
        let mut batch = Batch::default();
        for _ in 0..self.random.below(6) {
            let (family, key) = (self.family(), Bytes::copy_from_slice(&self.key()));
            if self.random.below(10) < 7 {
                let value = self.value();
                batch.put(family, key.clone(), value.clone());
                self.now.insert((family, key), value);
            } else {
                batch.delete(family, key.clone());
                self.now.remove(&(family, key));
            }
        }
        let durability = if self.random.below(4) == 0 { Durability::Synced } else { Durability::Buffered };
        engine.write(batch, durability).unwrap();
        if durability == Durability::Synced {
            self.durable = self.now.clone();
        }
    }

    /// Reads in one of the ways there are.
    fn read(&mut self, read: &dyn Read, expected: &State) {
        let family = self.family();
        match self.random.below(3) {
            0 => {
                let key = self.key();
                let found = read.get(family, &key).unwrap();
                assert_eq!(found.as_ref(), expected.get(&(family, Bytes::copy_from_slice(&key))));
            }
            1 => {
                let mut keys: Vec<Key> = (0..self.random.below(40)).map(|_| self.key()).collect();
                if self.random.below(2) == 0 {
                    keys.sort();
                }
                let found = read.get_many(family, &keys).unwrap();
                let key = |key: &Key| (family, Bytes::copy_from_slice(key));
                let expected: Vec<Option<Bytes>> = keys.iter().map(|k| expected.get(&key(k)).cloned()).collect();
                assert_eq!(found, expected);
            }
            _ => {
                let from = self.bound();
                let to = (self.random.below(3) > 0).then(|| self.bound());
                assert_eq!(entries(read, family, &from, to.as_deref()), scan(expected, family, &from, to.as_ref()));
            }
        }
    }

    /// One step with an open engine.
    fn step<'a>(&mut self, lab: &dyn Lab, engine: &'a dyn Engine, views: &mut Vec<(Box<dyn Read + 'a>, State)>) {
        let name = match self.random.below(100) {
            0..45 => {
                self.write(engine);
                "write"
            }
            45..65 => {
                let now = self.now.clone();
                self.read(engine, &now);
                "read"
            }
            65..80 if !views.is_empty() => {
                let chosen = self.random.below(views.len() as u64) as usize;
                if self.random.below(4) == 0 {
                    views.swap_remove(chosen);
                    "end of a view"
                } else {
                    let (view, state) = &views[chosen];
                    self.read(&**view, state);
                    "read of a view"
                }
            }
            80..84 if views.len() < 3 => {
                views.push((engine.view(), self.now.clone()));
                "view"
            }
            84..90 => {
                let (family, key) = (self.family(), self.key());
                let found = engine.get_persisted(family, &key).unwrap();
                if lab.persists_when_asked() {
                    self.durable = self.now.clone();
                }
                assert_eq!(found.as_ref(), self.durable.get(&(family, Bytes::copy_from_slice(&key))));
                "persisted"
            }
            90..93 => {
                engine.sync().unwrap();
                self.durable = self.now.clone();
                "sync"
            }
            93..95 => {
                engine.flush().unwrap();
                self.durable = self.now.clone();
                "flush"
            }
            95..97 => {
                let (family, to) = (self.family(), self.bound());
                engine.flush().unwrap();
                engine.reclaim(family, Some(&to)).unwrap();
                self.durable = self.now.clone();
                "reclaim"
            }
            97..100 if lab.write_back() => {
                self.durable = self.now.clone();
                "write-back"
            }
            _ => return,
        };
        *self.counts.entry(name).or_default() += 1;
    }

    /// From one opening to the next.
    fn life(&mut self, lab: &dyn Lab) {
        let engine = lab.open().unwrap();
        self.durable = self.now.clone();
        let mut views = Vec::new();
        for _ in 0..self.random.below(60) {
            self.step(lab, &*engine, &mut views);
        }
        for family in [History, Meta] {
            assert_eq!(entries(&*engine, family, b"", None), scan(&self.now, family, b"", None));
        }
        let name = if self.random.below(2) == 0 && lab.crash() {
            self.now = self.durable.clone();
            "crash"
        } else {
            "reopening"
        };
        *self.counts.entry(name).or_default() += 1;
    }
}

fn scan(state: &State, family: Family, from: &[u8], to: Option<&Bytes>) -> Vec<Entry> {
    let of_family = state.iter().filter(|((of, _), _)| *of == family);
    let entries = of_family.map(|((_, key), value)| (key.clone(), value.clone()));
    entries.filter(|(key, _)| *key >= from && to.is_none_or(|to| key < to)).collect()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs cases on new hosts, and demands that each of the things was done.
fn run<L: Lab>(variable: &str, cases: u64, new_lab: impl Fn() -> L, things: &[&str]) {
    let cases = number(variable).unwrap_or(cases);
    let first = number("STENTOR_SEED").unwrap_or(1);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in first..first + cases {
        println!("seed {seed}");
        let lab = new_lab();
        let mut model = Model { random: Random::new(seed), ..Model::new() };
        for _ in 0..1 + model.random.below(8) {
            model.life(&lab);
        }
        model.counts.into_iter().for_each(|(name, count)| *counts.entry(name).or_default() += count);
    }
    println!("{counts:?}");
    // A single case, as when a failure is looked into, does not reach everything.
    for thing in things.iter().filter(|_| cases >= 10) {
        assert!(counts.contains_key(thing), "{thing} was not reached: {counts:?}");
    }
}

const EVERYWHERE: [&str; 10] =
    ["write", "read", "view", "read of a view", "end of a view", "persisted", "sync", "flush", "reclaim", "reopening"];

#[test]
fn memory() {
    run("STENTOR_CASES", 500, Disk::new, &[&EVERYWHERE[..], &["crash", "write-back"]].concat());
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_with_log() {
    use super::super::rocksdb::Options;
    run("STENTOR_ROCKSDB_CASES", 15, || super::rocksdb::Directory::new(Options::default()), &EVERYWHERE);
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_replayed() {
    use super::super::rocksdb::Options;
    run("STENTOR_ROCKSDB_CASES", 15, || super::rocksdb::Directory::new(Options::replayed()), &EVERYWHERE);
}
