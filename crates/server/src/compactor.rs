//! Compaction in the background: its space work, in steps with pauses, and the automatic kind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use stentor_mvcc::CompactionStep;
use stentor_proto::{EtcdError, Revision};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::config::AutoCompaction;
use crate::node::Node;
use crate::replication::{Halt, ProposeError};

/// How soon to look again while reads from before a compaction are going on.
const WAIT_FOR_READERS: Duration = Duration::from_millis(2);

/// After an error the space work rests: a full disk doesn't empty by asking.
const REST_AFTER_ERROR: Duration = Duration::from_secs(5);

/// How often revision-based compaction looks.
const REVISION_PERIOD: Duration = Duration::from_secs(5 * 60);

/// Works off the space of accepted compactions until stopped.
pub(crate) async fn run(node: Arc<Node>, stop: CancellationToken) {
    work(&node, &stop).await;
    node.compaction_stopped(EtcdError::Stopped.into());
}

async fn work(node: &Arc<Node>, stop: &CancellationToken) {
    let mut compactions = node.compactions();
    // A stop may have come between the work and what follows from it.
    node.compaction_finished(node.store.compaction_finished());
    loop {
        let pause = match node.store.compact_step(node.settings.compaction_batch_limit) {
            Ok(CompactionStep::Worked { deleted, .. }) => {
                node.metrics.mvcc.db_compaction_keys.inc_by(deleted as u64);
                node.settings.compaction_sleep_interval
            }
            Ok(CompactionStep::Waiting) => WAIT_FOR_READERS,
            Ok(CompactionStep::Finished(revision)) => {
                info!(revision = revision.get(), "finished scheduled compaction");
                let now = (node.environment.wall_unix_ms)() / 1000;
                node.metrics.mvcc.db_compaction_last.set(i64::try_from(now).unwrap_or(i64::MAX));
                node.compaction_finished(revision);
                Duration::ZERO
            }
            Ok(CompactionStep::Idle) => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    // The sender lives as long as the node.
                    _ = compactions.changed() => continue,
                }
            }
            // The engine was interrupted for the stop.
            Err(_) if stop.is_cancelled() => return,
            Err(error) => {
                error!(%error, "compaction could not go on");
                node.compaction_stopped(ProposeError::Halted(Halt::Store(error)));
                REST_AFTER_ERROR
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// Compacts by itself, as configured, until stopped.
pub(crate) async fn run_automatic(node: Arc<Node>, mode: AutoCompaction, stop: CancellationToken) {
    let mut policy = match mode {
        AutoCompaction::Off => return,
        AutoCompaction::Periodic(retention) => Policy::periodic(retention),
        AutoCompaction::Revisions(keep) => Policy::Revisions { keep },
    };
    let mut ticks = interval(policy.look_every());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let view = node.store.view();
        let Some(revision) = policy.look(view.revision(), view.compacted().unwrap_or_default(), Instant::now()) else {
            continue;
        };
        if !node.is_leader() {
            // One does it for all. Should it be gone, another one is to do it soon.
            continue;
        }
        let compacted = node.compact(revision).await;
        policy.compacted(Instant::now());
        match compacted {
            Ok(_) => info!(revision = revision.get(), "auto-compaction was accepted"),
            // Someone else has compacted as far.
            Err(error) => info!(revision = revision.get(), %error, "auto-compaction was not accepted"),
        }
    }
}

/// When to compact at which revision.
#[derive(Debug)]
enum Policy {
    /// Keep what is younger than a time: looks at the revision now and then, and compacts at the one seen
    /// that long ago.
    Periodic {
        retention: Duration,
        period: Duration,
        seen: VecDeque<(Instant, Revision)>,
        /// The newest that is old enough, and what that was at the look before.
        old: Option<Revision>,
        before: Revision,
        last: Option<Instant>,
    },
    /// Keep a number of revisions.
    Revisions { keep: u64 },
}

impl Policy {
    fn periodic(retention: Duration) -> Policy {
        let period = retention.min(Duration::from_secs(3600));
        Policy::Periodic { retention, period, seen: VecDeque::new(), old: None, before: Revision::ZERO, last: None }
    }

    fn look_every(&self) -> Duration {
        match self {
            // Ten looks in a period bound what is kept too long to a tenth of it.
            Policy::Periodic { period, .. } => (*period / 10).max(Duration::from_millis(1)),
            Policy::Revisions { .. } => REVISION_PERIOD,
        }
    }

    /// The revision to compact at now, if any. The members look at different moments: what another one has compacted
    /// since the look before counts as done.
    fn look(&mut self, current: Revision, compacted: Revision, now: Instant) -> Option<Revision> {
        match self {
            Policy::Revisions { keep } => {
                let keep = i64::try_from(*keep).unwrap_or(i64::MAX);
                Revision::new(current.get() - keep).filter(|r| *r > Revision::ZERO)
            }
            Policy::Periodic { retention, period, seen, old, before, last } => {
                seen.push_back((now, current));
                *before = old.unwrap_or_default();
                while let Some(&(at, revision)) = seen.front() {
                    if now.duration_since(at) < *retention {
                        break;
                    }
                    *old = Some(revision);
                    seen.pop_front();
                }
                let revision = (*old)?;
                if last.is_some_and(|last| now.duration_since(last) < *period) {
                    return None;
                }
                if compacted > Revision::ZERO && compacted >= *before {
                    *last = Some(now);
                    return None;
                }
                Some(revision)
            }
        }
    }

    /// It was compacted, or refused.
    fn compacted(&mut self, now: Instant) {
        if let Policy::Periodic { last, .. } = self {
            *last = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn periodic_compaction_waits_a_period_and_keeps_what_is_young() {
        let start = Instant::now();
        let mut policy = Policy::periodic(Duration::from_secs(3 * 3600));
        let mut compactions = Vec::new();
        for look in 0..200i64 {
            // One look every six minutes, ten revisions between two.
            let now = start + Duration::from_secs(360) * look as u32;
            let compacted = compactions.last().map_or(0, |(_, revision)| *revision);
            let (current, compacted) = (Revision::new(1 + 10 * look).unwrap(), Revision::new(compacted).unwrap());
            if let Some(revision) = policy.look(current, compacted, now) {
                compactions.push((look, revision.get()));
                policy.compacted(now);
            }
        }
        // First after three hours, then every hour, at the revision of three hours before.
        assert_eq!(compactions[..3], [(30, 1), (40, 101), (50, 201)]);
    }

    /// Of two members, which look half a minute after each other, the second becomes the leader when the first should
    /// have compacted.
    #[tokio::test(start_paused = true)]
    async fn a_leader_that_follows_another_goes_on_with_its_period() {
        let start = Instant::now();
        let [mut first, mut second] = [(); 2].map(|()| Policy::periodic(Duration::from_secs(600)));
        let (mut compacted, mut compactions) = (Revision::ZERO, Vec::new());
        for look in 0..60i64 {
            let now = start + Duration::from_secs(60) * look as u32;
            let leads = look < 30;
            for (policy, leads, later) in [(&mut first, leads, 0), (&mut second, !leads, 30)] {
                let now = now + Duration::from_secs(later);
                let current = Revision::new(1 + 60 * look + later as i64).unwrap();
                let due = policy.look(current, compacted, now);
                if let Some(revision) = due.filter(|_| leads) {
                    compacted = revision;
                    compactions.push((look, revision.get()));
                    policy.compacted(now);
                }
            }
        }
        assert_eq!(compactions, [(10, 1), (20, 601), (30, 1231), (40, 1831), (50, 2431)]);
    }

    #[tokio::test(start_paused = true)]
    async fn revisions_are_kept_by_number() {
        let mut policy = Policy::Revisions { keep: 100 };
        let mut look = |current| policy.look(Revision::new(current).unwrap(), Revision::ZERO, Instant::now());
        assert_eq!(look(100), None);
        assert_eq!(look(150), Revision::new(50));
    }
}
