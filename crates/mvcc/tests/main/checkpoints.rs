//! Index checkpoints that are damaged, foreign or out of time: the store opens as if there were none.
//! Good ones are a step of the property test.

use std::io::{Read, Write};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stentor_mvcc::engine::memory::{Disk, Fault, MemoryEngine};
use stentor_mvcc::engine::{Durability, Engine, EngineError};
use stentor_mvcc::{Error, Options, Store};
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::{DeleteRangeRequest, LeaseGrantRequest, PutRequest};
use stentor_proto::storagepb::log_entry::Op;

use crate::property::{run, verify};

const BLOB: &str = "index";

fn open(disk: &Disk) -> Store {
    Store::open(MemoryEngine::open(disk).unwrap(), Options::default()).unwrap()
}

fn put(store: &Store, key: &str, lease: i64) {
    let put = PutRequest { key: key.to_owned().into(), value: "v".into(), lease, ..Default::default() };
    store.put(put).unwrap();
}

fn delete(store: &Store, key: &'static str) {
    store.delete_range(DeleteRangeRequest { key: key.into(), ..Default::default() }).unwrap();
}

/// Several blocks of keys; some with history, leases or a tombstone.
fn filled(disk: &Disk) -> Store {
    let store = open(disk);
    store.execute(Op::LeaseGrant(LeaseGrantRequest { id: -5, ttl: 60 })).unwrap();
    for n in 0..300 {
        let name = format!("{n:05}/{}", "x".repeat(900));
        put(&store, &name, if n % 3 == 0 { -5 } else { 0 });
        if n % 7 == 0 {
            put(&store, &name, 0);
        }
    }
    put(&store, "gone", -5);
    delete(&store, "gone");
    store
}

fn saved(disk: &Disk) -> Vec<u8> {
    let engine = MemoryEngine::open(disk).unwrap();
    let mut bytes = Vec::new();
    engine.load_blob(BLOB).unwrap().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn save(disk: &Disk, bytes: &[u8]) {
    let engine = MemoryEngine::open(disk).unwrap();
    engine.save_blob(BLOB, &mut |out: &mut dyn Write| out.write_all(bytes)).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_ignored() {
    let disk = Disk::new();
    let store = filled(&disk);
    let expected = verify::index(&store.view());
    store.checkpoint_index().unwrap();
    drop(store);
    let good = saved(&disk);
    assert!(good.len() > 200_000 && good.starts_with(b"STENTORIDX1\n"));
    let cases = run::cases("STENTOR_CASES", 300).clamp(1, 2_000);
    for seed in (run::seed()..).take(cases as usize) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut bad = good.clone();
        let at = if rng.random_bool(0.5) { rng.random_range(0..60) } else { rng.random_range(0..bad.len()) };
        match rng.random_range(0..4) {
            0 => bad.truncate(at),
            1 => drop(bad.remove(at)),
            2 => bad.insert(at, !good[at]),
            _ => bad[at] ^= 1 << rng.random_range(0..8),
        }
        save(&disk, &bad);
        let store = open(&disk);
        assert_eq!(store.index_checkpoint(), None, "seed {seed}: it was used");
        assert_eq!(verify::index(&store.view()), expected);
    }
    save(&disk, &good);
    assert!(open(&disk).index_checkpoint().is_some());
}

#[test]
fn a_checkpoint_of_another_time_is_ignored() {
    let disk = Disk::new();
    let store = filled(&disk);
    store.checkpoint_index().unwrap();
    let at = store.view().revision();
    drop(store);
    let later = saved(&disk);

    // Of a store that has not come that far.
    let young = Disk::new();
    let store = open(&young);
    put(&store, "a", 0);
    drop(store);
    save(&young, &later);
    let store = open(&young);
    assert_eq!((store.index_checkpoint(), store.view().keys()), (None, 1));
    drop(store);

    // Of another store, whose changes after it do not follow upon it.
    let other = Disk::new();
    let store = open(&other);
    for _ in 0..at.get() + 3 {
        put(&store, "a", 0);
    }
    drop(store);
    save(&other, &later);
    let store = open(&other);
    assert_eq!((store.index_checkpoint(), store.view().keys()), (None, 1));
}

#[test]
fn a_key_that_compaction_removed_after_the_checkpoint_does_not_come_back() {
    let disk = Disk::new();
    let store = open(&disk);
    put(&store, "a", 0);
    put(&store, "b", 0);
    store.checkpoint_index().unwrap();
    delete(&store, "a");
    put(&store, "b", 0);
    store.compact(Revision::new(5).unwrap()).unwrap();
    assert_eq!(store.index_checkpoint(), None, "it can't be used any more");
    store.finish_compactions().unwrap();
    drop(store);
    let store = open(&disk);
    assert_eq!((store.index_checkpoint(), store.view().keys()), (None, 1));
    store.checkpoint_index().unwrap();
    drop(store);
    let store = open(&disk);
    assert_eq!((store.index_checkpoint(), store.view().keys()), (Revision::new(5), 1));
}

#[test]
fn a_checkpoint_that_fails_harms_nothing() {
    let disk = Disk::new();
    let store = filled(&disk);
    store.checkpoint_index().unwrap();
    let first = store.index_checkpoint();
    put(&store, "more", 0);
    disk.fail_next_sync(Fault::Full);
    let error = store.checkpoint_index().unwrap_err();
    assert!(matches!(error, Error::Engine(EngineError::Full(_))), "{error}");
    assert_eq!(store.index_checkpoint(), first, "the one before is still there");
    put(&store, "still more", 0);
    let expected = verify::index(&store.view());
    drop(store);
    let store = open(&disk);
    assert_eq!(store.index_checkpoint(), first);
    assert_eq!(verify::index(&store.view()), expected);
}

#[test]
fn a_checkpoint_is_never_ahead_of_what_a_crash_leaves() {
    let disk = Disk::new();
    let options = Options { durability: Durability::Buffered, ..Options::default() };
    let store = Store::open(MemoryEngine::open(&disk).unwrap(), options).unwrap();
    put(&store, "a", 0);
    store.checkpoint_index().unwrap();
    put(&store, "b", 0);
    disk.crash();
    drop(store);
    let store = open(&disk);
    assert_eq!((store.index_checkpoint(), store.view().revision().get()), (Revision::new(2), 2));
}

#[test]
fn it_is_asked_for_after_many_changes() {
    let disk = Disk::new();
    let store = open(&disk);
    assert!(!store.wants_index_checkpoint());
    let entry = |n: u32| {
        let put = PutRequest { key: (n % 1000).to_be_bytes().to_vec().into(), ..Default::default() };
        stentor_proto::storagepb::LogEntry { op: Some(Op::Put(put)), ..Default::default() }
    };
    let group: Vec<_> = (0..10_000).map(entry).collect();
    for index in 1..=10 {
        assert!(!store.wants_index_checkpoint());
        store.apply(&group, stentor_mvcc::LogPosition { term: 1, index }).unwrap();
    }
    assert!(store.wants_index_checkpoint());
    store.checkpoint_index().unwrap();
    assert!(!store.wants_index_checkpoint());
    drop(store);
    assert!(!open(&disk).wants_index_checkpoint());
}
