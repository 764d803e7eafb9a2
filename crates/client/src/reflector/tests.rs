//! Random runs of the copy against a naive one. Whatever is listed, changed and restored, the copy is the
//! store's state at its revision, and what a subscriber builds from its snapshot and its changes is too,
//! however slow it is. The runs count what they reached, so that a change which makes them tame is seen.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use stentor_proto::mvccpb;

use super::change::{Change, Changes, SubscriptionItem};
use super::entry::{Entry, Slot};
use super::relist::{OutOfOrder, Relist};
use super::status::State;
use super::store::{Op, Store, SubscriberId};
use crate::error::{Error, ErrorKind};
use crate::random::Random;
use crate::{KeyValue, Revision};

/// A value with this in it means nothing.
const NONSENSE: &str = "x";

type Value = Entry<u64>;
type Pairs = BTreeMap<Bytes, KeyValue>;

fn decode(pair: &KeyValue) -> Slot<Value> {
    let decoded = pair.value_str().unwrap().parse::<u64>().map_err(Into::into);
    Slot::decoded(pair.clone(), decoded)
}

fn is_good(pair: &KeyValue) -> bool {
    pair.value_str() != Some(NONSENSE)
}

fn revision(n: i64) -> Revision {
    Revision::new(n).unwrap()
}

fn pair(key: &str, value: &str, modified: i64) -> KeyValue {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    mvccpb::KeyValue { key, value, create_revision: modified, mod_revision: modified, version: 1, lease: 0 }.into()
}

/// The store that is copied: its state at each revision from the first on.
struct Origin(Vec<Pairs>);

impl Origin {
    fn current(&self) -> i64 {
        self.0.len() as i64
    }

    fn at(&self, revision: i64) -> &Pairs {
        &self.0[revision as usize - 1]
    }

    /// One revision more, that changes up to `most` of so many keys.
    fn write(&mut self, random: &mut Random, keys: u64, most: u64) {
        let revision = self.current() + 1;
        let mut pairs = self.at(self.current()).clone();
        for _ in 0..random.next() % (most + 1) {
            let key = format!("{:03}", random.next() % keys);
            match random.next() % 8 {
                0..3 => drop(pairs.remove(key.as_bytes())),
                3 => drop(pairs.insert(key.clone().into(), pair(&key, NONSENSE, revision))),
                _ => {
                    let value = (random.next() % 1000).to_string();
                    pairs.insert(key.clone().into(), pair(&key, &value, revision));
                }
            }
        }
        self.0.push(pairs);
    }

    /// What a watch says of a revision.
    fn events(&self, at: i64) -> Vec<Op<Value>> {
        let (before, now) = (self.at(at - 1), self.at(at));
        let gone = before.keys().filter(|key| !now.contains_key(*key)).map(|key| Op::Delete(key.clone()));
        let put = now.values().filter(|pair| before.get(pair.key()) != Some(pair)).map(|pair| Op::Put(decode(pair)));
        gone.chain(put).collect()
    }
}

/// What a subscriber has.
struct Subscriber {
    id: SubscriberId,
    has: Pairs,
    /// It was told that it fell behind, and not yet by how much.
    lagged: bool,
    /// How often, of a hundred chances, it takes what waits.
    diligence: u64,
}

struct Run {
    random: Random,
    keys: u64,
    limit: usize,
    origin: Origin,
    store: Store<Value>,
    /// The store's state that the copy should be; the copy has had no list yet if there is none.
    copied: Pairs,
    subscribers: Vec<Subscriber>,
    reached: BTreeMap<&'static str, u64>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::seeded(seed);
        let (keys, limit) = (3 + random.next() % 40, 1 + (random.next() % 30) as usize);
        let origin = Origin(vec![Pairs::new()]);
        let (store, copied, subscribers) = (Store::new(), Pairs::new(), Vec::new());
        Run { random, keys, limit, origin, store, copied, subscribers, reached: BTreeMap::new() }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next() % bound
    }

    fn count(&mut self, what: &'static str, times: usize) {
        *self.reached.entry(what).or_default() += times as u64;
    }

    fn step(&mut self) {
        match self.below(100) {
            0..40 => {
                let most = if self.below(10) == 0 { self.keys } else { 3 };
                self.origin.write(&mut self.random, self.keys, most);
            }
            40..60 => self.follow(),
            60..64 => self.list(),
            64 => self.restore(),
            65..70 if self.subscribers.len() < 5 => self.subscribe(),
            70..72 => self.unsubscribe(),
            _ => self.take(),
        }
        self.check_copy();
        self.check_memory();
    }

    /// A watch delivers some revisions, and perhaps a note.
    fn follow(&mut self) {
        if self.store.revision() == Revision::ZERO {
            return;
        }
        let until = (self.store.revision().get() + self.below(8) as i64).min(self.origin.current());
        for at in self.store.revision().get() + 1..=until {
            let ops = self.origin.events(at);
            // A watch does not mention revisions that changed nothing.
            if !ops.is_empty() {
                self.store.apply(revision(at), ops);
                self.count("revisions from a watch", 1);
            }
        }
        // Once more what it had.
        if until > 1 && self.below(3) == 0 {
            self.store.apply(revision(until - 1).min(self.store.revision()), self.origin.events(until));
        }
        self.store.progress(revision(until));
        self.copied = self.origin.at(until).clone();
    }

    /// The list is read page by page, if it does not break off.
    fn list(&mut self) {
        let now = self.origin.at(self.origin.current()).clone();
        let all: Vec<_> = now.values().cloned().collect();
        let page = 1 + self.below(10) as usize;
        let mut relist = Relist::new();
        for page in all.chunks(page) {
            let differs = relist.page(&self.store, page.to_vec()).unwrap();
            let had = |pair: &KeyValue| self.copied.get(pair.key()) == Some(pair);
            assert!(differs.iter().all(|pair| !had(pair)), "decodes what has not changed");
            let unchanged = page.iter().filter(|pair| had(pair)).count();
            self.count("pairs of a list that had not changed", unchanged);
            relist.put(differs.iter().map(decode));
            self.check_copy();
            if self.below(20) == 0 {
                self.count("lists that broke off", 1);
                return;
            }
        }
        let gone = self.copied.keys().filter(|key| !now.contains_key(*key)).count();
        let before = self.store.revision();
        self.store.relist(relist, revision(self.origin.current()));
        self.count("keys that a list lacks", gone);
        self.count("lists", 1);
        self.count("lists of another history", usize::from(self.store.revision() < before));
        self.copied = now;
    }

    /// The store goes back in time, to write another history. The watch ends, so a list comes next.
    fn restore(&mut self) {
        let back_to = 1 + self.below(self.origin.current() as u64) as usize;
        self.origin.0.truncate(back_to);
        for _ in 0..self.below(4) {
            self.origin.write(&mut self.random, self.keys, 3);
        }
        let lists = *self.reached.get("lists").unwrap_or(&0);
        while *self.reached.get("lists").unwrap_or(&0) == lists {
            self.list();
        }
    }

    fn subscribe(&mut self) {
        let (id, snapshot) = self.store.subscribe(self.limit);
        assert_eq!(snapshot.revision(), self.store.revision());
        let has: Pairs = snapshot.iter().map(|entry| (entry.pair().key().clone(), entry.pair().clone())).collect();
        assert_eq!(has, self.good());
        let diligence = [1, 20, 90][self.below(3) as usize];
        self.subscribers.push(Subscriber { id, has, lagged: false, diligence });
        self.count("subscriptions", 1);
    }

    fn unsubscribe(&mut self) {
        if !self.subscribers.is_empty() {
            let which = self.below(self.subscribers.len() as u64) as usize;
            let id = self.subscribers.swap_remove(which).id;
            self.store.unsubscribe(id);
            assert!(self.store.ring(id).is_none());
        }
    }

    fn take(&mut self) {
        for which in 0..self.subscribers.len() {
            if self.below(100) < self.subscribers[which].diligence {
                for _ in 0..1 + self.below(3) {
                    self.take_one(which);
                }
            }
        }
    }

    /// False if nothing waits.
    fn take_one(&mut self, which: usize) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let subscriber = &mut self.subscribers[which];
        let Poll::Ready(item) = self.store.poll_take(subscriber.id, &mut cx) else {
            // It has all there is.
            assert!(!subscriber.lagged);
            assert_eq!(self.subscribers[which].has, self.good());
            return false;
        };
        match item.unwrap().unwrap() {
            SubscriptionItem::Lagged { changes } => {
                assert!(!std::mem::replace(&mut subscriber.lagged, true), "told twice");
                assert!(changes > 0);
                self.count("subscribers that fell behind", 1);
            }
            SubscriptionItem::Changes(changes) => self.check_changes(which, &changes),
        }
        true
    }

    fn check_changes(&mut self, which: usize, changes: &Changes<Value>) {
        let subscriber = &mut self.subscribers[which];
        let caught_up = std::mem::take(&mut subscriber.lagged);
        assert!(!caught_up || changes.is_difference());
        assert!(caught_up || !changes.is_empty());
        let removed_until = changes.iter().position(|change| !matches!(change, Change::Removed(_)));
        let (removed, rest) = changes.changes().split_at(removed_until.unwrap_or(changes.changes().len()));
        if changes.is_difference() {
            assert!(rest.iter().all(|change| !matches!(change, Change::Removed(_))), "what is gone comes first");
            assert!(removed.is_sorted_by_key(|change| change.key()) && rest.is_sorted_by_key(|change| change.key()));
        }
        for change in changes {
            let old = subscriber.has.remove(change.key());
            assert_eq!(change.before().map(|old| old.pair()), old.as_ref(), "what the subscriber had");
            let new = change.after().map(|new| new.pair().clone());
            assert_ne!(new, old, "announces what has not changed");
            if let Some(new) = new {
                assert_eq!(new.value_str(), Some(change.after().unwrap().value().to_string().as_str()));
                subscriber.has.insert(new.key().clone(), new);
            }
        }
        let has = subscriber.has.clone();
        if caught_up {
            assert_eq!(changes.revision(), self.store.revision());
            assert_eq!(has, self.good());
        }
        self.count("differences with removals and others", usize::from(!removed.is_empty() && !rest.is_empty()));
        self.count("empty differences", usize::from(changes.is_empty()));
        self.count("revisions larger than a ring", usize::from(!caught_up && changes.changes().len() > self.limit));
    }

    fn good(&self) -> Pairs {
        self.copied.clone().into_iter().filter(|(_, pair)| is_good(pair)).collect()
    }

    fn check_copy(&mut self) {
        let good = self.good();
        assert_eq!(self.store.len(), good.len());
        assert_eq!(self.store.snapshot().len(), good.len());
        assert!(self.store.range::<&[u8]>(&..).map(|entry| entry.pair()).eq(good.values()));
        let undecodable = self.store.undecodable();
        assert_eq!(undecodable.len(), self.store.undecodable_len());
        let bad: Vec<_> = self.copied.values().filter(|pair| !is_good(pair)).collect();
        assert!(undecodable.iter().map(|bad| bad.pair()).eq(bad.iter().copied()));
        self.count("undecodable values", undecodable.len());
    }

    /// A queue is no longer than its limit, unless it is one revision; who is behind costs no more than what
    /// it has and what there is.
    fn check_memory(&self) {
        for subscriber in &self.subscribers {
            let ring = self.store.ring(subscriber.id).unwrap();
            let (queued, keys) = ring.kept();
            assert!(queued <= self.limit || ring.waiting() == 1, "{queued} changes wait");
            assert!(keys <= subscriber.has.len() + self.store.len(), "{keys} keys for one that is behind");
        }
    }

    /// Everybody gets all they are owed, and then the end.
    fn finish(mut self) -> BTreeMap<&'static str, u64> {
        for which in 0..self.subscribers.len() {
            while self.take_one(which) {}
        }
        self.store.end(Error::new(ErrorKind::Closed));
        for subscriber in &self.subscribers {
            let last = self.store.poll_take(subscriber.id, &mut Context::from_waker(Waker::noop()));
            assert!(matches!(last, Poll::Ready(Some(Err(error))) if *error.kind() == ErrorKind::Closed));
        }
        self.reached
    }
}

#[test]
fn the_copy_and_its_subscribers_follow_the_store() {
    let mut reached = BTreeMap::<_, u64>::new();
    for seed in 0..300 {
        let mut run = Run::new(seed);
        for _ in 0..400 {
            run.step();
        }
        for (what, times) in run.finish() {
            *reached.entry(what).or_default() += times;
        }
    }
    let wanted = [
        "revisions from a watch",
        "lists",
        "lists that broke off",
        "lists of another history",
        "keys that a list lacks",
        "pairs of a list that had not changed",
        "subscriptions",
        "subscribers that fell behind",
        "differences with removals and others",
        "empty differences",
        "revisions larger than a ring",
        "undecodable values",
    ];
    for what in wanted {
        assert!(reached.get(what).is_some_and(|times| *times > 0), "no {what} in {reached:?}");
    }
}

#[test]
fn pages_out_of_order_are_refused() {
    let mut store = Store::<KeyValue>::new();
    let mut list = Relist::new();
    assert_eq!(list.page(&store, vec![pair("a", "1", 1), pair("b", "1", 1)]).unwrap().len(), 2);
    assert_eq!(list.page(&store, vec![pair("b", "1", 1)]), Err(OutOfOrder));
    store.relist(Relist::new(), revision(1));
    assert_eq!(store.len(), 0);
}

#[test]
fn ranges_are_those_of_the_keys() {
    let mut store = Store::<KeyValue>::new();
    let slots = ["a", "b", "b/1", "c"].map(|key| Slot::Good(std::sync::Arc::new(pair(key, "1", 1))));
    let mut list = Relist::new();
    list.put(slots);
    store.relist(list, revision(1));
    let keys = |range: (std::ops::Bound<&str>, std::ops::Bound<&str>)| {
        let inside: Vec<_> = store.range::<&str>(&range).map(|pair| pair.key_str().unwrap().to_owned()).collect();
        let snapshot = store.snapshot();
        let same: Vec<_> =
            snapshot.range::<&str>(range).iter().map(|pair| pair.key_str().unwrap().to_owned()).collect();
        assert_eq!(inside, same, "{range:?}");
        inside.join(" ")
    };
    use std::ops::Bound::{Excluded, Included, Unbounded};
    assert_eq!(keys((Included("b"), Excluded("c"))), "b b/1");
    assert_eq!(keys((Excluded("b"), Included("c"))), "b/1 c");
    assert_eq!(keys((Unbounded, Included("b"))), "a b");
    assert_eq!(keys((Excluded("b"), Unbounded)), "b/1 c");
    assert_eq!(keys((Included("aa"), Included("aa"))), "");
    // Upside down, where a map would panic.
    assert_eq!(keys((Included("c"), Excluded("b"))), "");
    assert_eq!(keys((Excluded("b"), Excluded("b"))), "");
    assert_eq!(store.snapshot().get("b").unwrap().key_str(), Some("b"));
    assert!(store.snapshot().get("bb").is_none());
}

#[test]
fn what_a_program_holds_can_go_to_any_thread() {
    use crate::{ListThenWatch, ReflectBuilder, Reflector, Snapshot, Subscription, Undecodable};
    fn any_thread<T: Send + Sync + 'static>() {}
    any_thread::<(Reflector, ReflectBuilder, Subscription, Snapshot, SubscriptionItem, ListThenWatch, Undecodable)>();
    any_thread::<(Reflector<Value>, ReflectBuilder<Value>, Subscription<Value>, Change<Value>, Changes<Value>)>();
    fn futures(copy: &Reflector<Value>, changes: &mut Subscription<Value>) -> impl Send {
        (copy.ready(), copy.wait_for(Revision::FIRST), copy.get_linearizable("a"), changes.next())
    }
    let _ = futures;
}

#[test]
fn what_is_refused_is_told_until_it_is_over() {
    let now = tokio::time::Instant::now();
    let mut state = State::new(now);
    assert!(state.refusal().is_none(), "has only begun");
    for passes in [ErrorKind::Unavailable, ErrorKind::Busy, ErrorKind::Compacted { at: Revision::ZERO }] {
        state.out_of_sync(Some(Error::new(passes)), now);
        assert!(state.refusal().is_none());
    }
    let later = now + std::time::Duration::from_secs(5);
    state.out_of_sync(Some(Error::new(ErrorKind::PermissionDenied)), later);
    assert_eq!(state.refusal().map(Error::kind), Some(&ErrorKind::PermissionDenied));
    assert_eq!(state.status(later).out_of_sync, Some(std::time::Duration::from_secs(5)), "since the first trouble");
    state.listed();
    assert!(state.refusal().is_none());
    assert!(state.status(later).last_error.is_some() && state.status(later).lists == 1);
    state.ended = Some(Error::new(ErrorKind::Closed));
    assert_eq!(state.refusal().map(Error::kind), Some(&ErrorKind::Closed));
}
