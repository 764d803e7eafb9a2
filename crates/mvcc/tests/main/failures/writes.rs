//! Writes and syncs that fail.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use stentor_mvcc::engine::EngineError;
use stentor_mvcc::engine::memory::{Disk, Fault};
use stentor_mvcc::{Commit, CompactionStep, Error, Observer};
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::LeaseGrantRequest;
use stentor_proto::storagepb::log_entry::Op;

use super::{apply, content, open, put};

#[derive(Default)]
struct Count(AtomicUsize);

impl Observer for Count {
    fn committed(&self, _: &Commit) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// How the simulated disk is made to fail.
#[derive(Clone, Copy, Debug, PartialEq)]
enum On {
    Write,
    Sync,
}

const WAYS: [(On, Fault); 4] =
    [(On::Write, Fault::Full), (On::Write, Fault::Io), (On::Sync, Fault::Full), (On::Sync, Fault::Io)];

fn fail(disk: &Disk, (on, fault): (On, Fault)) {
    match on {
        On::Write => disk.fail_next_write(fault),
        On::Sync => disk.fail_next_sync(fault),
    }
}

fn says(error: &Error, (_, fault): (On, Fault)) -> bool {
    match fault {
        Fault::Full => matches!(error, Error::Engine(EngineError::Full(_))),
        Fault::Io => matches!(error, Error::Engine(EngineError::Io(_))),
    }
}

#[test]
fn what_fails_is_not_visible_and_ends_writing() {
    for way in WAYS {
        let disk = Disk::new();
        let store = open(&disk).unwrap();
        store.put(put("a", "1")).unwrap();
        store.execute(Op::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 5 })).unwrap();
        let told = Arc::new(Count::default());
        store.observe(&told);

        fail(&disk, way);
        let error = apply(&store, [Op::Put(put("a", "2")), Op::Put(put("b", "1"))]).unwrap_err();
        assert!(says(&error, way), "{way:?}: {error}");
        assert!(error.to_string().contains("restart"), "it says what to do: {error}");

        // The disk is well again, but what the failed write left is not known.
        let after = store.put(put("c", "1")).unwrap_err();
        assert!(says(&after, way), "{way:?}: {after}");
        assert!(store.compact(store.view().revision()).is_err());
        assert_eq!(content(&store), "a=1");
        assert_eq!((store.view().revision().get(), store.view().applied().index), (2, 2));
        assert_eq!(told.0.load(Ordering::SeqCst), 0);

        drop(store);
        disk.crash();
        let store = open(&disk).unwrap();
        assert_eq!(content(&store), "a=1");
        assert_eq!(store.view().leases().len(), 1);
        store.put(put("c", "1")).unwrap();
        assert_eq!(content(&store), "a=1 c=1");
    }
}

#[test]
fn a_group_whose_sync_failed_is_there_whole_or_not_at_all() {
    let disk = Disk::new();
    let store = open(&disk).unwrap();
    store.put(put("a", "1")).unwrap();
    disk.fail_next_sync(Fault::Io);
    apply(&store, [Op::Put(put("a", "2")), Op::Put(put("b", "1"))]).unwrap_err();
    // Only the process ends: the system may yet write what it was given.
    drop(store);
    let store = open(&disk).unwrap();
    assert_eq!(content(&store), "a=2 b=1");
    assert_eq!((store.view().revision().get(), store.view().applied().index), (4, 3));
}

#[test]
fn concurrent_writers_are_told_the_truth() {
    for round in 0..50 {
        let disk = Disk::new();
        let store = open(&disk).unwrap();
        let threads = 4;
        let start = Barrier::new(threads + 1);
        let keys: Vec<String> = (0..threads).map(|n| format!("k{n}")).collect();
        let acknowledged: Vec<i64> = std::thread::scope(|scope| {
            let writers: Vec<_> = keys
                .iter()
                .map(|key| {
                    let (store, start) = (&store, &start);
                    scope.spawn(move || {
                        start.wait();
                        // How often it was told that its key is written.
                        (1..=20)
                            .take_while(|n| {
                                let mut put = put("", "");
                                (put.key, put.value) = (key.clone().into(), n.to_string().into());
                                store.put(put).is_ok()
                            })
                            .count() as i64
                    })
                })
                .collect();
            start.wait();
            if round % 2 == 0 {
                disk.fail_next_sync(Fault::Io)
            } else {
                disk.fail_next_write(Fault::Full)
            }
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        drop(store);
        disk.crash();
        let found = content(&open(&disk).unwrap());
        let expected: Vec<String> =
            keys.iter().zip(&acknowledged).filter(|(_, n)| **n > 0).map(|(key, n)| format!("{key}={n}")).collect();
        assert_eq!(found, expected.join(" "));
    }
}

#[test]
fn space_work_that_fails_leaves_everything_readable() {
    let disk = Disk::new();
    let store = open(&disk).unwrap();
    for value in ["1", "2", "3", "4"] {
        store.put(put("a", value)).unwrap();
    }
    store.compact(Revision::new(4).unwrap()).unwrap();
    assert!(matches!(store.compact_step(1).unwrap(), CompactionStep::Worked { .. }));
    disk.fail_next_write(Fault::Io);
    let error = store.compact_step(1).unwrap_err();
    assert!(matches!(error, Error::Engine(EngineError::Io(_))), "{error}");
    assert!(store.put(put("b", "1")).is_err(), "writes are refused");
    assert!(store.compact_step(1).is_err());
    let hash = store.view().hash_kv(0).unwrap();
    assert_eq!(content(&store), "a=4");
    assert_eq!(store.view().history(Revision::new(4).unwrap(), Revision::new(5).unwrap()).unwrap().count(), 2);

    drop(store);
    let store = open(&disk).unwrap();
    store.finish_compactions().unwrap();
    assert_eq!(store.view().hash_kv(0).unwrap(), hash);
    let before = store.view().pair_at(b"a", Revision::new(3).unwrap()).unwrap().unwrap();
    assert_eq!(before.value, "2");
}
