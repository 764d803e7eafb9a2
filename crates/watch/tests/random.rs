//! Writers, watchers of every kind, slow readers, compaction and restarts, by chance.
//!
//! `STENTOR_CASES` sets the number of runs, `STENTOR_SEED` the first seed.

use std::env;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use stentor_proto::etcdserverpb::WatchCreateRequest;
use stentor_watch::{HubOptions, StreamOptions};

use crate::model::Write;
use crate::run::{Reached, Run};

const KEYS: [&str; 8] = ["a", "a/1", "a/2", "b", "b/1", "c", "d", "z"];
const ENDS: [&str; 6] = ["", "", "\0", "a0", "b0", "d"];

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn every_guarantee_holds_whatever_happens() {
    let (cases, first) = (number("STENTOR_CASES", 600), number("STENTOR_SEED", 1));
    let mut all = Reached::default();
    for seed in first..first + cases {
        let mut run = one(seed);
        run.drain_all();
        if let Err(broken) = run.check(true) {
            panic!("{broken}\nreplay with STENTOR_CASES=1 STENTOR_SEED={seed}");
        }
        all.add(&run.reached);
    }
    println!("{cases} runs reached {all:?}");
    if cases >= 100 {
        all.assert_everything();
    }
}

/// One run; some of it is checked on the way.
fn one(seed: u64) -> Run {
    let random = &mut SmallRng::seed_from_u64(seed);
    let pick = |random: &mut SmallRng, from: &[usize]| from[random.random_range(0..from.len())];
    let options = HubOptions {
        recent_bytes: pick(random, &[0, 400, 2000, 100_000]),
        cache_bytes: pick(random, &[0, 1000, 1 << 20]),
        chunk_bytes: pick(random, &[1, 300, 2000, 1 << 20]),
    };
    let stream_options = StreamOptions {
        fragment_bytes: pick(random, &[150, 400, 2 << 20]),
        response_bytes: pick(random, &[1, 200, 1 << 20]),
        ..StreamOptions::default()
    };
    let mut run = Run::new(options, stream_options);
    let clients = random.random_range(1..=3);
    for _ in 0..clients {
        let client = run.client();
        // Some take whole responses, some a few bytes at a time.
        run.clients[client].inlet.room = pick(random, &[0, 0, 7, 60, 1000]);
    }
    let wild = random.random_bool(0.3);
    for step in 0..random.random_range(20..150) {
        act(&mut run, random, wild);
        if step % 16 == 0 {
            run.count_states();
        }
    }
    run.check(false).unwrap_or_else(|broken| panic!("{broken}\nreplay with STENTOR_CASES=1 STENTOR_SEED={seed}"));
    run
}

fn act(run: &mut Run, random: &mut SmallRng, wild: bool) {
    let client = random.random_range(0..run.clients.len());
    match random.random_range(0..100) {
        0..25 => {
            let writes = writes(random);
            run.write(&writes);
        }
        // More than a stream is told of one by one.
        25 if random.random_bool(0.3) => (0..80).for_each(|_| run.write(&writes(random))),
        25..35 => {
            let group: Vec<Vec<Write>> = (0..random.random_range(1..6)).map(|_| writes(random)).collect();
            run.write_group(&group);
        }
        35..50 => {
            let request = create(run, random);
            run.create(client, request);
        }
        50..80 => {
            for _ in 0..random.random_range(1..12) {
                run.step(client);
            }
        }
        80..84 => {
            let stream = &mut run.clients[client];
            let id = stream.live.keys().copied().min().unwrap_or(7);
            stream.stream.cancel(id);
        }
        84..88 => run.clients[client].stream.request_progress(),
        88..91 => run.clients[client].stream.tick(),
        91..94 => {
            let newest = run.model.revision();
            let back = random.random_range(0..=newest.min(if wild { 3 } else { 30 }));
            run.compact(newest - back);
        }
        94..96 => drop(run.store.compact_step(random.random_range(1..20)).unwrap()),
        96..98 => run.break_stream(client),
        98 => run.reopen(),
        _ => run.drain(client),
    }
}

fn writes(random: &mut SmallRng) -> Vec<Write> {
    let key = |random: &mut SmallRng| KEYS[random.random_range(0..KEYS.len())].to_owned();
    let value = |random: &mut SmallRng| "v".repeat(random.random_range(0..60));
    match random.random_range(0..10) {
        0..5 => vec![Write::Put(key(random), value(random))],
        5..7 => vec![Write::Delete(key(random), String::new())],
        7 => vec![Write::Delete("a".into(), "c".into()), Write::Put("z".into(), value(random))],
        // Two changes of one key in one revision.
        8 if random.random() => vec![Write::Delete("b".into(), "\0".into()), Write::Put("b".into(), value(random))],
        8 => vec![Write::Put("d".into(), value(random)), Write::Delete("b".into(), "\0".into())],
        _ => KEYS.iter().map(|key| Write::Put((*key).into(), value(random))).collect(),
    }
}

fn create(run: &Run, random: &mut SmallRng) -> WatchCreateRequest {
    let newest = run.model.revision();
    let filters: &[i32] = [&[][..], &[], &[], &[], &[0], &[1], &[0, 1], &[9]][random.random_range(0..8)];
    WatchCreateRequest {
        key: KEYS[random.random_range(0..KEYS.len())].into(),
        range_end: ENDS[random.random_range(0..ENDS.len())].into(),
        start_revision: match random.random_range(0..10) {
            0..3 => 0,
            3..7 => random.random_range(1..=newest),
            7 => newest + 1,
            8 => newest + random.random_range(2..10),
            _ => random.random_range(-1..=newest),
        },
        progress_notify: random.random_bool(0.3),
        filters: filters.into(),
        prev_kv: random.random_bool(0.4),
        // Not -1: responses for the whole stream bear it.
        watch_id: if random.random_bool(0.1) { [-3, -2, 1, 2, 3, 5, 8][random.random_range(0..7)] } else { 0 },
        fragment: random.random_bool(0.4),
    }
}

impl Reached {
    fn add(&mut self, other: &Reached) {
        self.events += other.events;
        self.previous += other.previous;
        self.fragments += other.fragments;
        self.notes += other.notes;
        self.notes_for_all += other.notes_for_all;
        self.compacted += other.compacted;
        self.compacted_while_live += other.compacted_while_live;
        self.refused += other.refused;
        self.cancelled += other.cancelled;
        self.reads += other.reads;
        self.resumed += other.resumed;
        self.unsynced += other.unsynced;
        self.victims += other.victims;
        self.pieces += other.pieces;
        self.broken += other.broken;
    }

    /// A run of many cases that misses one of these tests less than it says.
    fn assert_everything(&self) {
        let all = [
            ("events", self.events),
            ("previous values", self.previous),
            ("fragments", self.fragments),
            ("notes", self.notes),
            ("notes for all", self.notes_for_all),
            ("compaction cancels", self.compacted),
            ("compaction cancels of watchers under way", self.compacted_while_live),
            ("refusals", self.refused),
            ("cancels", self.cancelled),
            ("reads of history", self.reads),
            ("resumed watchers", self.resumed),
            ("unsynced watchers", self.unsynced),
            ("victims", self.victims),
            ("pieces of responses", self.pieces),
        ];
        for (what, count) in all {
            assert!(count >= 20, "only {count} {what}");
        }
    }
}
