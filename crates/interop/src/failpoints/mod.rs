//! An end at each failpoint: it is set to `panic`, work goes on until the process has ended there, and after
//! a restart everything that was acknowledged is looked for.
//!
//! The server says which points it has. One that no work here reaches is an error.

mod alone;
mod control;
mod members;
mod slow;

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::crash::Report;

/// How long work goes on before a point counts as out of reach.
const REACH: Duration = Duration::from_secs(60);
/// How soon to look again at a member that is coming up.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const SIGABRT: i32 = 6;

/// What to run.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Options {
    /// Built with failpoints.
    pub server: PathBuf,
    pub seed: u64,
}

/// What is done, beside writes, so that a point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Nothing.
    Writes,
    /// Compactions that wait for their space.
    Compact,
    Defragment,
    /// Ranges in chunks.
    Stream,
    /// Learners are added and removed.
    Members,
    /// As writes, in a cluster, on a member that does not lead.
    Follow,
    /// In a cluster, a member has missed so much that it needs the whole store.
    Lag,
}

/// The work that reaches a point.
fn work_for(point: &str) -> Work {
    match point {
        "defragBeforeCopy" => Work::Defragment,
        "beforeRangeStreamChunk" => Work::Stream,
        "beforeApplyOneConfChange" => Work::Members,
        "raftBeforeFollowerSend" => Work::Follow,
        "raftBeforeApplySnap" | "raftAfterApplySnap" | "applyBeforeOpenSnapshot" => Work::Lag,
        compaction if compaction.starts_with("compact") => Work::Compact,
        _ => Work::Writes,
    }
}

/// Ends the server at each of its points.
///
/// # Errors
/// With the point when it is not reached, when something acknowledged is gone, or anything disagrees.
pub async fn run(options: &Options) -> Result<Report> {
    let mut report = Report::default();
    let rest = alone::run(options, &mut report).await?;
    members::run(options, &rest, &mut report).await?;
    Ok(report)
}

/// The process ended at this point and nowhere else.
fn check_end(point: &str, status: ExitStatus, log: &str) -> Result<()> {
    let says_so = |line: &str| line.contains("a failpoint ends the process") && line.contains(point);
    let ended_there = status.signal() == Some(SIGABRT) && log.lines().any(says_so);
    ensure!(ended_there, "it ended with {status}, not at {point}; its log ends:\n{log}");
    Ok(())
}
