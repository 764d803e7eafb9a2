//! What the in-memory engine does besides.

use super::super::memory::{Disk, Fault, MemoryEngine};
use super::super::{Durability, Engine, EngineError, Read};
use super::behaviour::{History, Host, Meta, behaviour, keys, puts};

impl Host for Disk {
    fn open(&self) -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(MemoryEngine::open(self)?))
    }
}

behaviour!(Disk::new());

#[test]
fn a_crash_takes_what_was_not_synced() {
    let disk = Disk::new();
    let engine = MemoryEngine::open(&disk).unwrap();
    engine.write(puts(History, &[("a", "")]), Durability::Buffered).unwrap();
    engine.write(puts(History, &[("b", "")]), Durability::Synced).unwrap();
    engine.write(puts(History, &[("c", "")]), Durability::Buffered).unwrap();
    let view = engine.view();
    disk.crash();
    assert_eq!(keys(&*view, History, "", None), "a b c", "a view has its own memory");
    drop(view);
    assert!(matches!(engine.get(History, b"a"), Err(EngineError::Failed(_))));
    assert!(matches!(engine.write(puts(Meta, &[("m", "")]), Durability::Synced), Err(EngineError::Failed(_))));
    let reopened = MemoryEngine::open(&disk).unwrap();
    // The dead engine's end must not unlock what another has open.
    drop(engine);
    assert!(matches!(MemoryEngine::open(&disk), Err(EngineError::Locked(_))));
    assert_eq!(keys(&reopened, History, "", None), "a b");
    assert_eq!(keys(&reopened, Meta, "", None), "");
}

#[test]
fn writing_back_keeps_the_writes_before_it() {
    let disk = Disk::new();
    let engine = MemoryEngine::open(&disk).unwrap();
    engine.write(puts(History, &[("a", "")]), Durability::Buffered).unwrap();
    disk.write_back();
    engine.write(puts(History, &[("b", "")]), Durability::Buffered).unwrap();
    disk.crash();
    assert_eq!(keys(&MemoryEngine::open(&disk).unwrap(), History, "", None), "a");
    assert_eq!((disk.writes(), disk.syncs()), (2, 0));
}

#[test]
fn every_failure_lasts_until_reopening() {
    type Arrange = fn(&Disk, Fault);
    type Act = fn(&MemoryEngine) -> Result<(), EngineError>;
    let synced: Act = |engine| engine.write(puts(Meta, &[("b", "")]), Durability::Synced);
    let cases: [(&str, Arrange, Act, &str); 5] = [
        ("buffered write", Disk::fail_next_write, |e| e.write(puts(Meta, &[("b", "")]), Durability::Buffered), "a"),
        ("synced write", Disk::fail_next_write, synced, "a"),
        ("sync of a write", Disk::fail_next_sync, synced, "a b"),
        ("sync", Disk::fail_next_sync, |engine| engine.sync(), "a"),
        ("flush", Disk::fail_next_sync, |engine| engine.flush(), "a"),
    ];
    for (name, arrange, act, seen_afterwards) in cases {
        for fault in [Fault::Full, Fault::Io] {
            let disk = Disk::new();
            let engine = MemoryEngine::open(&disk).unwrap();
            engine.write(puts(Meta, &[("a", "")]), Durability::Synced).unwrap();
            arrange(&disk, fault);
            let error = act(&engine).unwrap_err();
            match fault {
                Fault::Full => assert!(matches!(error, EngineError::Full(_)), "{name}: {error}"),
                Fault::Io => assert!(matches!(error, EngineError::Io(_)), "{name}: {error}"),
            }
            for durability in [Durability::Buffered, Durability::Synced] {
                let refused = engine.write(puts(Meta, &[("c", "")]), durability).unwrap_err();
                assert_eq!(refused, EngineError::Failed(error.to_string()), "{name}");
            }
            assert!(matches!(engine.sync(), Err(EngineError::Failed(_))), "{name}");
            assert!(matches!(engine.flush(), Err(EngineError::Failed(_))), "{name}");
            assert_eq!(keys(&engine, Meta, "", None), seen_afterwards, "{name}: reads go on");
            drop(engine);
            let engine = MemoryEngine::open(&disk).unwrap();
            assert_eq!(keys(&engine, Meta, "", None), seen_afterwards, "{name}");
            engine.write(puts(Meta, &[("d", "")]), Durability::Synced).unwrap();
        }
    }
}

#[test]
fn a_failed_sync_makes_nothing_durable() {
    let disk = Disk::new();
    let engine = MemoryEngine::open(&disk).unwrap();
    disk.fail_next_sync(Fault::Io);
    engine.write(puts(Meta, &[("a", "")]), Durability::Synced).unwrap_err();
    disk.crash();
    assert_eq!(keys(&MemoryEngine::open(&disk).unwrap(), Meta, "", None), "");
}

#[test]
fn opening_syncs_what_it_finds_and_may_fail() {
    let disk = Disk::new();
    MemoryEngine::open(&disk).unwrap().write(puts(Meta, &[("a", "")]), Durability::Buffered).unwrap();
    disk.fail_next_sync(Fault::Full);
    assert!(matches!(MemoryEngine::open(&disk), Err(EngineError::Full(_))));
    assert_eq!(disk.syncs(), 0);
    let engine = MemoryEngine::open(&disk).unwrap();
    assert_eq!(disk.syncs(), 1);
    disk.crash();
    drop(engine);
    assert_eq!(keys(&MemoryEngine::open(&disk).unwrap(), Meta, "", None), "a");
    assert_eq!(disk.syncs(), 1, "nothing was left to sync");
}

#[test]
fn damage_is_reported_by_every_read() {
    let disk = Disk::new();
    let engine = MemoryEngine::open(&disk).unwrap();
    engine.write(puts(History, &[("a", ""), ("b", ""), ("c", "")]), Durability::Synced).unwrap();
    engine.write(puts(Meta, &[("b", "")]), Durability::Synced).unwrap();
    let view = engine.view();
    disk.damage(History, b"b");
    assert!(matches!(engine.get(History, b"b"), Err(EngineError::Corrupt(_))));
    assert!(matches!(engine.get_persisted(History, b"b"), Err(EngineError::Corrupt(_))));
    assert!(matches!(view.get(History, b"b"), Err(EngineError::Corrupt(_))));
    assert!(engine.get(History, b"a").unwrap().is_some());
    assert!(engine.get(Meta, b"b").unwrap().is_some());
    let found: Vec<bool> = view.scan(History, b"", None).unwrap().map(|entry| entry.is_ok()).collect();
    assert_eq!(found, [true, false], "a scan ends at its first error");
    let refused = engine.write(puts(Meta, &[("c", "")]), Durability::Synced);
    assert!(matches!(refused, Err(EngineError::Failed(_))), "{refused:?}");
    disk.repair();
    assert_eq!(keys(&*view, History, "", None), "a b c");
}

#[test]
fn syncs_are_counted() {
    let disk = Disk::new();
    let engine = MemoryEngine::open(&disk).unwrap();
    for _ in 0..10 {
        engine.write(puts(Meta, &[("a", "")]), Durability::Buffered).unwrap();
    }
    assert_eq!((disk.writes(), disk.syncs()), (10, 0));
    engine.write(puts(Meta, &[("a", "")]), Durability::Synced).unwrap();
    engine.sync().unwrap();
    engine.flush().unwrap();
    assert_eq!((disk.writes(), disk.syncs()), (11, 3));
}
