//! Who is furthest behind: the first so many of any number of watchers.

use std::cmp::Reverse;

use stentor_proto::{KeyRange, Revision};

use super::lag::{Lag, Now};
use super::streams::{OpenStream, Streams};
use super::top::Top;
use stentor_watch::{StreamReport, WatcherReport, WatcherState};

/// What to look for.
#[derive(Clone, Debug)]
pub struct Query {
    /// Only watchers whose range can have a key in common with this one; `None` for all.
    pub keys: Option<KeyRange>,
    /// Only watchers in one of these.
    pub states: States,
    /// Rows at most.
    pub limit: usize,
    /// What comes first.
    pub order: Order,
    /// Rows are streams; watchers are looked at only as far as the filters ask for it.
    pub streams_only: bool,
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The most revisions behind, and of equals the longest.
    Revisions,
    /// The longest behind, and of equals by the most revisions.
    Time,
}

/// A choice of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States {
    /// [`WatcherState::Synced`].
    pub synced: bool,
    /// [`WatcherState::Unsynced`].
    pub unsynced: bool,
    /// [`WatcherState::Victim`].
    pub victims: bool,
}

impl States {
    /// Whatever the state.
    pub const ALL: States = States { synced: true, unsynced: true, victims: true };

    fn admit(self, state: WatcherState) -> bool {
        match state {
            WatcherState::Synced => self.synced,
            WatcherState::Unsynced => self.unsynced,
            WatcherState::Victim => self.victims,
        }
    }

    /// How many watchers of a stream are in these states.
    fn count(self, report: &StreamReport) -> u64 {
        let some = |chosen: bool, count: u64| if chosen { count } else { 0 };
        some(self.synced, report.synced) + some(self.unsynced, report.unsynced) + some(self.victims, report.victims)
    }
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Survey {
    /// What lags are counted from.
    pub revision: Revision,
    /// Of all watchers.
    pub totals: Totals,
    /// The furthest behind first.
    pub watchers: Vec<WatcherRow>,
    /// The streams of the watchers, by id; or the rows, the furthest behind first.
    pub streams: Vec<StreamRow>,
}

/// Of all there are, whatever the filters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Open streams.
    pub streams: u64,
    /// Watchers that have all there is.
    pub synced: u64,
    /// Watchers that read what they missed.
    pub unsynced: u64,
    /// Watchers with events due that their stream does not take.
    pub victims: u64,
    /// Watchers that pass the filters.
    pub matching: u64,
    /// The most revisions, and the longest time, that one is behind: not always the same one.
    pub slowest: Lag,
    /// Bytes of commits and history in memory for watchers.
    pub held_bytes: u64,
    /// The compacted revision.
    pub compacted: Option<Revision>,
}

/// A watcher.
#[derive(Clone, Debug)]
pub struct WatcherRow {
    /// Its stream.
    pub stream_id: u64,
    /// What its stream says of it.
    pub report: WatcherReport,
    /// How far behind it is.
    pub lag: Lag,
}

/// A stream.
#[derive(Clone, Debug)]
pub struct StreamRow {
    /// Its sums.
    pub report: StreamReport,
    /// How far the watcher is behind that is furthest.
    pub lag: Lag,
    /// Its watchers that pass the filters, if they were counted.
    pub matching: u64,
}

/// By lag; of equals the one that came first ranks higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    lag: (u64, u64),
    stream_id: Reverse<u64>,
    watcher_id: Reverse<i64>,
}

impl Order {
    fn rank(self, lag: Lag, stream_id: u64, watcher_id: i64) -> Rank {
        let lag = match self {
            Order::Revisions => (lag.revisions, lag.ms),
            Order::Time => (lag.ms, lag.revisions),
        };
        Rank { lag, stream_id: Reverse(stream_id), watcher_id: Reverse(watcher_id) }
    }

    /// No watcher of a stream ranks higher than this, as far as the stream's sums tell.
    fn highest(self, lag: Lag, stream_id: u64) -> Rank {
        self.rank(lag, stream_id, i64::MIN)
    }
}

/// A stream with its sums.
struct Looked<S> {
    stream: S,
    report: StreamReport,
    lag: Lag,
}

/// Looks at the streams, the furthest behind first. Those that can't add a row are not visited, unless a
/// range of keys is asked for: then every watcher is, once. At most `limit` rows are held at a time.
pub fn survey<S: Streams>(streams: &S, query: &Query, now_unix_ms: u64) -> Survey {
    let tip = streams.tip();
    let now = Now::at(tip, now_unix_ms);
    let look = |stream: S::Stream| {
        let report = stream.report();
        let lag = now.of_stream(&report);
        Looked { stream, report, lag }
    };
    let mut looked: Vec<_> = streams.streams().into_iter().map(look).collect();
    looked.sort_by_key(|one| Reverse(query.order.highest(one.lag, one.report.id)));
    let mut totals = Totals { held_bytes: streams.gauges().bytes, compacted: tip.compacted, ..Totals::default() };
    looked.iter().for_each(|one| totals.add(&one.report, one.lag));
    let (watchers, rows) =
        if query.streams_only { (Vec::new(), stream_rows(&looked, query)) } else { watcher_rows(&looked, query, now) };
    totals.matching = rows.matching;
    Survey { revision: tip.revision, totals, watchers, streams: rows.streams }
}

impl Totals {
    fn add(&mut self, report: &StreamReport, lag: Lag) {
        self.streams += 1;
        self.synced += report.synced;
        self.unsynced += report.unsynced;
        self.victims += report.victims;
        self.slowest = self.slowest.max(lag);
    }
}

impl Query {
    fn admits(&self, report: &WatcherReport) -> bool {
        self.states.admit(report.state) && self.keys.as_ref().is_none_or(|keys| report.range.overlaps(keys))
    }

    fn filters(&self) -> bool {
        self.keys.is_some() || self.states != States::ALL
    }
}

/// Streams, and the watchers counted on the way.
struct Rows {
    matching: u64,
    streams: Vec<StreamRow>,
}

fn stream_rows<S: OpenStream>(looked: &[Looked<S>], query: &Query) -> Rows {
    let mut rows = Rows { matching: 0, streams: Vec::new() };
    for one in looked {
        let mut matching = query.states.count(&one.report);
        if matching > 0 && query.keys.is_some() {
            matching = 0;
            one.stream.watchers(&mut |report| matching += u64::from(query.admits(&report)));
        }
        rows.matching += matching;
        if rows.streams.len() < query.limit && (matching > 0 || !query.filters()) {
            rows.streams.push(StreamRow { report: one.report.clone(), lag: one.lag, matching });
        }
    }
    rows
}

fn watcher_rows<S: OpenStream>(looked: &[Looked<S>], query: &Query, now: Now) -> (Vec<WatcherRow>, Rows) {
    let mut rows = Rows { matching: 0, streams: Vec::new() };
    let mut top = Top::new(query.limit);
    for one in looked {
        let in_states = query.states.count(&one.report);
        if in_states == 0 {
            continue;
        }
        let stream_id = one.report.id;
        if query.keys.is_none() {
            rows.matching += in_states;
            if !top.wants(&query.order.highest(one.lag, stream_id)) {
                continue;
            }
        }
        one.stream.watchers(&mut |report| {
            if !query.admits(&report) {
                return;
            }
            rows.matching += u64::from(query.keys.is_some());
            let lag = now.of_watcher(&report);
            top.offer(query.order.rank(lag, stream_id, report.id), WatcherRow { stream_id, report, lag });
        });
    }
    let watchers = top.into_sorted();
    let mut wanted: Vec<u64> = watchers.iter().map(|row| row.stream_id).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let of_watchers = looked.iter().filter(|one| wanted.binary_search(&one.report.id).is_ok());
    rows.streams.extend(of_watchers.map(|one| StreamRow { report: one.report.clone(), lag: one.lag, matching: 0 }));
    rows.streams.sort_unstable_by_key(|row| row.report.id);
    (watchers, rows)
}
