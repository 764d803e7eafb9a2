//! Records that are not what was written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_mvcc::engine::{Batch, Durability, Engine, EngineError, Family, Op as Change};
use stentor_mvcc::{ChangeId, Error, Options, Store};
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::{AlarmRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest};
use stentor_proto::storagepb::log_entry::Op;

use super::{content, everything, open, put};
use crate::property::run;

fn id(revision: i64) -> [u8; 12] {
    ChangeId { revision: Revision::new(revision).unwrap(), sub: 0 }.to_bytes()
}

fn filled(disk: &Disk) -> Store {
    let store = open(disk).unwrap();
    store.execute(Op::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 60 })).unwrap();
    store.put(PutRequest { lease: 5, ..put("a", "1") }).unwrap();
    store.put(put("b", "1")).unwrap();
    store.put(put("a", "2")).unwrap();
    store.delete_range(DeleteRangeRequest { key: "b".into(), ..Default::default() }).unwrap();
    store.put(put("c", "1")).unwrap();
    store.compact(Revision::new(4).unwrap()).unwrap();
    store.execute(Op::Alarm(AlarmRequest { action: 1, member_id: 3, alarm: 2 })).unwrap();
    store
}

#[test]
fn a_damaged_block_is_named_and_ends_writing() {
    let disk = Disk::new();
    let store = filled(&disk);
    disk.damage(Family::History, &id(4));
    let key = |key: &'static str| RangeRequest { key: key.into(), ..RangeRequest::default() };
    assert_eq!(store.view().range(&key("c")).unwrap().count, 1, "what is not damaged can be read");
    let error = store.view().range(&key("a")).unwrap_err();
    assert!(matches!(error, Error::Engine(EngineError::Corrupt(_))), "{error}");
    assert!(error.to_string().contains("snapshot"), "it says what to do: {error}");
    let error = store.put(put("d", "1")).unwrap_err();
    assert!(matches!(error, Error::Engine(EngineError::Failed(_))), "{error}");
    assert_eq!(store.view().range(&key("c")).unwrap().count, 1);
    assert!(store.compact_step(100).is_err());
    drop(store);
    assert!(matches!(open(&disk).err(), Some(Error::Engine(EngineError::Corrupt(_)))));
    disk.repair();
    assert_eq!(content(&open(&disk).unwrap()), "a=2 c=1");
}

#[test]
fn a_missing_record_is_named() {
    let disk = Disk::new();
    let engine = Arc::new(MemoryEngine::open(&disk).unwrap());
    let store = Store::open_shared(engine.clone(), Options::default()).unwrap();
    store.put(put("a", "1")).unwrap();
    let mut batch = Batch::default();
    batch.delete(Family::History, id(2).to_vec());
    engine.write(batch, Durability::Synced).unwrap();
    let error = store.view().range(&everything()).unwrap_err();
    assert!(error.to_string().contains("change 2/0 is not readable (it is missing)"), "{error}");
    // Nothing that would need it can be done; the rest goes on.
    assert!(store.put(PutRequest { prev_kv: true, ..put("a", "2") }).is_err());
    store.put(put("a", "3")).unwrap();
    assert_eq!(content(&store), "a=3");
}

/// Everything that the engine of a filled store holds.
fn entries() -> Vec<(Family, Vec<u8>, Vec<u8>)> {
    let disk = Disk::new();
    drop(filled(&disk));
    let engine = MemoryEngine::open(&disk).unwrap();
    let mut all = Vec::new();
    for family in [Family::History, Family::Meta] {
        let scan = stentor_mvcc::engine::Read::scan(&engine, family, &[], None).unwrap();
        all.extend(scan.map(|entry| entry.map(|(key, value)| (family, key.to_vec(), value.to_vec())).unwrap()));
    }
    all
}

fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    match rng.random_range(0..4) {
        0 if !bytes.is_empty() => bytes.truncate(rng.random_range(0..bytes.len())),
        1 => bytes.push(rng.random()),
        _ if !bytes.is_empty() => {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = if rng.random_bool(0.5) { rng.random() } else { bytes[at] ^ 1 << rng.random_range(0..8) };
        }
        _ => *bytes = vec![0; 12],
    }
}

/// Whatever bytes are found, opening and using the store answers or says what is wrong; it never panics.
#[test]
fn no_bytes_make_it_panic() {
    let cases = run::cases("STENTOR_CASES", 300);
    let (mut refused, mut opened) = (0, 0);
    let entries = entries();
    for seed in (run::seed()..).take(cases as usize) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut entries = entries.clone();
        for _ in 0..rng.random_range(1..3) {
            let at = rng.random_range(0..entries.len());
            match rng.random_range(0..8) {
                0 => drop(entries.remove(at)),
                1 | 2 => mutate(&mut rng, &mut entries[at].1),
                _ => mutate(&mut rng, &mut entries[at].2),
            }
        }
        let used = catch_unwind(AssertUnwindSafe(|| use_what_is_found(&entries)));
        match used.unwrap_or_else(|_| panic!("seed {seed} panics (STENTOR_SEED={seed} STENTOR_CASES=1)")) {
            Ok(()) => opened += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(cases < 200 || (refused > 0 && opened > 0), "{refused} refused, {opened} opened");
}

fn use_what_is_found(entries: &[(Family, Vec<u8>, Vec<u8>)]) -> Result<(), Error> {
    let mut batch = Batch::default();
    for (family, key, value) in entries {
        batch.put(*family, key.clone(), value.clone());
    }
    assert!(batch.ops().iter().all(|op| matches!(op, Change::Put(..))));
    let engine = MemoryEngine::open(&Disk::new())?;
    engine.write(batch, Durability::Synced)?;
    let store = Store::open(engine, Options::default())?;
    let view = store.view();
    for at in 0..=view.revision().get().min(20) {
        let _ = view.range(&RangeRequest { revision: at, ..everything() });
        let _ = view.hash_kv(at);
        let _ = view.pair_at(b"a", Revision::new(at).unwrap());
    }
    for record in view.history(view.compacted().unwrap_or(Revision::ZERO), view.revision())? {
        let Ok(record) = record else { break };
        let _ = record.pair();
    }
    drop(view);
    for key in ["a", "b"] {
        let _ = store.put(PutRequest { prev_kv: true, lease: 5, ..put(key, "9") });
        let _ = store.delete_range(DeleteRangeRequest { key: key.into(), prev_kv: true, ..Default::default() });
    }
    let _ = store.finish_compactions();
    Ok(())
}
