//! Snapshots that are cut, altered, interrupted or restored in a special way. Whole ones are a step of
//! the property test.

use std::io::{self, Read};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stentor_mvcc::engine::Engine;
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_mvcc::snapshot::{RestoreError, RestoreOptions, Restored, Trailer, restore};
use stentor_mvcc::{LogPosition, Options, Store};
use stentor_proto::etcdserverpb::{AlarmRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest};
use stentor_proto::snapshot::{HeaderError, read_header};
use stentor_proto::storagepb::{Identity, log_entry::Op};
use stentor_proto::{EtcdError, Revision};

use crate::property::run;

fn engine() -> MemoryEngine {
    MemoryEngine::open(&Disk::new()).unwrap()
}

/// A store with a little of everything, and several frames of history.
fn filled() -> Store {
    let options = Options { wall_clock: || 1_700_000_000_000, ..Options::default() };
    let store = Store::open(engine(), options).unwrap();
    store.set_identity(&Identity { cluster_id: 1, member_id: 2, has_log: false }).unwrap();
    store.execute(Op::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 60 })).unwrap();
    let put = |key: String, size: usize, lease| {
        let put = PutRequest { key: key.into(), value: vec![b'v'; size].into(), lease, ..Default::default() };
        store.put(put).unwrap();
    };
    for n in 0..40 {
        put(format!("{:02}", n % 10), n * 100, if n % 3 == 0 { 5 } else { 0 });
    }
    put("large".into(), 300_000, 0);
    store.delete_range(DeleteRangeRequest { key: "07".into(), ..Default::default() }).unwrap();
    store.compact(Revision::new(20).unwrap()).unwrap();
    store.execute(Op::Alarm(AlarmRequest { action: 1, member_id: 3, alarm: 2 })).unwrap();
    store
}

fn bytes(store: &Store, chunk: usize) -> Vec<u8> {
    let mut snapshot = store.snapshot("9.8.7").unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = snapshot.next_chunk(chunk).unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(bytes.len() as u64, snapshot.total_len());
    bytes
}

fn with_trailer(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut trailer = Trailer::default();
    trailer.update(&bytes);
    bytes.extend(trailer.finish());
    bytes
}

const TRAILER: RestoreOptions =
    RestoreOptions { trailer: true, bump_revision: 0, mark_compacted: false, drop_alarms: false, applied: None };

fn restored(bytes: &[u8], options: &RestoreOptions) -> Result<(Store, Restored), RestoreError> {
    let engine = engine();
    let restored = restore(&mut &bytes[..], &engine, options)?;
    Ok((Store::open(engine, Options::default()).unwrap(), restored))
}

#[test]
fn a_copy_is_the_same_store() {
    let store = filled();
    let snapshot = bytes(&store, 32 << 10);
    assert_eq!(snapshot, bytes(&store, 1000), "the bytes do not depend on the chunks");
    assert_eq!(snapshot.len() % 512, 0);
    let head = read_header(&mut &snapshot[..]).unwrap();
    assert_eq!((head.revision, head.compacted_revision, head.total_keys), (43, 20, 10));
    assert_eq!((head.created_unix_ms, &head.server_version[..]), (1_700_000_000_000, "9.8.7"));

    let (copy, restored) = restored(&with_trailer(snapshot), &TRAILER).unwrap();
    assert_eq!((restored.revision, &restored.header), (43, &head));
    let (ours, theirs) = (store.view(), copy.view());
    for revision in 20..=43 {
        assert_eq!(ours.hash_kv(revision).unwrap(), theirs.hash_kv(revision).unwrap(), "at {revision}");
    }
    let leases = |store: &stentor_mvcc::View| store.leases().iter().map(|(id, l)| (id, l.clone())).collect::<Vec<_>>();
    assert_eq!(leases(&ours), leases(&theirs));
    assert!(ours.all_alarms().eq(theirs.all_alarms()));
    assert_eq!(ours.applied(), theirs.applied());
    assert_eq!(head.logical_bytes, theirs.logical_bytes());
    assert_eq!(copy.identity().unwrap(), None, "whom the store belongs to is not copied");
    drop((ours, theirs));
    store.finish_compactions().unwrap();
    assert_eq!(store.view().logical_bytes(), copy.view().logical_bytes(), "what compaction deletes is left out");
}

#[test]
fn a_snapshot_is_of_the_moment_it_was_begun() {
    let store = filled();
    // It refuses writes, and there are some to come.
    store.execute(Op::Alarm(AlarmRequest { action: 2, member_id: 3, alarm: 2 })).unwrap();
    let before = bytes(&store, 4096);
    let mut snapshot = store.snapshot("9.8.7").unwrap();
    let mut now = snapshot.next_chunk(100).unwrap().unwrap().to_vec();
    store.put(PutRequest { key: "new".into(), ..Default::default() }).unwrap();
    store.delete_range(DeleteRangeRequest { key: "large".into(), ..Default::default() }).unwrap();
    store.compact(store.view().revision()).unwrap();
    while let Some(chunk) = snapshot.next_chunk(100).unwrap() {
        assert!(store.compact_step(2).is_ok());
        now.extend_from_slice(&chunk);
    }
    assert!(now == before);
}

#[test]
fn any_change_of_a_byte_is_an_error() {
    let good = with_trailer(bytes(&filled(), 1 << 20));
    let cases = run::cases("STENTOR_CASES", 300).clamp(1, 5_000);
    for seed in (run::seed()..).take(cases as usize) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut bad = good.clone();
        // More often near the ends, where lengths and counts are.
        let len = bad.len();
        let at = match rng.random_range(0..3) {
            0 => rng.random_range(0..200),
            1 => rng.random_range(len - 600..len),
            _ => rng.random_range(0..len),
        };
        match rng.random_range(0..5) {
            0 => bad.truncate(at),
            1 => drop(bad.remove(at)),
            2 => bad.insert(at, rng.random()),
            3 => bad.extend_from_slice(&good[at..]),
            _ => bad[at] ^= 1 << rng.random_range(0..8),
        }
        if bad == good {
            continue;
        }
        let engine = engine();
        let error = restore(&mut &bad[..], &engine, &TRAILER).expect_err("a changed snapshot was taken in");
        let says = error.to_string();
        assert!(says.contains("fetch it again") || says.contains("use "), "{says}");
        let head_only = matches!(error, RestoreError::Header(_));
        assert_eq!(Store::open(engine, Options::default()).is_ok(), head_only, "seed {seed}: {says}");
    }
}

/// Without the trailer too nothing makes it panic, and frames are checked.
#[test]
fn without_a_trailer_frames_are_still_checked() {
    let good = bytes(&filled(), 1 << 20);
    for at in (0..300).chain((300..good.len()).step_by(3001)).chain(good.len() - 100..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        assert!(restored(&bad, &RestoreOptions::default()).is_err(), "byte {at}");
        assert!(restored(&good[..at], &RestoreOptions::default()).is_err(), "cut at {at}");
    }
    restored(&good, &RestoreOptions::default()).unwrap();
}

/// A reader that fails after some bytes.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::Error::other("the cable is out")),
            len => Ok(len),
        }
    }
}

#[test]
fn an_interrupted_restore_is_no_store() {
    let snapshot = bytes(&filled(), 1 << 20);
    for kept in [snapshot.len() / 3, snapshot.len() - 100] {
        let disk = Disk::new();
        let engine = MemoryEngine::open(&disk).unwrap();
        let error = restore(&mut Failing(&snapshot[..kept]), &engine, &RestoreOptions::default()).unwrap_err();
        assert!(error.to_string().contains("the cable is out"), "{error}");
        drop(engine);
        for crashed in [false, true] {
            if crashed {
                disk.crash();
            }
            let engine = MemoryEngine::open(&disk).unwrap();
            let again = restore(&mut &snapshot[..], &engine, &RestoreOptions::default()).unwrap_err();
            assert!(matches!(again, RestoreError::NotEmpty), "{again}");
            let error = Store::open(engine, Options::default()).err().unwrap();
            assert!(error.to_string().contains("a restore did not come to its end"), "{error}");
        }
    }
}

#[test]
fn only_an_empty_engine_is_filled() {
    let snapshot = bytes(&filled(), 1 << 20);
    let disk = Disk::new();
    let store = Store::open(MemoryEngine::open(&disk).unwrap(), Options::default()).unwrap();
    store.set_identity(&Identity { cluster_id: 7, member_id: 8, has_log: false }).unwrap();
    drop(store);
    // Who it belongs to may be known before.
    let engine = MemoryEngine::open(&disk).unwrap();
    restore(&mut &snapshot[..], &engine, &RestoreOptions::default()).unwrap();
    let again = restore(&mut &snapshot[..], &engine, &RestoreOptions::default()).unwrap_err();
    assert!(matches!(again, RestoreError::NotEmpty), "{again}");
    engine.sync().unwrap();
    let store = Store::open(engine, Options::default()).unwrap();
    assert_eq!(store.identity().unwrap().map(|i| i.cluster_id), Some(7));
}

#[test]
fn a_later_format_is_refused_with_a_clear_line() {
    let error = restored(b"STENTORSNAP2\n....", &RestoreOptions::default()).err().unwrap();
    assert!(matches!(error, RestoreError::Header(HeaderError::TooNew { found: 2, .. })), "{error}");
    assert!(error.to_string().contains("use the version that wrote it"), "{error}");
}

#[test]
fn revisions_can_be_skipped_and_marked_compacted() {
    let snapshot = bytes(&filled(), 1 << 20);
    let applied = LogPosition { term: 0, index: 0 };
    let bump = RestoreOptions {
        bump_revision: 1000,
        mark_compacted: true,
        drop_alarms: true,
        applied: Some(applied),
        ..RestoreOptions::default()
    };
    let (store, done) = restored(&snapshot, &bump).unwrap();
    assert_eq!((done.revision, store.view().revision().get()), (1043, 1043));
    assert_eq!(store.view().compacted().map(Revision::get), Some(1043));
    assert_eq!(store.view().all_alarms().count(), 0);
    assert_eq!(store.view().applied(), applied);
    let at = |revision| {
        let all = RangeRequest { key: "0".into(), range_end: "z".into(), revision, ..Default::default() };
        store.view().range(&all)
    };
    assert_eq!(at(0).unwrap().count, 10);
    assert!(matches!(at(43), Err(stentor_mvcc::Error::Refused(EtcdError::Compacted))));
    store.finish_compactions().unwrap();
    assert_eq!(at(0).unwrap().count, 10);
    let put = store.put(PutRequest { key: "00".into(), prev_kv: true, ..Default::default() }).unwrap();
    assert_eq!(put.header.unwrap().revision, 1044);
    assert_eq!(put.prev_kv.unwrap().version, 4);

    let too_far = RestoreOptions { bump_revision: u64::MAX, ..RestoreOptions::default() };
    let error = restored(&snapshot, &too_far).err().unwrap();
    assert!(matches!(error, RestoreError::Bump { revision: 43, .. }), "{error}");
}
