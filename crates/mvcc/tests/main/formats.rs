//! What earlier releases wrote is still read: one small data directory and snapshot of each format is
//! kept in `tests/data`. `make_format_1` wrote those of format 1 (`STENTOR_MAKE_DATA=1 cargo test -p
//! stentor-mvcc make_format_1 -- --ignored`); they must never be made anew.

use std::path::{Path, PathBuf};

use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_mvcc::engine::rocksdb::{Options as EngineOptions, RocksDbEngine};
use stentor_mvcc::snapshot::{RestoreOptions, Trailer, restore};
use stentor_mvcc::{AlarmKind, Error, LeaseId, Options, Store, View};
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{
    AlarmRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use stentor_proto::storagepb::{Identity, log_entry::Op};
use stentor_proto::{EtcdError, Revision};

use crate::places::temporary;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn open(path: &Path) -> Result<Store, Error> {
    let options = Options { wall_clock: || 1_800_000_000_000, ..Options::default() };
    Store::open(RocksDbEngine::open(path, &EngineOptions::default())?, options)
}

fn put(store: &Store, key: &str, value: &str, lease: i64) {
    let put = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), lease, ..Default::default() };
    store.put(put).unwrap();
}

fn delete(key: &'static str, range_end: &'static [u8]) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() }
}

fn request(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

#[test]
#[ignore = "makes the data of a release"]
fn make_format_1() {
    if std::env::var_os("STENTOR_MAKE_DATA").is_none() || data("format-1").exists() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = open(scratch.path()).unwrap();
    store.set_identity(&Identity { cluster_id: 0xc1, member_id: 0x4d, has_log: false }).unwrap();
    store.execute(Op::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 })).unwrap();
    store.execute(Op::LeaseGrant(LeaseGrantRequest { id: -9, ttl: 3600 })).unwrap();
    for n in 0..60 {
        put(&store, &format!("key/{:02}", n % 20), &format!("value {n}"), if n % 5 == 0 { 7 } else { 0 });
    }
    store.flush().unwrap();
    store.delete_range(delete("key/03", b"")).unwrap();
    // Two changes of one key in one revision, and at what will be the compacted revision.
    let double = TxnRequest {
        success: vec![
            request(Request::RequestDeleteRange(delete("key/18", b"\0"))),
            request(Request::RequestPut(PutRequest {
                key: "key/18".into(),
                value: "anew".into(),
                ..Default::default()
            })),
        ],
        ..Default::default()
    };
    store.txn(double).unwrap();
    put(&store, "key/00", "after", -9);
    store.compact(Revision::new(40).unwrap()).unwrap();
    store.finish_compactions().unwrap();
    store.compact(Revision::new(63).unwrap()).unwrap();
    // Space work is left half-way.
    store.compact_step(10).unwrap();
    store.checkpoint_index().unwrap();
    put(&store, "later", "not in the checkpoint", 7);
    store.execute(Op::Alarm(AlarmRequest { action: 1, member_id: 0x4d, alarm: 1 })).unwrap();

    let mut bytes = Vec::new();
    let mut snapshot = store.snapshot("0.1.0").unwrap();
    while let Some(chunk) = snapshot.next_chunk(1 << 20).unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    let mut trailer = Trailer::default();
    trailer.update(&bytes);
    bytes.extend(trailer.finish());
    // As a killed process leaves it: tables and a log.
    let directory = data("format-1/data");
    std::fs::create_dir_all(&directory).unwrap();
    copy(scratch.path(), &directory);
    for needless in ["LOG", "LOCK"] {
        let _ = std::fs::remove_file(directory.join(needless));
    }
    std::fs::write(data("format-1/store.snap"), bytes).unwrap();
    println!("{:#?}", facts(&store.view()));
}

/// What is compared, as text.
fn facts(view: &View) -> Vec<String> {
    let mut facts = vec![format!(
        "revision {} compacted {:?} keys {} applied {}",
        view.revision(),
        view.compacted().map(Revision::get),
        view.keys(),
        view.applied().index
    )];
    for revision in [63, 64, 65] {
        facts.push(format!("hash at {revision}: {:08x}", view.hash_kv(revision).unwrap().hash));
    }
    for id in [7, -9] {
        let lease = view.leases().get(LeaseId::new(id).unwrap()).unwrap();
        let keys: Vec<_> = lease.keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        facts.push(format!("lease {id} of {} s: {}", lease.ttl_seconds, keys.join(" ")));
    }
    for key in ["key/00", "key/03", "key/18", "later"] {
        let range = RangeRequest { key: key.into(), ..RangeRequest::default() };
        facts.push(format!("{key}: {:?}", view.range(&range).unwrap().kvs));
    }
    let history = view.history(Revision::new(63).unwrap(), view.revision()).unwrap();
    for record in history.map(Result::unwrap) {
        let before = view.pair_at(record.key(), record.id.revision.previous()).unwrap();
        let before = before.map(|pair| (pair.mod_revision, pair.version));
        let key = String::from_utf8_lossy(record.key()).into_owned();
        facts.push(format!("{} {:?} {key} at {}, before {before:?}", record.id, record.kind, record.time_unix_ms));
    }
    facts
}

const FORMAT_1: &[&str] = &[
    "revision 65 compacted Some(63) keys 19 applied 69",
    "hash at 63: 4e9c9afa",
    "hash at 64: 66bc058b",
    "hash at 65: 2516d487",
    "lease 7 of 60 s: key/05 key/10 key/15 later",
    "lease -9 of 3600 s: key/00",
    "key/00: [KeyValue { key: b\"key/00\", create_revision: 2, mod_revision: 64, version: 4, value: b\"after\", lease: -9 }]",
    "key/03: []",
    "key/18: [KeyValue { key: b\"key/18\", create_revision: 63, mod_revision: 63, version: 1, value: b\"anew\", lease: 0 }]",
    "later: [KeyValue { key: b\"later\", create_revision: 65, mod_revision: 65, version: 1, value: b\"not in the checkpoint\", lease: 7 }]",
    "63/0 Delete key/18 at 1800000000000, before Some((60, 3))",
    "63/1 Delete key/19 at 1800000000000, before Some((61, 3))",
    "63/2 Put key/18 at 1800000000000, before Some((60, 3))",
    "64/0 Put key/00 at 1800000000000, before Some((42, 3))",
    "65/0 Put later at 1800000000000, before None",
];

fn goes_on(store: &Store) {
    assert_eq!(facts(&store.view()), FORMAT_1);
    assert!(store.view().all_alarms().any(|alarm| alarm.kind == AlarmKind::NoSpace && alarm.member_id == 0x4d));
    let refused = PutRequest { key: "new".into(), ..Default::default() };
    assert!(matches!(store.put(refused), Err(Error::Refused(EtcdError::NoSpace))));
    store.execute(Op::Alarm(AlarmRequest { action: 2, member_id: 0x4d, alarm: 1 })).unwrap();
    store.finish_compactions().unwrap();
    assert_eq!(facts(&store.view())[1..], FORMAT_1[1..], "after the space work");
    put(store, "new", "1", 7);
    assert_eq!(store.view().revision().get(), 66);
    store.compact(Revision::new(66).unwrap()).unwrap();
    store.finish_compactions().unwrap();
    assert_eq!(store.view().keys(), 20);
}

#[test]
fn data_of_format_1_is_read_and_written() {
    let directory = temporary();
    copy(&data("format-1/data"), directory.path());
    let store = open(directory.path()).unwrap();
    assert_eq!(store.index_checkpoint(), Revision::new(64), "its checkpoint is used");
    assert_eq!(store.identity().unwrap(), Some(Identity { cluster_id: 0xc1, member_id: 0x4d, has_log: false }));
    goes_on(&store);
    drop(store);
    let store = open(directory.path()).unwrap();
    assert_eq!((store.view().revision().get(), store.view().keys()), (66, 20));
    drop(store);

    // Without its checkpoint it is the same.
    let directory = temporary();
    copy(&data("format-1/data"), directory.path());
    std::fs::remove_file(directory.path().join("STENTOR-INDEX")).unwrap();
    let store = open(directory.path()).unwrap();
    assert_eq!(store.index_checkpoint(), None);
    goes_on(&store);
}

#[test]
fn a_snapshot_of_format_1_is_restored() {
    let engine = MemoryEngine::open(&Disk::new()).unwrap();
    let mut file = std::fs::File::open(data("format-1/store.snap")).unwrap();
    let restored = restore(&mut file, &engine, &RestoreOptions { trailer: true, ..Default::default() }).unwrap();
    assert_eq!((restored.revision, &restored.header.server_version[..]), (65, "0.1.0"));
    goes_on(&Store::open(engine, Options::default()).unwrap());
}

#[test]
fn a_later_format_is_refused_with_a_clear_line() {
    let directory = temporary();
    copy(&data("format-1/data"), directory.path());
    std::fs::write(directory.path().join("FORMAT"), "stentor data format 3\n").unwrap();
    let error = open(directory.path()).err().unwrap().to_string();
    assert!(error.contains("format 3") && error.contains("use the version that wrote it"), "{error}");
}
