//! A disk that is full, that fails, or that gives back what was never written.

mod damage;
#[cfg(feature = "rocksdb")]
mod files;
mod reads;
mod writes;

use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_mvcc::{Error, LogPosition, Options, Outcome, Store};
use stentor_proto::etcdserverpb::{PutRequest, RangeRequest};
use stentor_proto::storagepb::{LogEntry, log_entry::Op};

/// A store on a simulated disk.
fn open(disk: &Disk) -> Result<Store, Error> {
    Store::open(MemoryEngine::open(disk).unwrap(), Options::default())
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn everything() -> RangeRequest {
    RangeRequest { key: b"\0"[..].into(), range_end: b"\0"[..].into(), ..RangeRequest::default() }
}

/// All pairs, as `key=value` in one line.
fn content(store: &Store) -> String {
    let found = store.view().range(&everything()).unwrap();
    assert_eq!(found.count, found.kvs.len() as i64);
    let pair =
        |p: &stentor_proto::mvccpb::KeyValue| format!("{}={}", p.key.escape_ascii(), String::from_utf8_lossy(&p.value));
    found.kvs.iter().map(pair).collect::<Vec<_>>().join(" ")
}

/// Applies operations as one group.
fn apply(store: &Store, ops: impl IntoIterator<Item = Op>) -> Result<Vec<Outcome>, Error> {
    let entries: Vec<LogEntry> =
        ops.into_iter().map(|op| LogEntry { time_unix_ms: 1, op: Some(op), ..LogEntry::default() }).collect();
    let index = store.view().applied().index + entries.len() as u64;
    store.apply(&entries, LogPosition { term: 1, index })
}
