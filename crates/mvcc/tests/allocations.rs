//! What a write allocates: counts, which no machine changes.

use stentor_mvcc::Store;
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_proto::etcdserverpb::{PutRequest, RangeRequest};

const KEYS: u64 = 1_000;

fn key(n: u64) -> String {
    format!("/registry/pods/default/web-{:08}", n % KEYS)
}

fn put(n: u64) -> PutRequest {
    PutRequest { key: key(n).into(), value: vec![b'v'; 256].into(), ..Default::default() }
}

fn filled() -> Store {
    let store = Store::open(MemoryEngine::open(&Disk::new()).unwrap(), Default::default()).unwrap();
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
    let store = filled();
    let requests: Vec<_> = (0..KEYS).map(|n| Some(put(n * 7))).collect();
    let mut requests = requests.into_iter();
    let each = allocations_each(KEYS, |_| {
        store.put(requests.next().flatten().unwrap()).unwrap();
    });
    assert!((1.0..=MOST_OF_A_PUT).contains(&each), "{each} allocations");
}

#[test]
fn a_get_allocates_a_bounded_number_of_times() {
    let store = filled();
    let view = store.view();
    let requests: Vec<_> = (0..KEYS).map(|n| RangeRequest { key: key(n * 7).into(), ..Default::default() }).collect();
    let each = allocations_each(KEYS, |n| {
        let found = view.range(&requests[n as usize]).unwrap();
        assert_eq!(found.count, 1);
    });
    assert!((1.0..=MOST_OF_A_GET).contains(&each), "{each} allocations");
}

/// The index copies the path to the leaf of a key; the memory engine and the request's encoding have some too.
const MOST_OF_A_PUT: f64 = 50.0;
const MOST_OF_A_GET: f64 = 9.0;
