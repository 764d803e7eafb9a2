//! Random runs of a lane against a model of the servers. Whatever happens, each watcher's history is the
//! store's from its start on, or ends with the error that is due. The runs count what they reached, so that
//! a change which makes them tame is seen.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::lane::Counters;
use super::model::{self, DENIED, Store, Stream};
use super::progress::ProgressOptions;
use super::*;
use crate::backoff::Backoff;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::random::Random;
use crate::watch::buffer::{Buffer, Wants};
use crate::watch::item::{Event, WatchItem};
use crate::{KeyRange, Revision};

/// What the runs came across.
#[derive(Debug, Default)]
struct Reached(BTreeMap<&'static str, u64>);

impl Reached {
    fn count(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    fn counters(&mut self, counters: &Counters) {
        self.count("breaks", counters.breaks);
        self.count("resumes", counters.resumes);
        self.count("events below the cursor", counters.stale_events);
        self.count("full buffers", counters.overflows);
        self.count("revisions torn by a break", counters.torn_revisions);
        self.count("notes not trusted", counters.untrusted_notes);
        self.count("notes that moved a cursor", counters.notes);
        self.count("streams given up as silent", counters.silent_streams);
    }
}

/// The program's side of a watch.
struct Program {
    range: KeyRange,
    buffer: Buffer,
    /// Where the store was when it asked.
    asked_at: i64,
    /// The next revision it is owed; 0 until it knows where "now" was.
    next: i64,
    refreshed: bool,
    /// It was given changes that the store has lost since.
    stays_with_old: bool,
}

struct Run {
    random: Random,
    now: Instant,
    store: Store,
    lane: Lane,
    stream: Option<Stream>,
    /// The lane wants a stream.
    opening: bool,
    reads: VecDeque<(u64, Bytes)>,
    refused: Vec<(WatcherId, Watcher)>,
    programs: BTreeMap<WatcherId, Program>,
    ids: WatcherId,
    /// The store before it was replaced.
    before: Option<Store>,
    /// It was replaced: by another cluster, or by one of the same name that is behind.
    replaced: Option<bool>,
    reached: Reached,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::seeded(seed);
        let progress = ProgressOptions { interval: Duration::from_secs(3), patience: Duration::from_secs(1) };
        let options = LaneOptions { backoff: Backoff::default(), progress, has_credentials: true };
        let lane = Lane::new(options, random.fork());
        Run {
            random,
            now: Instant::now(),
            store: Store::new(),
            lane,
            stream: None,
            opening: false,
            reads: VecDeque::new(),
            refused: Vec::new(),
            programs: BTreeMap::new(),
            ids: 0,
            before: None,
            replaced: None,
            reached: Reached::default(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next() % bound
    }

    fn watch(&mut self) {
        let ranges = [KeyRange::all(), KeyRange::segment("a"), KeyRange::key("b"), KeyRange::prefix("b")];
        let range = match self.below(12) {
            0 => KeyRange::key(DENIED),
            1 => KeyRange::interval("b", "a"),
            n => ranges[n as usize % ranges.len()].clone(),
        };
        let current = self.store.current();
        let somewhere = 1 + self.below(current as u64) as i64;
        let (start, next) = match self.below(5) {
            0 => (Start::From(Revision::new(somewhere).unwrap()), somewhere),
            1 => (Start::After(Revision::new(somewhere).unwrap()), somewhere + 1),
            2 => {
                self.reached.count("starts in the future", 1);
                let start = current + 1 + self.below(6) as i64;
                (Start::From(Revision::new(start).unwrap()), start)
            }
            _ => (Start::Now, 0),
        };
        let fragment = self.below(2) == 0;
        let spec =
            Spec { range: range.clone(), start, prev_kv: false, skip_puts: false, skip_deletes: false, fragment };
        let buffer = Buffer::new(600 + self.below(3000) as usize, Wants { progress: true, notices: true });
        self.ids += 1;
        self.lane.add(self.ids, Watcher::new(spec, buffer.clone()), self.now);
        let (refreshed, stays_with_old) = (false, false);
        let program = Program { range, buffer, asked_at: current, next, refreshed, stays_with_old };
        self.programs.insert(self.ids, program);
    }

    /// Does what the lane wants.
    fn act(&mut self) {
        while let Some(action) = self.lane.next_action() {
            match action {
                Action::Open => {
                    assert!(self.stream.is_none() && !self.opening, "two streams at once");
                    self.opening = true;
                }
                Action::Close => (self.stream, self.opening) = (None, false),
                Action::Send(request) => {
                    if let Some(stream) = &mut self.stream {
                        stream.request(&self.store, request);
                    }
                }
                Action::Read { number, key } => self.reads.push_back((number, key)),
                Action::Refused(id, watcher, _) => {
                    if let Some(program) = self.programs.get_mut(&id) {
                        program.refreshed = true;
                    }
                    self.refused.push((id, *watcher));
                }
            }
        }
    }

    fn open(&mut self) {
        if !std::mem::take(&mut self.opening) {
            return;
        }
        if self.below(4) == 0 {
            return self.lane.broke(Error::new(ErrorKind::Unavailable), self.now);
        }
        let lag = self.below(4) as i64;
        let version = ["3.4.20", "3.5.7", "3.5.9", "3.7.0", "?"][self.below(5) as usize];
        let version = ServerVersion::parse(version);
        let mut stream = Stream::new(version, (self.store.current() - lag).max(1));
        stream.dead = self.below(12) == 0;
        self.stream = Some(stream);
        self.lane.opened(Endpoint::parse("a:1").unwrap(), self.now);
        if self.below(4) > 0 {
            self.lane.version(version);
        }
    }

    fn break_stream(&mut self) {
        if self.stream.take().is_some() {
            self.lane.broke(Error::new(ErrorKind::Unavailable), self.now);
        }
    }

    fn leave_stream(&mut self) {
        if self.lane.leave(self.now) {
            self.reached.count("moves", 1);
        }
    }

    fn read(&mut self) {
        let Some((number, key)) = self.reads.pop_front() else { return };
        if !model::may_read(&key) {
            return self.lane.read_failed(number, &Error::new(ErrorKind::PermissionDenied), self.now);
        }
        if self.below(5) == 0 {
            self.reached.count("reads failed", 1);
            return self.lane.read_failed(number, &Error::new(ErrorKind::Unavailable), self.now);
        }
        let current = self.store.current();
        self.lane.read_done(number, Revision::new(current).unwrap(), self.store.cluster, self.now);
        // Those that waited to know where "now" is know it.
        for program in self.programs.values_mut().filter(|program| program.next == 0) {
            if let Some(position) = program.buffer.position() {
                // Of a store that was replaced before the first read, nothing was seen.
                let earliest = if self.replaced.is_some() { 0 } else { program.asked_at };
                assert!((earliest..=current).contains(&position.get()), "another now: {position}");
                program.next = position.get() + 1;
            }
        }
    }

    fn receive(&mut self) {
        let response = self.stream.as_mut().filter(|stream| !stream.dead).and_then(|stream| stream.out.pop_front());
        if let Some(response) = response {
            self.lane.received(response, self.now);
        }
    }

    /// One program takes one item.
    fn take(&mut self, id: WatcherId) -> bool {
        let Some(program) = self.programs.get_mut(&id) else { return false };
        let Poll::Ready(taken) = program.buffer.poll_next(&mut Context::from_waker(Waker::noop())) else {
            return false;
        };
        match taken.item {
            Some(Ok(WatchItem::Events(batch))) => {
                self.reached.count("events", batch.events().len() as u64);
                program.takes(&self.store, self.before.as_ref(), batch.events(), batch.revision().get());
            }
            Some(Ok(WatchItem::Progress(revision))) => {
                program.takes(&self.store, self.before.as_ref(), &[], revision.get());
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => self.ends(id, &error),
            None => panic!("ended without an error"),
        }
        if taken.drained {
            self.reached.count("buffers drained", 1);
            self.lane.drained(id, self.now);
        }
        true
    }

    /// Each end is one that was due.
    fn ends(&mut self, id: WatcherId, error: &Error) {
        let program = self.programs.remove(&id).unwrap();
        let what = match error.kind() {
            ErrorKind::Compacted { at } => {
                assert!(program.next < at.get(), "{} is not compacted at {at}", program.next);
                "compactions met"
            }
            ErrorKind::HistoryReset { .. } => match self.replaced {
                Some(true) => "histories replaced, by cluster",
                Some(false) => "histories replaced, by revision",
                None => panic!("nothing was replaced: {error}"),
            },
            ErrorKind::PermissionDenied => {
                assert_eq!(program.range, KeyRange::key(DENIED), "{error}");
                "denied"
            }
            ErrorKind::InvalidArgument => {
                assert_eq!(program.range, KeyRange::interval("b", "a"), "{error}");
                "empty ranges"
            }
            other => panic!("ended with {other:?}: {error}"),
        };
        self.reached.count(what, 1);
    }

    /// Another store takes the place of this one.
    fn replace(&mut self) {
        let restored = self.store.restored();
        self.before = Some(std::mem::replace(&mut self.store, restored));
        let by_cluster = self.below(2) == 0;
        if by_cluster {
            self.store.cluster += 1;
        }
        self.replaced = Some(by_cluster);
        self.break_stream();
    }

    fn step(&mut self) {
        let pause_ms = self.below(40);
        self.now += Duration::from_millis(pause_ms);
        match self.below(40) {
            0 if self.programs.len() < 40 => self.watch(),
            // A store that is behind and grows past what was seen cannot be told from the old one.
            1..=4 if self.replaced != Some(false) => self.store.write(&mut self.random),
            5 if self.below(20) == 0 => self.store.compacted = (self.store.current() - self.below(4) as i64).max(0),
            6 if self.below(3) == 0 => self.break_stream(),
            6 if self.below(4) == 0 => self.leave_stream(),
            7 if self.below(3) == 0 => self.now += Duration::from_secs(3),
            8 => self.forget_one(),
            9..=10 => self.open(),
            11..=13 => self.read(),
            14..=15 => self.refresh(),
            16..=23 => self.receive(),
            24..=27 => {
                let chosen = self.below(self.programs.len().max(1) as u64) as usize;
                if let Some(id) = self.programs.keys().nth(chosen).copied() {
                    self.take(id);
                }
            }
            n => self.serve(n),
        }
        self.settle();
    }

    /// The server does something.
    fn serve(&mut self, what: u64) {
        let (store, random) = (&self.store, &mut self.random);
        // A token that goes bad before it was of any use is as bad as none.
        let fresh = self.lane.watchers.values().any(|watcher| watcher.refreshed);
        let Some(stream) = &mut self.stream else { return };
        match what {
            28 => stream.note(store),
            29 => stream.repeat(store),
            30 => stream.answer_progress(store),
            31 if !fresh && random.next().is_multiple_of(4) => stream.token_good = false,
            32..=34 => stream.applied = (stream.applied + 1).min(store.current()),
            _ => stream.deliver(store, random),
        }
    }

    fn settle(&mut self) {
        self.lane.tick(self.now);
        self.act();
    }

    /// Watchers that were refused get a stream with a fresh token: here, the same lane with a new stream.
    fn refresh(&mut self) {
        if self.refused.is_empty() {
            return;
        }
        self.break_stream();
        self.act();
        for (id, watcher) in std::mem::take(&mut self.refused) {
            if self.programs.contains_key(&id) {
                self.lane.add(id, watcher, self.now);
            }
        }
    }

    fn forget_one(&mut self) {
        if self.programs.len() > 10 {
            let chosen = self.below(self.programs.len() as u64) as usize;
            let id = *self.programs.keys().nth(chosen).unwrap();
            self.programs.remove(&id).unwrap().buffer.abandon();
            self.lane.remove(id);
            self.reached.count("watches dropped", 1);
        }
    }

    /// Everything heals, and every watcher that is left gets all there is.
    fn finish(mut self) -> Reached {
        for round in 0.. {
            assert!(round < 3000, "no end: {:?}", self.lane);
            self.now += Duration::from_millis(50);
            self.settle();
            self.refresh();
            self.open();
            self.read();
            let mut busy = false;
            if let Some(stream) = &mut self.stream {
                (stream.dead, stream.token_good) = (false, true);
                busy |= stream.catch_up(&self.store);
                stream.deliver(&self.store, &mut self.random);
            }
            while self.stream.as_ref().is_some_and(|stream| !stream.out.is_empty()) {
                busy = true;
                self.receive();
                self.settle();
            }
            let ids: Vec<_> = self.programs.keys().copied().collect();
            for id in ids {
                while self.take(id) {
                    busy = true;
                }
            }
            self.settle();
            let waits = !self.refused.is_empty() || !self.reads.is_empty() || self.opening;
            let done = |stream: &Stream| stream.out.is_empty() && stream.watchers() == self.programs.len();
            if !busy && !waits && (self.programs.is_empty() || self.stream.as_ref().is_some_and(done)) {
                break;
            }
        }
        let current = self.store.current();
        for program in self.programs.values_mut() {
            program.takes(&self.store, None, &[], current);
            self.reached.count("saved by a fresh token", u64::from(program.refreshed));
        }
        self.reached.counters(&self.lane.counters);
        self.reached
    }
}

impl Program {
    /// It is told that these are all changes up to `revision`, of this store or of the one before it.
    fn takes(&mut self, store: &Store, before: Option<&Store>, events: &[Event], revision: i64) {
        assert!(self.next > 0, "something came before it was known where now is");
        let given: Vec<_> = events.iter().map(|event| (event.kv().key().clone(), event.kv().value().clone())).collect();
        let now = self.due(store, revision);
        let old = before.map(|before| self.due(before, revision));
        if given != now {
            assert_eq!(Some(given), old, "not what happened from {} to {revision}: {now:?}", self.next);
            self.stays_with_old = true;
        } else if old.is_some_and(|old| old != now) {
            assert!(!self.stays_with_old, "the changes of two histories are mixed");
        }
        self.next = self.next.max(revision + 1);
    }

    fn due(&self, store: &Store, until: i64) -> Vec<(Bytes, Bytes)> {
        let events = (self.next..=until).flat_map(|at| store.events(self.range.covering(), at));
        let pairs = events.filter_map(|event| event.kv).map(|kv| (kv.key, kv.value));
        pairs.filter(|(key, _)| self.range.contains(key)).collect()
    }
}

fn run(seed: u64, replace: bool) -> Reached {
    let mut run = Run::new(seed);
    let replaced_at = 400 + run.below(1600);
    for step in 0..2000 {
        if replace && step == replaced_at {
            run.replace();
        }
        run.step();
    }
    run.finish()
}

/// etcd 15248, too: what a note covers is not asked for again, and nothing comes twice.
#[test]
fn every_history_is_the_stores_or_ends_with_what_is_due() {
    let mut all = Reached::default();
    for seed in 0..400 {
        for (what, times) in run(seed, seed % 4 == 0).0 {
            all.count(what, times);
        }
    }
    println!("{all:#?}");
    for (what, least) in [
        ("events", 10_000),
        ("breaks", 1000),
        ("moves", 500),
        ("resumes", 1000),
        ("events below the cursor", 100),
        ("full buffers", 100),
        ("buffers drained", 100),
        ("revisions torn by a break", 50),
        ("notes not trusted", 50),
        ("notes that moved a cursor", 100),
        ("streams given up as silent", 50),
        ("compactions met", 50),
        ("histories replaced, by revision", 20),
        ("histories replaced, by cluster", 20),
        ("denied", 100),
        ("empty ranges", 50),
        ("saved by a fresh token", 20),
        ("watches dropped", 20),
        ("starts in the future", 100),
        ("reads failed", 100),
    ] {
        let times = all.0.get(what).copied().unwrap_or_default();
        assert!(times >= least, "{what}: only {times} in all runs");
    }
}
