//! What reads cost, in nodes entered, and what keys cost, in bytes.

use stentor_proto::{KeyRange, Revision};

use super::super::reached::{Point, times};
use super::super::{Builder, Found, KeyIndex};
use super::{id, rev};

const KEYS: i64 = 100_000;
/// More than the tree has levels.
const DEPTH: u64 = 6;

/// 40 bytes.
fn key(n: i64) -> Vec<u8> {
    format!("/registry/pods/default/example-{n:09}").into_bytes()
}

/// Every key put once, at revisions from 2 on, in an order that is not theirs.
fn filled() -> KeyIndex {
    let mut index = KeyIndex::new();
    for n in 0..KEYS {
        // A prime that does not divide the number of keys: each comes once.
        index.put(&key(n * 7_919 % KEYS), id(n + 2, 0));
    }
    assert_eq!(index.live_keys(), KEYS as u64);
    index
}

fn entered<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let before = times(Point::NodeEntered);
    let result = run();
    (result, times(Point::NodeEntered) - before)
}

#[test]
fn a_count_enters_the_nodes_at_the_ends_of_its_range() {
    let index = filled();
    let range = KeyRange::interval(key(100), key(KEYS - 100));
    let (count, nodes) = entered(|| index.count(&range, Revision::MAX));
    assert_eq!(count, KEYS as u64 - 200);
    assert!(nodes <= 2 * DEPTH, "{nodes}");
    // The newest 100 keys are spread over all leaves; the log knows them.
    let (count, nodes) = entered(|| index.count(&KeyRange::all(), rev(KEYS + 1 - 100)));
    assert_eq!(count, KEYS as u64 - 100);
    assert!(nodes <= 2 * DEPTH, "{nodes}");
}

#[test]
fn a_page_enters_as_many_nodes_as_it_is_long_whatever_was_deleted() {
    let mut index = filled();
    let before = KEYS + 1;
    let (dead_from, dead_to) = (1_000, KEYS - 1_000);
    for n in dead_from..dead_to {
        index.delete(&key(n), id(before + n, 0)).unwrap();
    }
    let page = |range: &KeyRange, at: Revision, reverse: bool| {
        entered(|| {
            let keys = |(key, _): (&[u8], Found)| key.to_vec();
            let view = &index;
            if reverse {
                view.range_rev(range, at).take(10).map(keys).collect::<Vec<_>>()
            } else {
                view.range(range, at).take(10).map(keys).collect()
            }
        })
    };
    let keys = |from: i64| (from..from + 10).map(key).collect::<Vec<_>>();

    let (found, nodes) = page(&KeyRange::from_key(key(dead_from)), Revision::MAX, false);
    assert_eq!(found, keys(dead_to));
    assert!(nodes <= 2 * DEPTH, "{nodes}");
    let (mut found, nodes) = page(&KeyRange::interval(key(0), key(dead_to)), Revision::MAX, true);
    found.reverse();
    assert_eq!(found, keys(dead_from - 10));
    assert!(nodes <= 2 * DEPTH, "{nodes}");
    // Also at an old revision by which all these were deleted.
    let (found, nodes) = page(&KeyRange::from_key(key(dead_from)), rev(before + dead_to - 1), false);
    assert_eq!(found, keys(dead_to));
    assert!(nodes <= 2 * DEPTH, "{nodes}");
    // And at one before the deletes nothing is skipped.
    let (found, _) = page(&KeyRange::from_key(key(dead_from)), rev(before), false);
    assert_eq!(found, keys(dead_from));
}

#[test]
fn a_page_at_an_old_revision_skips_what_came_later() {
    let mut index = KeyIndex::new();
    index.put(b"a", id(2, 0));
    index.put(b"z", id(3, 0));
    for n in 0..KEYS {
        index.put(&key(n), id(n + 4, 0));
    }
    let (found, nodes) =
        entered(|| index.range(&KeyRange::all(), rev(3)).map(|(key, _)| key.to_vec()).collect::<Vec<_>>());
    assert_eq!(found, [b"a", b"z"]);
    assert!(nodes <= 3 * DEPTH, "{nodes}");
}

#[test]
fn a_key_costs_at_most_250_bytes() {
    let at_random = filled();
    let (mut in_order, mut builder) = (KeyIndex::new(), Builder::new());
    for n in 0..KEYS {
        in_order.put(&key(n), id(n + 2, 0));
    }
    for entry in at_random.entries() {
        let changes: Vec<_> = entry.changes().collect();
        builder.push(entry.key(), &changes, entry.generation()).unwrap();
    }
    for (what, index, most) in
        [("at random", at_random, 120), ("in order", in_order, 120), ("built", builder.finish(), 100)]
    {
        let (tree, all) = (index.root.memory_bytes() as i64 / KEYS, index.memory_bytes() as i64 / KEYS);
        assert!(tree <= most, "{tree} bytes a key, {what}");
        // The log is at its most here in proportion: nearly all keys are in it.
        assert!(all <= 200, "{all} bytes a key with the log, {what}");
    }
}

#[test]
fn mass_deletes_leave_a_small_tree() {
    let mut index = filled();
    let log = index.log.memory_bytes();
    let full = index.memory_bytes() - log;
    let mut revision = KEYS + 2;
    for n in 0..KEYS {
        if n % 50 != 0 {
            index.delete(&key(n), id(revision, 0)).unwrap();
            revision += 1;
        }
    }
    for n in 0..KEYS {
        index.compact_key(&key(n), rev(revision));
    }
    assert_eq!((index.keys(), index.live_keys()), (KEYS as u64 / 50, KEYS as u64 / 50));
    let left = index.root.memory_bytes();
    assert!(left <= full / 35, "{left} bytes are left of {full}");
}

#[test]
fn the_log_is_bounded_by_bytes() {
    let mut index = KeyIndex::new();
    for n in 0..200 {
        let mut key = vec![b'x'; 1 << 20];
        key.extend(key_suffix(n));
        index.put(&key, id(n + 2, 0));
        index.delete(&key, id(n + 2, 1)).unwrap();
        index.compact_key(&key, rev(n + 3));
    }
    assert_eq!(index.keys(), 0);
    let bytes = index.memory_bytes();
    assert!((16 << 20..64 << 20).contains(&bytes), "{bytes}");
}

fn key_suffix(n: i64) -> [u8; 8] {
    n.to_be_bytes()
}
