//! How long a restart takes until the first read, with a checkpoint of the index and without.
//!
//! `cargo run --release -p stentor-mvcc --example restart -- [KEYS] [VALUE-BYTES]`

use std::path::Path;
use std::time::{Duration, Instant};

use stentor_mvcc::engine::Durability;
use stentor_mvcc::engine::rocksdb::{Options as EngineOptions, RocksDbEngine};
use stentor_mvcc::{Error, LogPosition, Options, Store};
use stentor_proto::etcdserverpb::{PutRequest, RangeRequest};
use stentor_proto::storagepb::{LogEntry, log_entry::Op};

/// Changes after the checkpoint: what a crash leaves to read from history.
const TAIL: u64 = 20_000;
const GROUP: usize = 1000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|n| n.parse::<u64>());
    let keys = numbers.next().transpose()?.unwrap_or(1_000_000);
    let bytes = numbers.next().transpose()?.unwrap_or(256) as usize;
    let directory = tempfile::tempdir()?;
    let path = directory.path();
    fill(path, keys, bytes)?;
    for round in 1..=3 {
        println!("without a checkpoint, round {round}: {:.2?}", restart(path, keys)?);
    }
    let store = open(path)?;
    let started = Instant::now();
    store.checkpoint_index()?;
    println!("writing a checkpoint: {:.2?}", started.elapsed());
    write(&store, 0..TAIL.min(keys), bytes)?;
    drop(store);
    for round in 1..=3 {
        println!("with a checkpoint and {TAIL} changes after it, round {round}: {:.2?}", restart(path, keys)?);
    }
    Ok(())
}

fn open(path: &Path) -> Result<Store, Error> {
    // Buffered: only the filling is quicker for it.
    let options = Options { durability: Durability::Buffered, ..Options::default() };
    Store::open(RocksDbEngine::open(path, &EngineOptions::default())?, options)
}

fn key(n: u64) -> String {
    format!("/registry/pods/default/{n:010}")
}

fn fill(path: &Path, keys: u64, bytes: usize) -> Result<(), Error> {
    let store = open(path)?;
    write(&store, 0..keys, bytes)?;
    store.flush()
}

/// Writes values that do not compress well.
fn write(store: &Store, keys: std::ops::Range<u64>, bytes: usize) -> Result<(), Error> {
    let keys: Vec<u64> = keys.collect();
    for group in keys.chunks(GROUP) {
        let entry = |n: &u64| {
            let mut state = *n;
            let mut byte = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            let value: Vec<u8> = (0..bytes).map(|_| byte()).collect();
            let put = PutRequest { key: key(*n).into(), value: value.into(), ..PutRequest::default() };
            LogEntry { time_unix_ms: 1, op: Some(Op::Put(put)), ..LogEntry::default() }
        };
        let entries: Vec<LogEntry> = group.iter().map(entry).collect();
        let index = store.view().applied().index + entries.len() as u64;
        store.apply(&entries, LogPosition { term: 1, index })?;
    }
    Ok(())
}

/// Opens the store and reads one key.
fn restart(path: &Path, keys: u64) -> Result<Duration, Error> {
    let started = Instant::now();
    let store = open(path)?;
    let found = store.view().range(&RangeRequest { key: key(keys / 2).into(), ..RangeRequest::default() })?;
    let elapsed = started.elapsed();
    assert_eq!((found.count, store.view().keys()), (1, keys));
    Ok(elapsed)
}
