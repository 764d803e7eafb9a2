//! The checks behind /health, /livez and /readyz.

use std::fmt::Write as _;
use std::time::Duration;

use super::probe::{Alarm, Probe, ProbeFuture};

/// A read that takes longer counts as failed: the caller would have given up.
const READ_TIME: Duration = Duration::from_secs(5);

/// One check, under the name etcd has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Named for etcd's, but it asks only whether the process works: restarting a member for a slow read makes
    /// an outage worse.
    Alive,
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

/// /livez
pub(super) const LIVE: &[Check] = &[Check::Alive];
/// /readyz
pub(super) const READY: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Check {
    pub(super) fn name(self) -> &'static str {
        match self {
            Check::Alive | Check::SerializableRead => "serializable_read",
            Check::DataCorruption => "data_corruption",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run(self, probe: &dyn Probe) -> Result<(), String> {
        match self {
            Check::Alive => probe.alive(),
            Check::DataCorruption if probe.alarms().contains(&Alarm::Corrupt) => Err("alarm activated: CORRUPT".into()),
            Check::NonLearner if probe.is_learner() => Err("the member is a learner".into()),
            Check::DataCorruption | Check::NonLearner => Ok(()),
            Check::SerializableRead => in_time(probe.serializable_read()).await,
            Check::LinearizableRead => in_time(probe.linearizable_read()).await,
        }
    }
}

/// Runs checks; returns whether all passed, and a line for each.
pub(super) async fn run(probe: &dyn Probe, checks: &[Check]) -> (bool, String) {
    let mut passed = true;
    let mut lines = String::new();
    for check in checks {
        let name = check.name();
        let _ = match check.run(probe).await {
            Ok(()) => writeln!(lines, "[+]{name} ok"),
            Err(why) => {
                passed = false;
                writeln!(lines, "[-]{name} failed: {}", why.replace('\n', " "))
            }
        };
    }
    (passed, lines)
}

/// /health: no alarm but the excluded ones, a leader, and a read. `serializable` asks this member alone.
pub(super) async fn health(probe: &dyn Probe, exclude: &[String], serializable: bool) -> Result<(), String> {
    if let Some(alarm) = probe.alarms().iter().find(|alarm| !exclude.iter().any(|name| name == alarm.name())) {
        return Err(format!("ALARM {}", alarm.name()));
    }
    if serializable {
        return in_time(probe.serializable_read()).await.map_err(|why| format!("RANGE ERROR:{why}"));
    }
    if !probe.has_leader() {
        return Err("RAFT NO LEADER".into());
    }
    in_time(probe.linearizable_read()).await.map_err(|why| format!("RANGE ERROR:{why}"))
}

async fn in_time(read: ProbeFuture<'_>) -> Result<(), String> {
    match tokio::time::timeout(READ_TIME, read).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer in {} s", READ_TIME.as_secs())),
    }
}
