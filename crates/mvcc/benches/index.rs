//! What the key index costs by itself: `cargo bench -p stentor-mvcc --no-default-features`.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use stentor_mvcc::ChangeId;
use stentor_mvcc::key_index::{IndexView, KeyIndex};
use stentor_proto::{KeyRange, Revision};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const SIZES: [u64; 2] = [10_000, 1_000_000];
const PAGE: usize = 1_000;

fn main() {
    divan::main();
}

fn key(n: u64) -> String {
    format!("/registry/pods/default/web-{n:016x}")
}

/// Far from the one before, always the same.
fn scattered(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7
}

fn change(n: u64) -> ChangeId {
    ChangeId { revision: Revision::new(n as i64 + 2).unwrap_or_default(), sub: 0 }
}

fn filled(keys: u64) -> KeyIndex {
    let mut index = KeyIndex::new();
    for n in 0..keys {
        index.put(key(n).as_bytes(), change(n));
    }
    index
}

fn newest(view: &IndexView) -> Revision {
    view.newest_revision()
}

#[divan::bench(args = SIZES)]
fn put_again(bencher: Bencher<'_, '_>, keys: u64) {
    let mut index = filled(keys);
    let mut n = keys;
    let next = || {
        n += 1;
        (key(scattered(n) % keys), change(n))
    };
    // Somebody always reads: what is shared with a view is copied.
    bencher.with_inputs(next).bench_local_values(|(key, at)| {
        index.put(key.as_bytes(), at);
        index.view()
    });
}

#[divan::bench(args = SIZES)]
fn get(bencher: Bencher<'_, '_>, keys: u64) {
    let view = filled(keys).view();
    let (at, mut n) = (newest(&view), 0);
    let next = || {
        n += 1;
        key(scattered(n) % keys)
    };
    bencher.with_inputs(next).bench_local_refs(|key| view.get(black_box(key.as_bytes()), at).is_some());
}

#[divan::bench(args = SIZES)]
fn page(bencher: Bencher<'_, '_>, keys: u64) {
    let view = filled(keys).view();
    let (at, mut n) = (newest(&view), 0);
    let next = || {
        n += 1;
        KeyRange::from_key(key(scattered(n) % (keys - PAGE as u64)).into_bytes())
    };
    let page = bencher.counter(ItemsCount::new(PAGE)).with_inputs(next);
    page.bench_local_refs(|range| view.range(range, at).take(PAGE).count());
}

#[divan::bench(args = SIZES)]
fn count(bencher: Bencher<'_, '_>, keys: u64) {
    let view = filled(keys).view();
    let range = KeyRange::prefix("/registry/");
    bencher.bench_local(|| view.count(black_box(&range), newest(&view)));
}
