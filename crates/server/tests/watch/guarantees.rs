//! Every guarantee at once, by chance: writers, compaction, watchers of every kind on streams that are read
//! late, cancels, progress, and streams that break and are resumed.
//!
//! What the ledgers check as it comes (W1, W4, W6, W7, W11) is completed at the end of a run: each watcher has
//! what an observer of everything has, no more and no less (W2, W3, W5, W8), or was told of the compaction
//! (W9). The observer is checked against the answers to reads. Each run has a seed: `STENTOR_SEED` is the
//! first, and there are 20 of them, or a 200th of `STENTOR_CASES`.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{RangeRequest, WatchCreateRequest};
use stentor_proto::mvccpb::{Event, KeyValue};
use tokio::time::timeout;

use super::client::{Watching, everything, with_prev_kv};
use super::ledger::{Seen, is_put, revision_of};
use super::writes::{Writer, delete_of, put_of};
use crate::harness::Rig;

const KEYS: [&str; 7] = ["a", "a/1", "a/2", "b", "b/1", "c", "z"];
const ENDS: [&str; 6] = ["", "", "\0", "a0", "b0", "d"];
const STREAMS: usize = 3;
const FLAGS: [&str; 2] = ["--max-request-bytes=100000", "--watch-progress-notify-interval=150ms"];

/// What a test of enough runs must come by.
#[derive(Debug, Default)]
struct Reached {
    events: usize,
    previous: usize,
    fragments: usize,
    notes: usize,
    compacted: usize,
    cancelled: usize,
    resumed: usize,
    refused: usize,
}

/// A watcher as its user knows it, over all streams that it was on.
struct Followed {
    request: WatchCreateRequest,
    stream: usize,
    id: i64,
    /// Of the first of them.
    start: i64,
    /// Before the stream that it is on now.
    carried: Vec<Event>,
}

impl Followed {
    /// The next revision it needs, as clients count it.
    fn next(&self, seen: &Seen) -> i64 {
        seen.start().max(seen.last() + 1).max(seen.noted + 1)
    }
}

struct Run {
    rig: Rig,
    random: StdRng,
    writer: Writer,
    observer: Watching,
    streams: Vec<Watching>,
    followed: Vec<Followed>,
    reached: Reached,
}

impl Run {
    async fn start(seed: u64) -> Run {
        let rig = Rig::start(&FLAGS).await;
        let mut observer = Watching::open(rig.channel()).await;
        observer.watch(with_prev_kv(everything())).await;
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            streams.push(Watching::open(rig.channel()).await);
        }
        let (writer, random) = (Writer::new(&rig), StdRng::seed_from_u64(seed));
        Run { rig, random, writer, observer, streams, followed: Vec::new(), reached: Reached::default() }
    }

    async fn step(&mut self) {
        let stream = self.random.random_range(0..STREAMS);
        match self.random.random_range(0..100) {
            0..40 => self.write().await,
            40..42 => self.write_large().await,
            42..60 => self.create(stream).await,
            60..84 => self.read(stream, 6).await,
            84..88 => self.cancel(stream),
            88..94 => self.streams[stream].progress(),
            94..96 => self.compact().await,
            96..98 => self.resume(stream).await,
            _ => drop(timeout(std::time::Duration::from_millis(200), std::future::pending::<()>()).await),
        }
    }

    fn key(&mut self) -> &'static str {
        KEYS[self.random.random_range(0..KEYS.len())]
    }

    async fn write(&mut self) {
        let (key, other) = (self.key(), self.key());
        let value = vec![b'v'; self.random.random_range(0..3_000)];
        match self.random.random_range(0..8) {
            0..4 => drop(self.writer.put(key, value).await),
            4 => drop(self.writer.delete(key, "").await),
            5 => drop(self.writer.delete("a", "b").await),
            6 => {
                let puts = KEYS.map(|key| Request::RequestPut(put_of(key, "all")));
                self.writer.txn(puts).await;
            }
            // Two changes of one key in one revision.
            _ => {
                let delete = Request::RequestDeleteRange(delete_of(key, "\0"));
                let again = Request::RequestPut(put_of(if other > key { other } else { key }, value));
                self.writer.txn([delete, again]).await;
            }
        }
        self.observe().await;
    }

    /// Many keys, then their delete: one revision that with previous values is larger than any request.
    async fn write_large(&mut self) {
        let value = Bytes::from(vec![b'v'; 10_000]);
        self.writer.fill((0..80).map(|n| (format!("b/{n:02}"), value.clone()))).await;
        self.writer.delete("b/", "b0").await;
        self.observe().await;
    }

    /// The observer is up to date before anything can be compacted.
    async fn observe(&mut self) {
        let newest = self.rig.revision();
        if newest > 1 {
            self.observer.until_revision(0, newest).await;
        }
    }

    async fn create(&mut self, stream: usize) {
        let newest = self.rig.revision();
        let random = &mut self.random;
        let request = WatchCreateRequest {
            key: KEYS[random.random_range(0..KEYS.len())].into(),
            range_end: ENDS[random.random_range(0..ENDS.len())].into(),
            start_revision: match random.random_range(0..10) {
                0..3 => 0,
                3..7 => random.random_range(1..=newest),
                7 => newest + 1,
                8 => newest + random.random_range(2..8),
                _ => random.random_range(-1..=newest),
            },
            progress_notify: random.random_bool(0.3),
            filters: [vec![], vec![], vec![0], vec![1], vec![0, 1]][random.random_range(0..5)].clone(),
            prev_kv: random.random_bool(0.5),
            watch_id: 0,
            fragment: random.random_bool(0.5),
        };
        self.follow(stream, request, None, Vec::new()).await;
    }

    /// Creates a watcher, or goes on with one that began at `start`, and reads on to its answer.
    async fn follow(&mut self, stream: usize, request: WatchCreateRequest, start: Option<i64>, carried: Vec<Event>) {
        self.streams[stream].create(request.clone());
        loop {
            let response = self.streams[stream].response().await;
            if response.created && response.canceled {
                self.reached.refused += 1;
                return;
            }
            if response.created {
                let id = response.watch_id;
                let start = start.unwrap_or_else(|| self.streams[stream].seen(id).start());
                self.followed.push(Followed { request, stream, id, start, carried });
                return;
            }
        }
    }

    /// Reads up to so many responses, as long as there are some.
    async fn read(&mut self, stream: usize, most: usize) {
        for _ in 0..self.random.random_range(1..=most) {
            if timeout(std::time::Duration::from_millis(1), self.streams[stream].next()).await.is_err() {
                return;
            }
        }
    }

    fn cancel(&mut self, stream: usize) {
        let here: Vec<i64> = self.followed.iter().filter(|f| f.stream == stream).map(|f| f.id).collect();
        if !here.is_empty() {
            let id = here[self.random.random_range(0..here.len())];
            self.streams[stream].cancel(id);
        }
    }

    async fn compact(&mut self) {
        let newest = self.rig.revision();
        let compacted = self.rig.member.node.store.view().compacted().map_or(0, |revision| revision.get());
        let revision = newest - self.random.random_range(0..6);
        if revision > compacted {
            self.writer.compact(revision).await;
        }
    }

    /// Breaks a stream and goes on with its watchers on another, as a client does.
    async fn resume(&mut self, stream: usize) {
        let broken = std::mem::replace(&mut self.streams[stream], Watching::open(self.rig.channel()).await);
        let (gone, others) = std::mem::take(&mut self.followed).into_iter().partition(|f| f.stream == stream);
        self.followed = others;
        let gone: Vec<Followed> = gone;
        for mut followed in gone {
            let seen = &broken.ledger.watchers[&followed.id];
            if seen.cancel.is_some() {
                self.check(&followed, seen);
                continue;
            }
            let next = followed.next(seen);
            // Half of a fragmented response is no event yet.
            let whole = if broken.ledger.is_amid_fragments_of(followed.id) { seen.last() } else { i64::MAX };
            followed.carried.extend(seen.events.iter().filter(|event| revision_of(event) < whole).cloned());
            let start_revision = if whole == i64::MAX { next } else { whole };
            let request = WatchCreateRequest { start_revision, ..followed.request };
            self.follow(stream, request, Some(followed.start), followed.carried).await;
            self.reached.resumed += 1;
        }
    }

    /// What a watcher got in all against what the observer saw.
    fn check(&mut self, followed: &Followed, seen: &Seen) {
        let mut got = followed.carried.clone();
        got.extend(seen.events.iter().cloned());
        self.reached.events += got.len();
        self.reached.previous += got.iter().filter(|event| event.prev_kv.is_some()).count();
        self.reached.notes += usize::from(seen.noted > 0);
        // As if it had been one from its first start on.
        let owed = seen.owed_from(&self.observer.seen(0).events, followed.start);
        match &seen.cancel {
            None => assert!(got == owed, "{} of {} events of {:?}", got.len(), owed.len(), seen.request),
            Some(cancel) => {
                assert!(owed.starts_with(&got), "{:?} lost something before its cancel", seen.request);
                self.reached.cancelled += 1;
                if cancel.compact_revision != 0 {
                    let next = followed.next(seen);
                    assert!(next < cancel.compact_revision, "it needs {next}: {cancel:?}");
                    self.reached.compacted += 1;
                }
            }
        }
    }

    async fn finish(mut self) -> Reached {
        self.rig.put("end", "").await;
        // Past every start in the future, for which progress would wait.
        for _ in 0..8 {
            self.rig.put("end", "").await;
        }
        self.observe().await;
        for stream in 0..STREAMS {
            let is_live = |seen: &Seen| seen.cancel.is_none();
            while self.streams[stream].ledger.watchers.values().any(is_live) {
                self.streams[stream].progress();
                let answer = timeout(std::time::Duration::from_secs(1), self.streams[stream].next());
                if let Ok(response) = answer.await
                    && response.unwrap().watch_id != super::ledger::NOBODY
                {
                    continue;
                }
                let newest = self.rig.revision();
                let mut live = self.streams[stream].ledger.watchers.values().filter(|seen| is_live(seen));
                if live.all(|seen| seen.noted == newest) {
                    break;
                }
            }
            self.reached.fragments += self.streams[stream].ledger.fragments;
        }
        let streams = std::mem::take(&mut self.streams);
        for followed in std::mem::take(&mut self.followed) {
            self.check(&followed, &streams[followed.stream].ledger.watchers[&followed.id]);
        }
        self.check_observer().await;
        self.reached
    }

    /// Its events make what reads find, each revision has some, and previous values are those of before.
    async fn check_observer(&mut self) {
        let mut pairs: BTreeMap<Bytes, KeyValue> = BTreeMap::new();
        let mut before = pairs.clone();
        let mut revision = 1;
        for event in &self.observer.seen(0).events {
            let kv = event.kv.as_ref().unwrap();
            if kv.mod_revision != revision {
                assert_eq!(kv.mod_revision, revision + 1, "a revision without events");
                (revision, before) = (kv.mod_revision, pairs.clone());
            }
            let creation = is_put(event) && kv.create_revision == kv.mod_revision;
            let previous = before.get(&kv.key).filter(|_| !creation);
            assert_eq!(event.prev_kv.as_ref(), previous, "previous value at {revision}");
            if is_put(event) {
                pairs.insert(kv.key.clone(), kv.clone())
            } else {
                pairs.remove(&kv.key)
            };
        }
        assert_eq!(revision, self.rig.revision());
        let all = RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..RangeRequest::default() };
        let found = self.rig.kv().range(all).await.unwrap().into_inner().kvs;
        assert!(found.into_iter().eq(pairs.into_values()), "what reads find is not what events made");
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// etcd 15248, too: a watcher that is resumed behind a note gets nothing twice.
#[tokio::test(start_paused = true)]
async fn every_guarantee_holds_whatever_happens() {
    let (cases, first) = ((number("STENTOR_CASES", 4_000) / 200).max(1), number("STENTOR_SEED", 1));
    let mut all = Reached::default();
    for seed in first..first + cases {
        println!("replay with STENTOR_CASES=200 STENTOR_SEED={seed}");
        let mut run = Run::start(seed).await;
        for _ in 0..run.random.random_range(30..150) {
            run.step().await;
        }
        let reached = run.finish().await;
        all.events += reached.events;
        all.previous += reached.previous;
        all.fragments += reached.fragments;
        all.notes += reached.notes;
        all.compacted += reached.compacted;
        all.cancelled += reached.cancelled;
        all.resumed += reached.resumed;
        all.refused += reached.refused;
    }
    println!("{cases} runs reached {all:?}");
    if cases >= 20 {
        let Reached { events, previous, fragments, notes, compacted, cancelled, resumed, refused } = all;
        for (what, count) in [
            ("events", events),
            ("previous values", previous),
            ("fragments", fragments),
            ("watchers with notes", notes),
            ("compaction cancels", compacted),
            ("cancels", cancelled),
            ("resumed watchers", resumed),
            ("refusals", refused),
        ] {
            assert!(count >= 5, "only {count} {what}");
        }
    }
}
