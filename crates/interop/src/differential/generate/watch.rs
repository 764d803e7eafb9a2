//! Watchers: created anywhere in history, cancelled twice, with ids of their own.

use rand::Rng;
use stentor_proto::etcdserverpb::WatchCreateRequest;

use super::{Generator, MOST_WATCHERS};
use crate::differential::request::Request;

impl Generator {
    pub(super) fn watch(&mut self) -> Request {
        let stream = self.stream();
        if self.world.streams.get(stream).is_some_and(|watchers| watchers.live.len() >= MOST_WATCHERS) {
            return self.cancel();
        }
        let (key, range_end) = self.interval();
        let mut create = WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() };
        create.start_revision = self.start();
        create.prev_kv = self.rng.random();
        create.fragment = self.chance(30);
        if self.chance(25) {
            create.filters = match self.rng.random_range(0..6) {
                0 | 1 => vec![0],
                2 | 3 => vec![1],
                4 => vec![0, 1],
                _ => vec![7, 1],
            };
        }
        if self.chance(20) {
            create.watch_id = self.watch_id(stream);
        }
        Request::Watch(stream, create)
    }

    fn start(&mut self) -> i64 {
        let (revision, compacted) = (self.world.revision, self.world.compacted);
        let start = match self.rng.random_range(0..100) {
            0..35 => 0,
            35..60 => self.rng.random_range(compacted.clamp(1, revision)..=revision),
            60..66 => revision,
            66..72 => revision + 1,
            72..75 => revision + 10,
            75..83 => compacted,
            83..88 => compacted - 1,
            88..93 => compacted + 1,
            93..96 => 1,
            96..98 => -1,
            _ => i64::MIN,
        };
        if self.old_etcd { start.max(0) } else { start }
    }

    /// An id of the client's choice: never a small one that the server's own counter could still reach.
    fn watch_id(&mut self, stream: usize) -> i64 {
        let (live, gone) = match self.world.streams.get(stream) {
            Some(watchers) => (watchers.live.clone(), watchers.gone.clone()),
            None => (Vec::new(), Vec::new()),
        };
        match self.rng.random_range(0..4) {
            0 => self.rng.random_range(1000..1010),
            1 => self.rng.random_range(-9..-1),
            2 => self.pick(&live, 1000),
            _ => self.pick(&gone, 1000),
        }
    }

    pub(super) fn cancel(&mut self) -> Request {
        let stream = self.stream();
        let (live, gone) = match self.world.streams.get(stream) {
            Some(watchers) => (watchers.live.clone(), watchers.gone.clone()),
            None => (Vec::new(), Vec::new()),
        };
        let id = match self.rng.random_range(0..10) {
            0..7 => self.pick(&live, 0),
            7..9 => self.pick(&gone, 0),
            _ => 4_000_000,
        };
        Request::Cancel(stream, id)
    }
}
