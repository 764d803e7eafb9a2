//! Random changes, compactions and views, compared with the model after each. `STENTOR_CASES` sets the
//! number of cases, `STENTOR_SEED` the first one's seed.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use stentor_proto::{KeyRange, Revision};

use super::super::log::LogLimits;
use super::super::node::Shape;
use super::super::reached::{POINTS, times};
use super::super::{Builder, Found, IndexView, KeyChange, KeyIndex};
use super::invariants::check;
use super::model::Model;
use super::{SMALL, id, rev};

const DEFAULT_CASES: u64 = 200;

#[test]
fn agrees_with_the_model() {
    let number = |name, default| std::env::var(name).map_or(default, |n| n.parse::<u64>().unwrap());
    let (cases, first) = (number("STENTOR_CASES", DEFAULT_CASES), number("STENTOR_SEED", 0));
    let mut seen = Seen::default();
    for seed in first..first + cases {
        let mut case = Case::new(seed);
        case.run(&mut seen);
    }
    // Fewer are for replaying one that failed.
    if cases >= DEFAULT_CASES {
        for point in POINTS {
            assert!(times(point) > 0, "{point:?} was never reached");
        }
        assert!(seen.all(), "{seen:?}");
    }
}

/// What the cases came by that the index itself does not know of.
#[derive(Debug, Default)]
struct Seen {
    new_generations: u64,
    put_after_delete_in_one_revision: u64,
    delete_after_put_in_one_revision: u64,
    keys_compacted_away: u64,
    tombstones_kept: u64,
    old_views: u64,
    taken_back: u64,
    rebuilt: u64,
}

impl Seen {
    fn all(&self) -> bool {
        let Seen { new_generations, put_after_delete_in_one_revision, delete_after_put_in_one_revision, .. } = self;
        let Seen { keys_compacted_away, tombstones_kept, old_views, taken_back, rebuilt, .. } = self;
        [
            new_generations,
            put_after_delete_in_one_revision,
            delete_after_put_in_one_revision,
            keys_compacted_away,
            tombstones_kept,
            old_views,
            taken_back,
            rebuilt,
        ]
        .into_iter()
        .all(|&times| times > 0)
    }
}

/// What a view must show for ever.
struct Kept {
    view: IndexView,
    model: Model,
    revision: i64,
    compacted: i64,
}

struct Case {
    rng: StdRng,
    seed: u64,
    index: KeyIndex,
    model: Model,
    /// The newest revision.
    revision: i64,
    compacted: i64,
    kept: Vec<Kept>,
    pool: Vec<Vec<u8>>,
    limits: (Shape, LogLimits),
    /// How often a change is a delete.
    deletes: f64,
}

impl Case {
    fn new(seed: u64) -> Case {
        let mut rng = StdRng::seed_from_u64(seed);
        let size = *[3, 30, 300].choose(&mut rng).unwrap();
        let pool = (0..size).map(|_| key(&mut rng)).collect();
        let deletes = rng.random_range(0.1..0.6);
        // The small ones reach far more; those in use are to work as well.
        let limits = if seed % 8 == 7 { (Shape::DEFAULT, LogLimits::DEFAULT) } else { SMALL };
        let (index, model) = (KeyIndex::with_limits(limits.0, limits.1), Model::default());
        Case { rng, seed, index, model, revision: 1, compacted: 0, kept: vec![], pool, limits, deletes }
    }

    fn run(&mut self, seen: &mut Seen) {
        for _ in 0..self.rng.random_range(10..150) {
            match self.rng.random_range(0..100) {
                0..70 => self.transaction(seen),
                70..74 => self.compact(seen),
                74..78 => self.keep(),
                78..80 => self.rebuild(seen),
                80..83 => self.take_back(seen),
                _ => self.read(),
            }
            check(&self.index, &self.limits.0);
        }
        self.read_everything();
        for kept in std::mem::take(&mut self.kept) {
            (self.revision, self.compacted, self.model) = (kept.revision, kept.compacted, kept.model);
            check(&kept.view, &self.limits.0);
            for _ in 0..10 {
                self.compare_read(&kept.view);
            }
            seen.old_views += 1;
        }
    }

    /// Changes within one revision.
    fn transaction(&mut self, seen: &mut Seen) {
        self.revision += 1;
        // Mostly few, at times a whole prefix, so that subtrees of tombstones come to be.
        if self.rng.random_bool(0.1) {
            return self.delete_range();
        }
        let mut sub = 0;
        for _ in 0..self.rng.random_range(1..4) {
            let key = self.pool.choose(&mut self.rng).unwrap().clone();
            for _ in 0..self.rng.random_range(1..4) {
                let at = id(self.revision, sub);
                let before = self.model.keys.get(&key).and_then(|changes| changes.last()).copied();
                let same_revision = before.is_some_and(|before| before.id.revision == at.revision);
                let live = before.is_some_and(|before| before.generation.is_some());
                if self.rng.random_bool(self.deletes) {
                    let deleted = self.index.delete(&key, at);
                    assert_eq!(deleted, self.model.delete(&key, at), "seed {}", self.seed);
                    seen.delete_after_put_in_one_revision += u64::from(same_revision && live);
                    sub += u32::from(deleted.is_some());
                } else {
                    assert_eq!(self.index.put(&key, at), self.model.put(&key, at), "seed {}", self.seed);
                    seen.new_generations += u64::from(before.is_some() && !live);
                    seen.put_after_delete_in_one_revision += u64::from(same_revision && !live);
                    sub += 1;
                }
            }
        }
    }

    fn delete_range(&mut self) {
        let range = self.any_range();
        let live = self.model.range(&range, Revision::MAX);
        for (sub, (key, ..)) in live.into_iter().enumerate() {
            let at = id(self.revision, sub as u32);
            assert_eq!(self.index.delete(&key, at), self.model.delete(&key, at), "seed {}", self.seed);
        }
    }

    /// Compacts some or all keys at a revision; some keys twice.
    fn compact(&mut self, seen: &mut Seen) {
        self.compacted = self.rng.random_range(self.compacted..=self.revision);
        let compact = rev(self.compacted);
        let before = self.index.keys();
        let mut keys: Vec<Vec<u8>> = self.model.keys.keys().cloned().collect();
        if self.rng.random_bool(0.3) {
            keys.retain(|_| self.rng.random_bool(0.5));
        }
        for key in keys {
            self.model.compact_key(&key, compact);
            self.index.compact_key(&key, compact);
            if self.rng.random_bool(0.1) {
                self.index.compact_key(&key, compact);
            }
            if self.rng.random_bool(0.2) {
                check(&self.index, &self.limits.0);
            }
            let last = self.model.change_at(&key, compact);
            seen.tombstones_kept += u64::from(last.is_some_and(|last| last.generation.is_none()));
        }
        seen.keys_compacted_away += before - self.index.keys();
        self.read_everything();
    }

    fn keep(&mut self) {
        let (view, model) = (self.index.view(), self.model.clone());
        self.kept.push(Kept { view, model, revision: self.revision, compacted: self.compacted });
    }

    /// As a failed batch: what was done since the copy is undone.
    fn take_back(&mut self, seen: &mut Seen) {
        let (saved, model, revision) = (self.index.clone(), self.model.clone(), self.revision);
        for _ in 0..self.rng.random_range(1..20) {
            self.transaction(seen);
        }
        (self.index, self.model, self.revision) = (saved, model, revision);
        seen.taken_back += 1;
        self.read_everything();
    }

    /// As a restart: from the entries, or by replaying the changes in order.
    fn rebuild(&mut self, seen: &mut Seen) {
        self.read_everything();
        self.index = if self.rng.random() { self.rebuilt_from_entries() } else { self.rebuilt_from_changes() };
        seen.rebuilt += 1;
        self.read_everything();
    }

    fn rebuilt_from_entries(&self) -> KeyIndex {
        let mut builder = Builder::with_limits(self.limits.0, self.limits.1);
        for entry in self.index.entries() {
            let changes: Vec<KeyChange> = entry.changes().collect();
            builder.push(entry.key(), &changes, entry.generation()).unwrap();
        }
        builder.finish()
    }

    fn rebuilt_from_changes(&self) -> KeyIndex {
        let mut index = KeyIndex::with_limits(self.limits.0, self.limits.1);
        let keys = self.model.keys.iter();
        let mut all: Vec<_> = keys.flat_map(|(key, changes)| changes.iter().map(move |c| (c, key))).collect();
        all.sort_by_key(|(change, _)| change.id);
        for (change, key) in all {
            let before = self.model.keys[key].iter().rev().find(|before| before.id < change.id);
            assert_eq!(index.replay(key, change.id, change.generation), before.map(|before| before.id));
        }
        index
    }

    fn read(&mut self) {
        let view = self.index.view();
        self.compare_read(&view);
    }

    /// The newest state and the structure as a whole, and some reads.
    fn read_everything(&mut self) {
        let entries = self.index.entries().map(|e| (e.key().to_vec(), e.changes().collect(), e.generation()));
        assert_eq!(entries.collect::<Vec<_>>(), self.model.entries(), "seed {}", self.seed);
        for _ in 0..5 {
            self.read();
        }
    }

    /// One random read of each kind.
    fn compare_read(&mut self, view: &IndexView) {
        // Reads just below the compacted revision work too: it is what a watch from there needs.
        let lowest = (self.compacted - 1).max(0);
        let at = rev(self.rng.random_range(lowest..=self.revision + 1));
        let range = self.any_range();
        let context = || format!("seed {} range {range:?} at {at}", self.seed);

        let expected = self.model.range(&range, at);
        let found = |(key, found): (&[u8], Found)| (key.to_vec(), found.change, found.newest);
        assert_eq!(view.range(&range, at).map(found).collect::<Vec<_>>(), expected, "{}", context());
        let mut backwards: Vec<_> = view.range_rev(&range, at).map(found).collect();
        backwards.reverse();
        assert_eq!(backwards, expected, "{}", context());
        assert_eq!(view.count(&range, at), expected.len() as u64, "{}", context());
        let with_tombstones = self.model.keys.keys().filter(|key| range.contains(key)).count();
        assert_eq!(view.entries_in(&range).count(), with_tombstones, "{}", context());

        let key = self.pool.choose(&mut self.rng).unwrap();
        let expected = self.model.range(&KeyRange::key(key.clone()), at).pop();
        let got = view.get(key, at).map(|f| (key.clone(), f.change, f.newest));
        assert_eq!(got, expected, "seed {} key {key:?} at {at}", self.seed);
        let expected = self.model.change_at(key, at);
        let expected = expected.map(|c| KeyChange { id: c.id, tombstone: c.generation.is_none() });
        assert_eq!(view.change_at(key, at), expected, "seed {} key {key:?} at {at}", self.seed);
        let live = self.model.keys.values().filter(|c| c.last().unwrap().generation.is_some()).count();
        assert_eq!((view.keys(), view.live_keys()), (self.model.keys.len() as u64, live as u64));
    }

    fn any_range(&mut self) -> KeyRange {
        let mut any = || {
            if self.rng.random_bool(0.8) {
                self.pool.choose(&mut self.rng).unwrap().clone()
            } else {
                key(&mut self.rng)
            }
        };
        let (a, b) = (any(), any());
        match self.rng.random_range(0..6) {
            0 => KeyRange::key(a),
            1 => KeyRange::from_key(a),
            2 => KeyRange::all(),
            3 => KeyRange::prefix(a[..a.len().min(2)].to_vec()),
            4 => KeyRange::interval(a.clone().min(b.clone()), a.max(b)),
            // As likely as not the wrong way round.
            _ => KeyRange::interval(a, b),
        }
    }
}

/// Mostly short keys of few letters, with common prefixes; some fill a node alone.
fn key(rng: &mut StdRng) -> Vec<u8> {
    let len = match rng.random_range(0..40) {
        0 => rng.random_range(60..200),
        1..10 => rng.random_range(8..20),
        _ => rng.random_range(1..6),
    };
    let letters = [0, b'a', b'b', b'c', 0xff];
    (0..len).map(|_| *letters.choose(rng).unwrap()).collect()
}
