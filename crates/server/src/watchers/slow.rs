//! Which watchers are slow, from one look to the next: when that begins and ends.
//!
//! Slow is a watcher that has been behind for longer than the limit, by two clocks. By the commit time of the
//! oldest event that it has not got: one that is busy but keeps up is not slow. And as long as it has been
//! looked at: one that has just begun to replay old history is not slow either.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::lag::{Lag, Now};
use super::streams::OpenStream;
use stentor_watch::{StreamReport, WatcherReport};

/// Watchers of a stream whose first look at is remembered one by one. Beyond them the stream's own counts.
const REMEMBERED: usize = 64;

/// A stream is looked into from a lag of this part of the limit on.
const LATE_PART: u64 = 10;

/// What is to be told of a stream.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Some of its watchers are slow since this look.
    Slow {
        stream: Known,
        /// How many.
        count: u64,
        /// The one that is behind for longest.
        worst: Box<WatcherReport>,
        lag: Lag,
    },
    /// None is slow any more.
    Recovered { stream: Known, episode: Episode },
    /// It has ended while some were slow.
    Ended { stream: Known, episode: Episode },
}

/// A stream, as it is named when it may be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) id: u64,
    pub(super) label: Option<Arc<str>>,
}

/// How a stream's watchers were slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Episode {
    /// Since when, milliseconds by the monotonic clock.
    begun_ms: u64,
    /// For how long.
    pub(super) lasted_ms: u64,
    /// The most watchers that were slow at a time.
    pub(super) count: u64,
    /// The longest, and the most revisions, that one was behind.
    pub(super) lag: Lag,
}

/// Remembers what is late and slow, which is bounded by the number of streams that are.
#[derive(Debug)]
pub(super) struct SlowWatchers {
    limit_ms: u64,
    late: HashMap<u64, Late>,
    looks: u64,
}

/// A stream with a watcher that is behind for some time.
#[derive(Debug)]
struct Late {
    known: Known,
    /// When it was first found so, milliseconds by the monotonic clock.
    since_ms: u64,
    /// The last look in which it was.
    look: u64,
    watchers: HashMap<i64, Seen>,
    episode: Option<Episode>,
}

/// One of its watchers: when it was first late, and the last look in which it was.
#[derive(Clone, Copy, Debug)]
struct Seen {
    since_ms: u64,
    look: u64,
}

/// The slow watchers of a stream in one look.
#[derive(Debug, Default)]
struct Found {
    count: u64,
    worst: Option<Box<WatcherReport>>,
    lag: Lag,
}

impl SlowWatchers {
    /// Watchers behind for longer than `limit` are slow.
    pub(super) fn new(limit: Duration) -> SlowWatchers {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        SlowWatchers { limit_ms, late: HashMap::new(), looks: 0 }
    }

    /// Begins a look at all streams, at `now_ms` of a monotonic clock.
    pub(super) fn look(&mut self, now: Now, now_ms: u64) -> Look<'_> {
        self.looks += 1;
        Look { slow: self, now, now_ms, count: 0, changes: Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.late.is_empty()
    }

    fn late_ms(&self) -> u64 {
        self.limit_ms / LATE_PART
    }
}

/// One look at all streams.
pub(super) struct Look<'s> {
    slow: &'s mut SlowWatchers,
    now: Now,
    now_ms: u64,
    count: u64,
    changes: Vec<Change>,
}

impl Look<'_> {
    /// Looks at one; its watchers are visited only if one is behind for some time.
    pub(super) fn at(&mut self, stream: &impl OpenStream, report: &StreamReport) {
        if self.now.of_stream(report).ms <= self.slow.late_ms() {
            if let Some(late) = self.slow.late.remove(&report.id)
                && let Some(episode) = late.episode
            {
                self.changes.push(Change::Recovered { stream: late.known, episode });
            }
            return;
        }
        let (limit_ms, late_ms, look) = (self.slow.limit_ms, self.slow.late_ms(), self.slow.looks);
        let late = self.slow.late.entry(report.id).or_insert_with(|| Late::new(report, self.now_ms));
        late.look = look;
        // An episode ends at half the limit, so that a lag about the limit doesn't end and begin it.
        let slow_ms = if late.episode.is_some() { limit_ms / 2 } else { limit_ms };
        let mut found = Found::default();
        stream.watchers(&mut |watcher| {
            let lag = self.now.of_watcher(&watcher);
            if lag.ms <= late_ms {
                return;
            }
            let late_for_ms = self.now_ms - late.seen(watcher.id, self.now_ms);
            if lag.ms > slow_ms && late_for_ms >= limit_ms - late_ms {
                found.add(watcher, lag);
            }
        });
        late.watchers.retain(|_, seen| seen.look == look);
        self.count += found.count;
        self.changes.extend(late.judge(found, self.now_ms));
    }

    /// Ends the look, after every open stream was looked at: how many watchers are slow, and what has
    /// changed.
    pub(super) fn end(mut self) -> (u64, Vec<Change>) {
        let look = self.slow.looks;
        let gone = self.slow.late.extract_if(|_, late| late.look != look);
        self.changes.extend(gone.filter_map(|(_, late)| {
            let episode = late.episode?;
            Some(Change::Ended { stream: late.known, episode })
        }));
        (self.count, self.changes)
    }
}

impl Late {
    fn new(report: &StreamReport, now_ms: u64) -> Late {
        let known = Known { id: report.id, label: report.label.clone() };
        Late { known, since_ms: now_ms, look: 0, watchers: HashMap::new(), episode: None }
    }

    /// Notes that a watcher is late; since when it is.
    fn seen(&mut self, id: i64, now_ms: u64) -> u64 {
        if let Some(seen) = self.watchers.get_mut(&id) {
            seen.look = self.look;
            return seen.since_ms;
        }
        if self.watchers.len() >= REMEMBERED {
            return self.since_ms;
        }
        self.watchers.insert(id, Seen { since_ms: now_ms, look: self.look });
        now_ms
    }

    /// What follows from the slow watchers that were found.
    fn judge(&mut self, found: Found, now_ms: u64) -> Option<Change> {
        let stream = self.known.clone();
        match (found.worst, &mut self.episode) {
            (Some(worst), None) => {
                let (count, lag) = (found.count, found.lag);
                self.episode = Some(Episode { begun_ms: now_ms, lasted_ms: 0, count, lag });
                Some(Change::Slow { stream, count, worst, lag })
            }
            (Some(_), Some(episode)) => {
                episode.lasted_ms = now_ms - episode.begun_ms;
                episode.count = episode.count.max(found.count);
                episode.lag = episode.lag.max(found.lag);
                None
            }
            (None, Some(_)) => self.episode.take().map(|episode| Change::Recovered { stream, episode }),
            (None, None) => None,
        }
    }
}

impl Found {
    fn add(&mut self, watcher: WatcherReport, lag: Lag) {
        self.count += 1;
        if self.worst.is_none() || lag.ms > self.lag.ms {
            self.worst = Some(Box::new(watcher));
            self.lag = lag;
        }
    }
}
