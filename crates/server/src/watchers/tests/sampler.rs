//! What a sampler writes to the log and to the metrics.

use std::time::Duration;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use super::super::label::StreamLabel;
use super::super::sampler::Sampler;
use super::*;
use crate::config::MetricsLevel;
use crate::environment::{Environment, Workers};
use crate::metrics::Metrics;

/// Keeps the lines of this thread's log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}{}", self.0);
                } else {
                    self.0 += &format!(" {}={value:?}", field.name());
                }
            }
        }
        if event.metadata().target().starts_with(module_path!().split("::tests").next().unwrap_or_default()) {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().push(format!("{} {}", event.metadata().level(), text.0));
        }
    }
}

/// Streams that a test changes while they are looked at.
#[derive(Default)]
struct Changing(Mutex<Vec<FakeStream>>);

impl Changing {
    fn set(&self, streams: impl IntoIterator<Item = (u64, Vec<WatcherReport>)>) {
        let mut streams = Fake::of(streams).streams;
        for stream in &mut streams {
            let peer = format!("10.0.0.7:{}", 1_000 + stream.id).parse().ok();
            let label = StreamLabel { opened_unix_ms: 1, peer, user_agent: "test/1".to_owned() };
            stream.label = Some(label.text());
        }
        *self.0.lock() = streams;
    }
}

impl Streams for Changing {
    type Stream = FakeStream;

    fn tip(&self) -> Tip {
        Fake::default().tip()
    }

    fn gauges(&self) -> Gauges {
        Fake { streams: self.streams() }.gauges()
    }

    fn streams(&self) -> Vec<FakeStream> {
        self.0.lock().clone()
    }
}

struct Watched {
    streams: Arc<Changing>,
    metrics: Metrics,
    lines: Lines,
    stop: tokio_util::sync::CancellationToken,
    _log: tracing::subscriber::DefaultGuard,
}

impl Watched {
    fn start() -> Watched {
        let (streams, lines) = (Arc::<Changing>::default(), Lines::default());
        let log = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
        let metrics = Metrics::new(MetricsLevel::Basic);
        let environment = Environment {
            wall_unix_ms: Arc::new(|| NOW),
            random: Arc::new(|| 0),
            workers: Workers::Tasks,
            dialer: crate::peers::Dialer::system(),
        };
        let sampler = Sampler::new(streams.clone(), Duration::from_secs(10), metrics.clone(), environment);
        let stop = tokio_util::sync::CancellationToken::new();
        tokio::spawn(sampler.run(stop.clone()));
        Watched { streams, metrics, lines, stop, _log: log }
    }

    /// Until the sampler has looked once more.
    async fn look(&self) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    fn metric(&self, series: &str) -> String {
        let text = self.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_watcher_is_a_line_and_its_recovery_another() {
    let watched = Watched::start();
    for second in 1..=20 {
        watched.streams.set([stalled(1, 0..1, second), stalled(2, 0..3, 0)]);
        watched.look().await;
    }
    assert_eq!(watched.metric("stentor_watch_slow_watchers"), "1");
    assert_eq!(watched.metric("stentor_watch_slowest_lag_seconds"), "20.001");
    assert_eq!(watched.metric("stentor_watch_slowest_lag_revisions"), "1");
    let lines = watched.lines.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let fields = "stream=1 remote=\"10.0.0.7:1001\" user_agent=\"test/1\" slow_watchers=1 worst_watch_id=0 \
                  worst_range=\"\\\"k\\\"\" worst_state=\"victim\" lag_ms=";
    assert!(lines[0].starts_with(&format!("WARN watchers are slow {fields}")), "{lines:?}");
    for _ in 0..3 {
        watched.streams.set([stalled(1, 0..1, 0), stalled(2, 0..3, 0)]);
        watched.look().await;
    }
    let lines = watched.lines.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("INFO slow watchers have caught up stream=1 remote="), "{lines:?}");
    assert_eq!(watched.metric("stentor_watch_slow_watchers"), "0");
    watched.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn when_thousands_stall_at_once_the_log_stays_readable() {
    let watched = Watched::start();
    for second in 1..=20 {
        watched.streams.set((0..1_000).map(|id| stalled(id, 0..2, second)));
        watched.look().await;
    }
    let lines = watched.lines.take();
    assert_eq!(lines.len(), 11, "{lines:?}");
    assert_eq!(lines[10], "WARN watchers of further streams are slow streams=990");
    assert_eq!(watched.metric("stentor_watch_slow_watchers"), "2000");
    watched.streams.set([]);
    watched.look().await;
    let lines = watched.lines.take();
    assert_eq!(lines.len(), 11, "{lines:?}");
    assert!(lines[..10].iter().all(|line| line.starts_with("INFO the stream of slow watchers has ended stream=")));
    watched.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn watchers_are_counted_by_our_names_and_by_etcds() {
    let watched = Watched::start();
    let (unsynced, victim) = (WatcherState::Unsynced, WatcherState::Victim);
    let behind = vec![watcher(1, "k", unsynced, (900, 300)), watcher(2, "k", victim, (1, 4)), synced(3, "k")];
    watched.streams.set([(1, behind), stalled(2, 0..5, 0), (3, vec![])]);
    watched.look().await;
    for (series, value) in [
        ("stentor_watch_streams", "3"),
        ("stentor_watch_watchers{state=\"synced\"}", "6"),
        ("stentor_watch_watchers{state=\"unsynced\"}", "1"),
        ("stentor_watch_watchers{state=\"victim\"}", "1"),
        ("stentor_watch_slow_watchers", "0"),
        ("stentor_watch_held_bytes", "4711"),
        ("etcd_debugging_mvcc_watch_stream_total", "3"),
        ("etcd_debugging_mvcc_watcher_total", "8"),
        ("etcd_debugging_mvcc_slow_watcher_total", "2"),
        ("etcd_debugging_mvcc_pending_events_total", "1"),
        // Those with watchers, once; a look at the start saw none.
        ("stentor_watch_stream_lag_seconds_count", "2"),
        ("stentor_watch_stream_lag_seconds_bucket{le=\"0.25\"}", "1"),
        ("stentor_watch_stream_lag_seconds_bucket{le=\"0.5\"}", "2"),
    ] {
        assert_eq!(watched.metric(series), value, "{series}");
    }
    watched.stop.cancel();
}
