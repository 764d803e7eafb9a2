//! What a write and a read allocate: counts, which no machine changes. On RocksDB: of the engine in memory,
//! which is made for tests, there is more than of the store.

#![allow(clippy::unwrap_used)]

use stentor_mvcc::Store;
use stentor_mvcc::engine::rocksdb::{Options, RocksDbEngine};
use stentor_proto::etcdserverpb::{PutRequest, RangeRequest};
use tempfile::TempDir;

const KEYS: u64 = 1_000;
/// Among them ten of the index, which copies the nodes on the way to a key since a view may share them.
const MOST_OF_A_PUT: f64 = 26.0;
const MOST_OF_A_GET: f64 = 16.0;

fn key(n: u64) -> String {
    format!("/registry/pods/default/web-{:08}", n % KEYS)
}

fn put(n: u64) -> PutRequest {
    PutRequest { key: key(n).into(), value: vec![b'v'; 256].into(), ..Default::default() }
}

fn filled(directory: &TempDir) -> Store {
    let engine = RocksDbEngine::open(directory.path(), &Options::default()).unwrap();
    let store = Store::open(engine, Default::default()).unwrap();
    for n in 0..2 * KEYS {
        store.put(put(n)).unwrap();
    }
    store
}

/// How often each of so many calls allocates, on average.
fn allocations_each(calls: u64, mut call: impl FnMut(u64)) -> f64 {
    let info = allocation_counter::measure(|| (0..calls).for_each(&mut call));
    info.count_total as f64 / calls as f64
}

#[test]
fn a_put_allocates_a_bounded_number_of_times() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(&directory);
    let requests: Vec<_> = (0..KEYS).map(|n| Some(put(n * 7))).collect();
    let mut requests = requests.into_iter();
    let each = allocations_each(KEYS, |_| {
        store.put(requests.next().flatten().unwrap()).unwrap();
    });
    assert!((1.0..=MOST_OF_A_PUT).contains(&each), "{each} allocations");
}

#[test]
fn a_get_allocates_a_bounded_number_of_times() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(&directory);
    let view = store.view();
    let requests: Vec<_> = (0..KEYS).map(|n| RangeRequest { key: key(n * 7).into(), ..Default::default() }).collect();
    let each = allocations_each(KEYS, |n| {
        let found = view.range(&requests[n as usize]).unwrap();
        assert_eq!(found.count, 1);
    });
    assert!((1.0..=MOST_OF_A_GET).contains(&each), "{each} allocations");
}
