//! Looks at every stream now and then, for the metrics and the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::label::StreamLabel;
use super::lag::{Lag, Now};
use super::slow::{Change, Episode, Known, SlowWatchers};
use super::streams::{OpenStream as _, Streams, state_name};
use crate::environment::Environment;
use crate::metrics::Metrics;
use stentor_watch::WatcherReport;

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Lines of a kind in one look. When a network breaks, thousands of streams stall at once.
const LINES: usize = 10;

/// A range in the log is cut to so many characters.
const RANGE_CHARS: usize = 128;

/// Looks after the watchers of a member.
pub struct Sampler<S> {
    streams: Arc<S>,
    metrics: Metrics,
    environment: Environment,
    begun: Instant,
    /// `None` if slow watchers are not to be told.
    slow: Option<SlowWatchers>,
}

impl<S: Streams> Sampler<S> {
    /// Tells of watchers that are behind for longer than `slow_after`, unless that is 0.
    pub fn new(streams: Arc<S>, slow_after: Duration, metrics: Metrics, environment: Environment) -> Self {
        let slow = (!slow_after.is_zero()).then(|| SlowWatchers::new(slow_after));
        Sampler { streams, metrics, environment, begun: Instant::now(), slow }
    }

    /// Looks until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.look();
        }
    }

    /// One look.
    fn look(&mut self) {
        let now = Now::at(self.streams.tip(), (self.environment.wall_unix_ms)());
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut slow = self.slow.as_mut().map(|slow| slow.look(now, now_ms));
        let mut slowest = Lag::default();
        let metrics = &self.metrics.watch;
        for stream in self.streams.streams() {
            let report = stream.report();
            let lag = now.of_stream(&report);
            slowest = slowest.max(lag);
            if report.watchers > 0 {
                metrics.observe_stream(lag.ms);
            }
            if let Some(slow) = &mut slow {
                slow.at(&stream, &report);
            }
        }
        let (count, changes) = slow.map_or_else(Default::default, super::slow::Look::end);
        metrics.slow_watchers.set(i64::try_from(count).unwrap_or(i64::MAX));
        metrics.set_slowest(slowest.revisions, slowest.ms);
        self.metrics.set_watchers(&self.streams.gauges());
        tell(changes);
    }
}

/// Says what has changed: the first of each kind one by one, the others by their number.
fn tell(changes: Vec<Change>) {
    let (mut slow, mut over) = (0, 0);
    for change in changes {
        let told = if matches!(change, Change::Slow { .. }) { &mut slow } else { &mut over };
        *told += 1;
        if *told > LINES {
            continue;
        }
        match change {
            Change::Slow { stream, count, worst, lag } => tell_slow(&stream, count, &worst, lag),
            Change::Recovered { stream, episode } => tell_over(&stream, &episode, "slow watchers have caught up"),
            Change::Ended { stream, episode } => tell_over(&stream, &episode, "the stream of slow watchers has ended"),
        }
    }
    if slow > LINES {
        warn!(streams = slow - LINES, "watchers of further streams are slow");
    }
    if over > LINES {
        info!(streams = over - LINES, "slow watchers of further streams have caught up, or their streams have ended");
    }
}

fn tell_slow(stream: &Known, count: u64, worst: &WatcherReport, lag: Lag) {
    let label = stream.label();
    warn!(
        stream = stream.id,
        remote = label.peer_text(),
        user_agent = label.user_agent,
        slow_watchers = count,
        worst_watch_id = worst.id,
        worst_range = cut(&format!("{:?}", worst.range)),
        worst_state = state_name(worst.state),
        lag_ms = lag.ms,
        lag_revisions = lag.revisions,
        "watchers are slow"
    );
}

fn tell_over(stream: &Known, episode: &Episode, what: &'static str) {
    let label = stream.label();
    info!(
        stream = stream.id,
        remote = label.peer_text(),
        user_agent = label.user_agent,
        slow_watchers = episode.count,
        slow_for_ms = episode.lasted_ms,
        worst_lag_ms = episode.lag.ms,
        worst_lag_revisions = episode.lag.revisions,
        "{what}"
    );
}

impl Known {
    fn label(&self) -> StreamLabel {
        self.label.as_deref().map(StreamLabel::parse).unwrap_or_default()
    }
}

/// The text, or its beginning.
fn cut(text: &str) -> String {
    match text.char_indices().nth(RANGE_CHARS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
