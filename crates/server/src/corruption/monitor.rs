//! The leader compares all members, now and then.

use std::sync::Arc;
use std::time::Duration;

use stentor_mvcc::{Alarm, AlarmKind};
use stentor_proto::Revision;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::compare::{Comparison, Verdict, compare};
use super::{Held, ask_others, held, others};
use crate::config::CorruptionChecks;
use crate::node::Node;
use crate::replication::ProposeError;

/// Stands for nobody in particular in an alarm.
const SOMEBODY: u64 = 0;

/// Why the members could not be compared.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Store(#[from] stentor_mvcc::Error),
    #[error(transparent)]
    Barrier(#[from] ProposeError),
    #[error("revision {} was compacted meanwhile", .0.get())]
    Compacted(Revision),
}

/// Compares the members as often as configured, whenever this one leads, until stopped.
pub(crate) async fn run(node: Arc<Node>, checks: CorruptionChecks, stop: CancellationToken) {
    let (mut newest, mut compacted) = (checks.newest.map(ticks), checks.compacted.map(ticks));
    let mut monitor = Monitor { node, compared: None };
    loop {
        let is_newest = tokio::select! {
            () = stop.cancelled() => return,
            () = next(&mut newest) => true,
            () = next(&mut compacted) => false,
        };
        if monitor.node.is_leader() {
            let check = async {
                if is_newest {
                    monitor.check(None).await;
                } else {
                    monitor.check_compacted().await;
                }
            };
            // A stop does not wait for the others' answers.
            stop.run_until_cancelled(check).await;
        }
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn next(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

struct Monitor {
    node: Arc<Node>,
    /// At this compacted revision all members were found equal.
    compared: Option<Revision>,
}

impl Monitor {
    /// Compares the members at the compacted revision, unless that was done.
    async fn check_compacted(&mut self) {
        let compacted = self.node.store.view().compacted().filter(|revision| *revision > Revision::ZERO);
        let Some(revision) = compacted.filter(|revision| self.compared < Some(*revision)) else { return };
        if self.check(Some(revision)).await {
            self.compared = Some(revision);
        }
    }

    /// Compares the members at a revision, or the newest one, and raises the alarm for those that differ. Returns
    /// whether all were compared and are equal.
    async fn check(&self, at: Option<Revision>) -> bool {
        if others(&self.node).is_empty() {
            return false;
        }
        let metrics = &self.node.metrics.corruption;
        match self.compare(at).await {
            Ok((own, comparison)) => {
                self.log(&own, &comparison);
                let is_complete = comparison.left_out.is_empty();
                match comparison.verdict() {
                    Verdict::Nobody if is_complete => metrics.equal.inc(),
                    Verdict::Nobody => metrics.incomplete.inc(),
                    Verdict::These(members) => {
                        metrics.different.inc();
                        for member_id in members {
                            self.node.raise(Alarm { member_id, kind: AlarmKind::Corrupt }).await;
                        }
                        return false;
                    }
                    Verdict::Somebody => {
                        metrics.different.inc();
                        self.node.raise(Alarm { member_id: SOMEBODY, kind: AlarmKind::Corrupt }).await;
                        return false;
                    }
                };
                is_complete
            }
            Err(error) => {
                metrics.failed.inc();
                warn!(%error, "failed to check hash KV");
                false
            }
        }
    }

    async fn compare(&self, at: Option<Revision>) -> Result<(Held, Comparison), CheckError> {
        let own = held(&self.node, at).await?;
        if own.hash.is_none() {
            return Err(CheckError::Compacted(own.at));
        }
        let others = ask_others(&self.node, &own).await;
        // All that they had applied is here then too.
        self.node.barrier().await?;
        let view = self.node.store.view();
        let (compacted, revision, applied) = (view.compacted(), view.revision(), view.applied().index);
        let later = Held { compacted, revision, applied, ..own };
        Ok((own, compare((self.node.identity().member_id, &own), &later, others)))
    }

    fn log(&self, own: &Held, comparison: &Comparison) {
        let (revision, compact_revision) = (own.at.get(), own.compacted.map_or(-1, Revision::get));
        for (member, why) in &comparison.left_out {
            info!(member = format!("{member:x}"), revision, compact_revision, %why, "a member's hash is not compared");
        }
        if comparison.kinds.len() > 1 {
            for (kind, members) in &comparison.kinds {
                let members = members.iter().map(|member| format!("{member:x}")).collect::<Vec<_>>().join(",");
                let has = format!("{kind:?}");
                error!(members, has, revision, compact_revision, "found hash mismatch");
            }
        }
    }
}
