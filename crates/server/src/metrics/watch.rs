//! `stentor_watch_`, and etcd's metrics of watchers.

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use stentor_watch::{Canceled, Gauges, Sent};

use super::{Metrics, MvccMetrics, Scope};

type Label = [(&'static str, &'static str); 1];

/// From a lag that is a delivery under way to one that needs someone to look, in seconds.
const LAG_BUCKETS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0];

/// `stentor_watch_`. Names without the prefix and `_total`.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct WatchMetrics {
    /// Bytes of the events sent.
    pub sent_bytes: Counter,
    /// Watchers cancelled because their client asked for it.
    pub canceled_by_client: Counter,
    /// Watchers cancelled because compaction has taken what they need.
    pub canceled_by_compaction: Counter,
    /// Watchers behind for longer than `--stentor-slow-watcher-time`.
    pub slow_watchers: Gauge,
    streams: Gauge,
    synced: Gauge,
    unsynced: Gauge,
    victims: Gauge,
    slowest_lag_revisions: Gauge,
    slowest_lag_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
    held_bytes: Gauge,
    stream_lag_seconds: Histogram,
    /// What the counters stand for so far.
    counted: Mutex<(Sent, Canceled)>,
}

impl WatchMetrics {
    /// `mvcc` has counted the events sent already.
    pub(super) fn new(registry: &mut Registry, mvcc: &MvccMetrics) -> WatchMetrics {
        let watchers = Family::<Label, Gauge>::default();
        let canceled = Family::<Label, Counter>::default();
        let state = |name| watchers.get_or_create(&[("state", name)]).clone();
        let reason = |name| canceled.get_or_create(&[("reason", name)]).clone();
        let metrics = WatchMetrics {
            sent_bytes: Counter::default(),
            canceled_by_client: reason("client"),
            canceled_by_compaction: reason("compaction"),
            slow_watchers: Gauge::default(),
            streams: Gauge::default(),
            synced: state("synced"),
            unsynced: state("unsynced"),
            victims: state("victim"),
            slowest_lag_revisions: Gauge::default(),
            slowest_lag_seconds: Gauge::default(),
            held_bytes: Gauge::default(),
            stream_lag_seconds: Histogram::new(LAG_BUCKETS),
            counted: Mutex::default(),
        };
        let s = &mut Scope(registry, "stentor_watch_");
        s.add(&metrics.streams, "streams", "Open watch streams");
        s.add(&watchers, "watchers", "Watchers by state");
        s.add(&metrics.slow_watchers, "slow_watchers", "Watchers behind for longer than --stentor-slow-watcher-time");
        s.add(
            &metrics.slowest_lag_revisions,
            "slowest_lag_revisions",
            "Revisions that the watcher furthest behind has still to pass",
        );
        s.add(
            &metrics.slowest_lag_seconds,
            "slowest_lag_seconds",
            "Time since the oldest event that some watcher has not got",
        );
        s.add(&metrics.held_bytes, "held_bytes", "Bytes of recent commits and history kept in memory for watchers");
        s.add(&mvcc.events, "events", "Events sent");
        s.add(&metrics.sent_bytes, "sent_bytes", "Bytes of the events sent");
        s.add(&canceled, "canceled", "Watchers cancelled, by reason");
        s.add(
            &metrics.stream_lag_seconds,
            "stream_lag_seconds",
            "Lag of each stream that has watchers, sampled every second",
        );
        metrics
    }

    /// One stream's lag, at a sample.
    pub(crate) fn observe_stream(&self, lag_ms: u64) {
        self.stream_lag_seconds.observe(seconds(lag_ms));
    }

    pub(crate) fn set_slowest(&self, revisions: u64, ms: u64) {
        self.slowest_lag_revisions.set(gauge(revisions));
        self.slowest_lag_seconds.set(seconds(ms));
    }
}

impl Metrics {
    /// How many watchers there are, by our names and by etcd's.
    pub(crate) fn set_watchers(&self, gauges: &Gauges) {
        let ours = &self.watch;
        ours.streams.set(gauge(gauges.streams));
        ours.synced.set(gauge(gauges.synced));
        ours.unsynced.set(gauge(gauges.unsynced));
        ours.victims.set(gauge(gauges.victims));
        ours.held_bytes.set(gauge(gauges.bytes));
        let etcd = &self.mvcc;
        etcd.watch_stream.set(gauge(gauges.streams));
        etcd.watcher.set(gauge(gauges.watchers()));
        etcd.slow_watcher.set(gauge(gauges.unsynced + gauges.victims));
        // Nothing is queued; at least one event is due to each victim.
        etcd.pending_events.set(gauge(gauges.victims));
    }
}

impl Metrics {
    /// What was sent, and cancelled, since the start.
    pub(crate) fn count_watching(&self, sent: Sent, canceled: Canceled) {
        let ours = &self.watch;
        let mut counted = ours.counted.lock();
        let (was_sent, was_canceled) = std::mem::replace(&mut *counted, (sent, canceled));
        self.mvcc.events.inc_by(sent.events.saturating_sub(was_sent.events));
        ours.sent_bytes.inc_by(sent.bytes.saturating_sub(was_sent.bytes));
        ours.canceled_by_client.inc_by(canceled.by_client.saturating_sub(was_canceled.by_client));
        ours.canceled_by_compaction.inc_by(canceled.by_compaction.saturating_sub(was_canceled.by_compaction));
    }
}

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}
