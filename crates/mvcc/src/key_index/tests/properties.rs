//! What the interface promises beside the model.

use std::thread;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stentor_proto::{KeyRange, Revision};

use super::super::node::Shape;
use super::super::reached::{Point, times};
use super::super::{BuildError, Builder, Generation, IndexView, KeyChange, KeyIndex, Newest, Placed};
use super::invariants::check;
use super::{SMALL, id, rev};

#[test]
fn views_go_to_other_threads() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<IndexView>();
    shared::<KeyIndex>();
}

#[test]
fn readers_see_their_view_while_the_writer_goes_on() {
    let mut index = KeyIndex::new();
    thread::scope(|scope| {
        for revision in 2..400 {
            index.put(format!("key{}", revision % 97).as_bytes(), id(revision, 0));
            if revision % 3 == 0 {
                index.delete(format!("key{}", revision % 89).as_bytes(), id(revision, 1));
            }
            let (view, live) = (index.view(), index.live_keys());
            scope.spawn(move || {
                let all = KeyRange::all();
                assert_eq!(view.range(&all, rev(revision)).count() as u64, live);
                assert_eq!(view.count(&all, rev(revision)), live);
                assert_eq!(view.newest_revision(), rev(revision));
            });
        }
    });
}

#[test]
fn answers_of_the_writer() {
    let mut index = KeyIndex::new();
    assert_eq!(index.delete(b"k", id(2, 0)), None);
    assert_eq!(index.keys(), 0);
    assert_eq!(index.put(b"k", id(2, 0)), Placed { create: rev(2), version: 1, previous: None });
    assert_eq!(index.put(b"k", id(3, 0)), Placed { create: rev(2), version: 2, previous: Some(id(2, 0)) });
    assert_eq!(index.delete(b"k", id(3, 1)), Some(Newest { change: id(3, 0), create: rev(2), version: 2 }));
    assert_eq!(index.delete(b"k", id(3, 2)), None);
    assert_eq!(index.put(b"k", id(3, 2)), Placed { create: rev(3), version: 1, previous: Some(id(3, 1)) });
    assert_eq!(index.change_at(b"k", rev(2)), Some(KeyChange { id: id(2, 0), tombstone: false }));
    assert_eq!(index.change_at(b"other", Revision::MAX), None);
}

#[test]
fn replay_takes_history_at_its_word() {
    let mut index = KeyIndex::new();
    // A tombstone whose put is compacted.
    assert_eq!(index.replay(b"gone", id(5, 0), None), None);
    assert_eq!((index.keys(), index.live_keys()), (1, 0));
    let generation = Generation { create: rev(2), version: 9 };
    assert_eq!(index.replay(b"k", id(6, 0), Some(generation)), None);
    assert_eq!(index.put(b"k", id(7, 0)), Placed { create: rev(2), version: 10, previous: Some(id(6, 0)) });
}

#[test]
fn nodes_stay_full_while_keys_come_and_go() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut index = KeyIndex::with_limits(SMALL.0, SMALL.1);
    let mut most = 0;
    let long = "-".repeat(SMALL.0.bytes);
    for revision in 2..8_000 {
        // Mostly keys of three to seven bytes, so that nodes are split by number and by bytes, and some that
        // fill a node alone. More come than go for a while, then the other way round.
        let n: u32 = rng.random_range(0..3_000);
        let key = format!("{n:0width$}", width = 3 + n as usize % 5) + if n.is_multiple_of(10) { &long } else { "" };
        if rng.random_bool(if revision / 1_000 % 2 == 0 { 0.85 } else { 0.35 }) {
            index.put(key.as_bytes(), id(revision, 0));
        } else {
            let live = index.range(&KeyRange::from_key(key), Revision::MAX);
            let next: Vec<_> = live.take(2).map(|(key, _)| key.to_vec()).collect();
            for key in next {
                index.delete(&key, id(revision, 0)).unwrap();
                index.compact_key(&key, rev(revision + 1));
            }
        }
        check(&index, &SMALL.0);
        most = most.max(index.keys());
    }
    assert!(most > 200 && index.keys() < most / 4, "{most}, then {}", index.keys());
}

/// A split whose halves both go to their neighbours makes the node above smaller, which then goes to a
/// neighbour of its own.
#[test]
fn a_split_can_merge_nodes_above() {
    let shape = Shape { leaf: 16, inner: 7, bytes: 1 << 10 };
    let key = |leaf: u32, n: u32| format!("{leaf:02}/{n:02}");
    let mut builder = Builder::with_limits(shape, SMALL.1);
    // Two inner nodes of six leaves of 14 keys.
    for leaf in 0..12 {
        for n in 0..14 {
            let change = KeyChange { id: id(2, leaf * 14 + n), tombstone: false };
            let generation = Generation { create: rev(2), version: 1 };
            builder.push(key(leaf, n).as_bytes(), &[change], Some(generation)).unwrap();
        }
    }
    let mut index = builder.finish();
    let mut revision = 2;
    // Three leaves are left of each; of the first the middle one is full, those beside it nearly empty.
    for (leaf, left) in [(0, 4), (2, 3), (3, 0), (4, 0), (5, 0), (9, 0), (10, 0), (11, 0)] {
        for n in left..14 {
            revision += 1;
            index.delete(key(leaf, n).as_bytes(), id(revision, 0)).unwrap();
            index.compact_key(key(leaf, n).as_bytes(), rev(revision + 1));
            check(&index, &shape);
        }
    }
    let merges = times(Point::InnerMerge);
    for key in ["01/05a", "01/05b", "01/05c"] {
        revision += 1;
        assert_eq!(times(Point::InnerMerge), merges);
        index.put(key.as_bytes(), id(revision, 0));
        check(&index, &shape);
    }
    assert_eq!(times(Point::InnerMerge), merges + 1);
    assert_eq!(index.count(&KeyRange::all(), Revision::MAX), 4 + 17 + 3 + 3 * 14);
}

#[test]
fn long_keys_make_a_sound_tree() {
    let mut index = KeyIndex::new();
    let long = |n: u8| [&vec![b'x'; 1 << 20][..], &[n]].concat();
    for n in 0..40 {
        index.put(&long((u32::from(n) * 7 % 40) as u8), id(i64::from(n) * 2 + 2, 0));
        index.put(&[n], id(i64::from(n) * 2 + 3, 0));
        check(&index, &Shape::DEFAULT);
    }
    assert_eq!(index.count(&KeyRange::prefix("x"), Revision::MAX), 40);
    assert_eq!(index.range_rev(&KeyRange::prefix("x"), Revision::MAX).next().unwrap().0, long(39));
    for n in 0..40 {
        index.delete(&long(n), id(1_000 + i64::from(n), 0)).unwrap();
    }
    for n in 0..40 {
        index.compact_key(&long(n), rev(2_000));
        check(&index, &Shape::DEFAULT);
    }
    assert_eq!(index.keys(), 40);
}

#[test]
fn the_builder_refuses_what_no_index_holds() {
    let put = |revision| KeyChange { id: id(revision, 0), tombstone: false };
    let deleted = |revision| KeyChange { id: id(revision, 0), tombstone: true };
    let life = |create, version| Some(Generation { create: rev(create), version });

    let mut builder = Builder::new();
    builder.push(b"b", &[put(4), put(2)], life(2, 2)).unwrap();
    assert_eq!(builder.push(b"b", &[put(5)], life(5, 1)), Err(BuildError::KeyOrder));
    assert_eq!(builder.push(b"a", &[put(5)], life(5, 1)), Err(BuildError::KeyOrder));
    assert_eq!(builder.push(b"c", &[], None), Err(BuildError::ChangeOrder));
    assert_eq!(builder.push(b"c", &[put(2), put(4)], life(2, 2)), Err(BuildError::ChangeOrder));
    assert_eq!(builder.push(b"c", &[put(2), put(2)], life(2, 2)), Err(BuildError::ChangeOrder));
    assert_eq!(builder.push(b"c", &[put(2)], None), Err(BuildError::Generation));
    assert_eq!(builder.push(b"c", &[put(2)], life(3, 1)), Err(BuildError::Generation));
    assert_eq!(builder.push(b"c", &[put(2)], life(2, 0)), Err(BuildError::Generation));
    assert_eq!(builder.push(b"c", &[deleted(3), put(2)], life(2, 1)), Err(BuildError::Generation));
    builder.push(b"c", &[deleted(3), put(2)], None).unwrap();

    let index = builder.finish();
    assert_eq!((index.keys(), index.live_keys(), index.newest_revision()), (2, 1, rev(4)));
    // The log begins with the build: what is older is scanned.
    assert_eq!(index.count(&KeyRange::all(), rev(2)), 2);
}

#[test]
fn the_empty_key_is_in_entries_and_in_no_protocol_range() {
    let mut index = KeyIndex::new();
    index.put(b"", id(2, 0));
    index.put(b"\0", id(3, 0));
    assert_eq!(index.entries().count(), 2);
    assert_eq!(index.count(&KeyRange::all(), Revision::MAX), 1);
    assert_eq!(index.count(&KeyRange::key(""), Revision::MAX), 1);
    assert!(index.get(b"", Revision::MAX).is_some());
}
