//! What operations take, printed: `cargo test --release -p stentor-mvcc --no-default-features --
//! --ignored --nocapture key_index_timings`.

use std::hint::black_box;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use stentor_proto::{KeyRange, Revision};

use super::super::{Builder, KeyChange, KeyIndex};
use super::{id, rev};

const KEYS: i64 = 1_000_000;

#[test]
#[ignore = "prints timings; meant for release builds"]
fn key_index_timings() {
    let mut rng = StdRng::seed_from_u64(1);
    let sorted: Vec<Vec<u8>> = (0..KEYS).map(key).collect();
    let mut shuffled = sorted.clone();
    shuffled.shuffle(&mut rng);

    let mut index = KeyIndex::new();
    timed("put, 1M new keys in order", KEYS, || {
        for (n, key) in sorted.iter().enumerate() {
            index.put(key, id(n as i64 + 2, 0));
        }
    });
    memory("in order", &index);

    let mut index = KeyIndex::new();
    timed("put, 1M new keys at random", KEYS, || {
        for (n, key) in shuffled.iter().enumerate() {
            index.put(key, id(n as i64 + 2, 0));
        }
    });
    memory("at random", &index);
    reads(&index, &shuffled, &mut rng);
    let log = KEYS + 1;
    for back in [1, 10, 1_000, 100_000, 120_000, 500_000] {
        let range = KeyRange::prefix("/registry/pods/");
        timed(&format!("count of all, {back} new keys ago"), 20, || {
            for _ in 0..20 {
                black_box(index.count(&range, rev(log - back)));
            }
        });
    }
    rebuild(&index);

    let mut revision = KEYS + 1;
    let mut views = Vec::new();
    timed("put of a random key with a view taken after each", 100_000, || {
        for key in &shuffled[..100_000] {
            revision += 1;
            index.put(key, id(revision, 0));
            views.clear();
            views.push(index.view());
        }
    });
    timed("put of a random key in batches of 100 with a view each", 100_000, || {
        for (n, key) in shuffled[..100_000].iter().enumerate() {
            revision += 1;
            index.put(key, id(revision, 0));
            if n % 100 == 0 {
                views.clear();
                views.push(index.view());
            }
        }
    });
    views.clear();
    timed("put of a random key, no views", 100_000, || {
        for key in &shuffled[..100_000] {
            revision += 1;
            index.put(key, id(revision, 0));
        }
    });
    timed("10,000 puts of one key with a view taken after each", 10_000, || {
        for _ in 0..10_000 {
            revision += 1;
            index.put(&shuffled[0], id(revision, 0));
            views.clear();
            views.push(index.view());
        }
    });
    timed("get of that key at an old revision", 10_000, || {
        for _ in 0..10_000 {
            black_box(index.get(&shuffled[0], rev(rng.random_range(revision - 10_000..revision))));
        }
    });
    views.clear();
    deletes(index, &sorted, &shuffled, revision);
}

fn reads(index: &KeyIndex, keys: &[Vec<u8>], rng: &mut StdRng) {
    timed("get of a random key", KEYS, || {
        for key in keys {
            black_box(index.get(key, Revision::MAX));
        }
    });
    let ranges: Vec<KeyRange> = (0..10_000)
        .map(|_| {
            let (a, b) = (rng.random_range(0..KEYS), rng.random_range(0..KEYS));
            KeyRange::interval(key(a.min(b)), key(a.max(b)))
        })
        .collect();
    timed("count of a random interval", 10_000, || {
        for range in &ranges {
            black_box(index.count(range, Revision::MAX));
        }
    });
    timed("page of 500 keys, per page", 10_000, || {
        for range in &ranges {
            black_box(index.range(range, Revision::MAX).take(500).count());
        }
    });
    timed("the same pages at an old revision, per page", 10_000, || {
        for range in &ranges {
            black_box(index.range(range, rev(KEYS / 2)).take(500).count());
        }
    });
}

fn rebuild(index: &KeyIndex) {
    let entries: Vec<(Vec<u8>, Vec<KeyChange>, _)> =
        index.entries().map(|entry| (entry.key().to_vec(), entry.changes().collect(), entry.generation())).collect();
    let mut built = None;
    timed("build from sorted keys", KEYS, || {
        let mut builder = Builder::new();
        for (key, changes, generation) in &entries {
            builder.push(key, changes, *generation).unwrap();
        }
        built = Some(builder.finish());
    });
    memory("built", &built.unwrap());
}

fn deletes(mut index: KeyIndex, sorted: &[Vec<u8>], shuffled: &[Vec<u8>], mut revision: i64) {
    let before = revision;
    timed("delete of all but 100 keys, in order", KEYS, || {
        for key in &sorted[..sorted.len() - 100] {
            revision += 1;
            index.delete(key, id(revision, 0)).unwrap();
        }
    });
    timed("page of 100 keys after a million tombstones", 1_000, || {
        for _ in 0..1_000 {
            assert_eq!(index.range(&KeyRange::all(), Revision::MAX).take(100).count(), 100);
        }
    });
    timed("count before the deletes (scan)", 1, || {
        assert_eq!(index.count(&KeyRange::all(), rev(before)), KEYS as u64);
    });
    memory("of tombstones", &index);
    timed("compact_key of all, at random", KEYS, || {
        for key in shuffled {
            index.compact_key(key, rev(revision + 1));
        }
    });
    assert_eq!(index.keys(), 100);
    memory("after compaction", &index);
}

/// 42 bytes, as Kubernetes names its objects.
fn key(n: i64) -> Vec<u8> {
    format!("/registry/pods/default/deployment-{n:08}").into_bytes()
}

fn timed(what: &str, times: i64, run: impl FnOnce()) {
    let begin = Instant::now();
    run();
    let took = begin.elapsed();
    println!("{what:60} {:>9.0} ns each, {took:.1?} in all", took.as_nanos() as f64 / times as f64);
}

fn memory(what: &str, index: &KeyIndex) {
    let bytes = index.memory_bytes();
    println!("{what:60} {:>9} bytes a key, {bytes} in all", bytes as u64 / index.keys().max(1));
}
