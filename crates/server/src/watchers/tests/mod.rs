//! Streams as a test wants them.

mod sampler;
mod slow;
mod survey;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stentor_proto::{KeyRange, Revision};
use stentor_watch::{Gauges, Tip};

use super::streams::{OpenStream, Streams};
use stentor_watch::{StreamReport, WatcherReport, WatcherState};

/// What the clock says, milliseconds since 1970.
const NOW: u64 = 1_700_000_000_000;
/// The newest revision.
const REVISION: i64 = 1_000;

fn revision(n: i64) -> Revision {
    Revision::new(n).unwrap()
}

/// A watcher that has still to pass so many revisions, for so long.
fn watcher(id: i64, key: &str, state: WatcherState, lag: (i64, u64)) -> WatcherReport {
    WatcherReport {
        id,
        range: KeyRange::key(key.to_owned()),
        state,
        cursor: revision(REVISION + 1 - lag.0),
        events: 5,
        bytes: 70,
        behind_since_unix_ms: (lag.1 > 0).then(|| NOW - lag.1),
        prev_kv: false,
        progress_notify: false,
        fragment: false,
    }
}

fn synced(id: i64, key: &str) -> WatcherReport {
    watcher(id, key, WatcherState::Synced, (0, 0))
}

/// The streams of a hub that isn't there.
#[derive(Default)]
struct Fake {
    streams: Vec<FakeStream>,
}

#[derive(Clone, Default)]
struct FakeStream {
    id: u64,
    label: Option<Arc<str>>,
    watchers: Vec<WatcherReport>,
    /// Watchers shown to visitors.
    visited: Arc<AtomicU64>,
}

impl Fake {
    fn of(streams: impl IntoIterator<Item = (u64, Vec<WatcherReport>)>) -> Fake {
        let stream = |(id, watchers)| FakeStream { id, watchers, ..FakeStream::default() };
        Fake { streams: streams.into_iter().map(stream).collect() }
    }

    fn visited(&self) -> u64 {
        self.streams.iter().map(|stream| stream.visited.load(Ordering::Relaxed)).sum()
    }
}

impl Streams for Fake {
    type Stream = FakeStream;

    fn tip(&self) -> Tip {
        Tip { revision: revision(REVISION), compacted: Some(revision(7)) }
    }

    fn gauges(&self) -> Gauges {
        let all: Vec<_> = self.streams.iter().map(FakeStream::report).collect();
        let sum = |of: fn(&StreamReport) -> u64| all.iter().map(of).sum();
        Gauges {
            streams: all.len() as u64,
            synced: sum(|report| report.synced),
            unsynced: sum(|report| report.unsynced),
            victims: sum(|report| report.victims),
            bytes: 4711,
        }
    }

    fn streams(&self) -> Vec<FakeStream> {
        self.streams.clone()
    }
}

impl OpenStream for FakeStream {
    fn report(&self) -> StreamReport {
        let count = |state| self.watchers.iter().filter(|w| w.state == state).count() as u64;
        StreamReport {
            id: self.id,
            label: self.label.clone(),
            watchers: self.watchers.len() as u64,
            synced: count(WatcherState::Synced),
            unsynced: count(WatcherState::Unsynced),
            victims: count(WatcherState::Victim),
            cursor: self.watchers.iter().map(|w| w.cursor).min().unwrap_or_default(),
            held_bytes: 0,
            events: self.watchers.iter().map(|w| w.events).sum(),
            bytes: self.watchers.iter().map(|w| w.bytes).sum(),
            behind_since_unix_ms: self.watchers.iter().filter_map(|w| w.behind_since_unix_ms).min(),
        }
    }

    fn watchers(&self, visit: &mut dyn FnMut(WatcherReport)) {
        self.visited.fetch_add(self.watchers.len() as u64, Ordering::Relaxed);
        self.watchers.iter().cloned().for_each(visit);
    }
}

/// A stream whose watchers are all behind for so many seconds, and a little.
fn stalled(id: u64, watchers: std::ops::Range<i64>, seconds: u64) -> (u64, Vec<WatcherReport>) {
    let one = |id| match seconds {
        0 => synced(id, "k"),
        _ => watcher(id, "k", WatcherState::Victim, (1, seconds * 1_000 + 1)),
    };
    (id, watchers.map(one).collect())
}
