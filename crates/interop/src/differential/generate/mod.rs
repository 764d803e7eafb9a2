//! The random requests of a run: a small key space, so that things collide, and every odd value that
//! the protocol lets a client send.

mod kv;
mod lease;
mod txn;
mod watch;

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use stentor_proto::etcdserverpb::{CompactionRequest, PutRequest};

use super::answer::Answer;
use super::request::Request;
use super::side::STREAMS;
use crate::stream::Stream;

/// Watchers per stream above which no more are created.
const MOST_WATCHERS: usize = 12;

/// What the answers so far say of the store: where the next request's values are taken from.
pub(crate) struct World {
    /// The store's revision.
    pub(crate) revision: i64,
    /// Compacted so far; 0 before the first compaction.
    pub(crate) compacted: i64,
    /// Leases with a long TTL, as shared ids.
    leases: Vec<i64>,
    /// Revisions that deleted a key and put it again: an etcd compacted at one loses the put.
    pub(crate) fragile: BTreeSet<i64>,
    /// Leases with so short a TTL that they must be revoked before they expire.
    short: Vec<i64>,
    /// Ids given to leases that may be granted once more.
    next_lease: i64,
    streams: Vec<Watchers>,
}

/// The watchers of one stream, as its answers tell.
#[derive(Default)]
struct Watchers {
    live: Vec<i64>,
    gone: Vec<i64>,
}

/// Makes requests from a seed and from what the answers said.
pub(crate) struct Generator {
    rng: StdRng,
    /// Without what stops an etcd before 3.7 for good, or leads it elsewhere.
    old_etcd: bool,
    /// What is known of the store.
    pub(crate) world: World,
}

impl Generator {
    /// The requests of this seed; with `old_etcd` without what an etcd before 3.7 does not survive.
    pub(crate) fn new(seed: u64, old_etcd: bool) -> Generator {
        let streams = (0..STREAMS).map(|_| Watchers::default()).collect();
        let world = World {
            revision: 1,
            compacted: 0,
            fragile: BTreeSet::new(),
            leases: Vec::new(),
            short: Vec::new(),
            next_lease: 100,
            streams,
        };
        Generator { rng: StdRng::seed_from_u64(seed), old_etcd, world }
    }

    /// The next request.
    pub(crate) fn request(&mut self) -> Request {
        if let Some(id) = self.world.short.pop() {
            return Request::Revoke(id);
        }
        match self.rng.random_range(0..1000) {
            0..170 => Request::Range(self.range()),
            170..230 => Request::RangeStream(self.range()),
            230..440 => Request::Put(self.put()),
            440..520 => Request::DeleteRange(self.delete_range()),
            520..690 => Request::Txn(self.txn()),
            690..715 => Request::Compact(self.compact()),
            715..755 => self.grant(),
            755..780 => self.revoke(),
            780..805 => self.time_to_live(),
            805..815 => Request::Leases,
            815..840 => self.keep_alive(),
            840..860 => Request::HashKv(self.revision()),
            860..863 => self.expire(),
            863..940 => self.watch(),
            940..970 => self.cancel(),
            970..997 => Request::Progress(self.stream()),
            _ => Request::Nothing(self.stream()),
        }
    }

    /// Takes note of the reference's answer, and of what its streams hold now.
    pub(crate) fn learn(&mut self, request: &Request, answer: &Answer, streams: &[Stream]) {
        let world = &mut self.world;
        if let Some(revision) = answer.revision() {
            world.revision = world.revision.max(revision);
        }
        match (request, answer) {
            (Request::Compact(compact), Answer::Compact(_)) => {
                world.compacted = world.compacted.max(compact.revision);
            }
            (Request::Grant(_), Answer::Grant(grant)) if grant.ttl < 60 => world.short.push(grant.id),
            (Request::Grant(_), Answer::Grant(grant)) => world.leases.push(grant.id),
            (Request::Revoke(id), Answer::Revoke(_)) => world.leases.retain(|lease| lease != id),
            _ => {}
        }
        for (watchers, stream) in world.streams.iter_mut().zip(streams) {
            let mut live = stream.live();
            live.sort_unstable();
            let ended = watchers.live.iter().filter(|id| !live.contains(id));
            watchers.gone.extend(ended);
            watchers.live = live;
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn stream(&mut self) -> usize {
        self.rng.random_range(0..STREAMS)
    }

    fn pick<T: Copy>(&mut self, from: &[T], otherwise: T) -> T {
        from.choose(&mut self.rng).copied().unwrap_or(otherwise)
    }

    /// A key; now and then one with bytes at the ends of the order.
    fn key(&mut self) -> Bytes {
        const KEYS: [&[u8]; 16] = [
            b"a",
            b"aa",
            b"ab",
            b"abc",
            b"b",
            b"ba",
            b"c",
            b"c\0",
            b"d",
            b"k/1",
            b"k/2",
            b"k/3",
            b"k0",
            b"\xff",
            b"\xff\xff",
            b"\0",
        ];
        Bytes::from_static(self.pick(&KEYS, b"a"))
    }

    /// A key as a request may name it: sometimes none.
    fn named_key(&mut self) -> Bytes {
        if self.chance(2) { Bytes::new() } else { self.key() }
    }

    /// A key and an end, of every kind there is.
    fn interval(&mut self) -> (Bytes, Bytes) {
        let key = self.named_key();
        let end = match self.rng.random_range(0..100) {
            0..35 => Bytes::new(),
            35..47 => Bytes::from_static(b"\0"),
            47..65 => prefix_end(&key),
            // Above, below or equal: a reversed or empty range is none of anybody's errors.
            65..85 => self.key(),
            85..90 => key.clone(),
            90..95 => [&key[..], b"\0"].concat().into(),
            95..98 => return (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            _ => return (Bytes::from_static(b"\0"), Bytes::new()),
        };
        (key, end)
    }

    fn value(&mut self) -> Bytes {
        match self.rng.random_range(0..200) {
            0..20 => Bytes::new(),
            20..22 => vec![b'v'; 20_000].into(),
            // Above the limit of a request, and above that of a message.
            22 => vec![b'v'; 1_600_000].into(),
            23 => vec![b'v'; 2_200_000].into(),
            _ => format!("v{}", self.rng.random_range(0..12)).into(),
        }
    }

    /// A revision to read at: mostly 0, often a border.
    fn revision(&mut self) -> i64 {
        if self.chance(40) { 0 } else { self.odd_revision() }
    }

    fn odd_revision(&mut self) -> i64 {
        let World { revision, compacted, .. } = self.world;
        match self.rng.random_range(0..100) {
            0..40 => self.rng.random_range(compacted.clamp(1, revision)..=revision),
            40..50 => revision,
            50..58 => compacted,
            58..66 => compacted - 1,
            66..74 => compacted + 1,
            74..82 => revision + 1,
            82..88 => 1,
            88..92 => self.rng.random_range(1..=revision),
            92..95 => -1,
            95..97 => revision + 1000,
            97 => i64::MAX,
            98 => i64::MIN,
            _ => -revision,
        }
    }

    fn compact(&mut self) -> CompactionRequest {
        let World { revision, compacted, .. } = self.world;
        let revision = match self.rng.random_range(0..100) {
            // A little above the last, so that much history stays.
            0..55 => self.rng.random_range(compacted..=revision).midpoint(compacted + 1),
            55..65 => revision,
            65..72 => compacted,
            72..79 => compacted - 1,
            79..86 => revision + 1,
            86..91 => 0,
            91..96 => -1,
            96..98 => 1,
            _ => self.odd_revision(),
        };
        CompactionRequest { revision, physical: self.chance(40) }
    }

    /// The put that ends a run: an event for every watcher of everything.
    pub(crate) fn last_put() -> Request {
        Request::Put(PutRequest { key: Bytes::from_static(b"last"), ..PutRequest::default() })
    }
}

/// The end of the interval of all keys with this prefix.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|byte| *byte != 0xff) else { return Bytes::from_static(b"\0") };
    prefix.iter().take(last + 1).enumerate().map(|(at, byte)| if at == last { byte + 1 } else { *byte }).collect()
}
