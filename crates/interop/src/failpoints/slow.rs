//! Members whose disks are slow, by a point before each sync of the log at which they wait.

use anyhow::{Result, ensure};

use super::members::Cluster;
use crate::crash::Report;

/// Before the log is synced.
const SYNC: &str = "walBeforeSync";
/// Longer than an election timeout.
const SLOW: &str = "sleep(3000)";
/// Writes beside a slow disk.
const WRITES: u64 = 200;
/// Writes by the member whose disk it is, at most one for each of its syncs.
const WRITES_BY_THE_SLOW: u64 = 3;
/// Waits of a follower during those, at most: it is not waited for, and takes in what has come meanwhile by one sync.
const WAITS: u64 = 20;

impl Cluster {
    /// A follower that is slow slows nobody, and has everything in the end.
    pub(super) async fn slow_follower(&mut self, report: &mut Report) -> Result<()> {
        let follower = self.follower().await?;
        self.controls[follower].set(SYNC, SLOW)?;
        self.write(WRITES).await?;
        let waits = self.controls[follower].count(SYNC)?;
        ensure!((1..=WAITS).contains(&waits), "{WRITES} writes, and the follower waited {waits} times");
        self.controls[follower].clear(SYNC)?;
        self.check(follower).await?;
        report.add("writes beside a slow follower", WRITES as usize);
        Ok(())
    }

    /// A leader that is slow loses nothing, and the others go on: reads through them see all that was acknowledged.
    pub(super) async fn slow_leader(&mut self, report: &mut Report) -> Result<()> {
        let slow = self.leader().await?;
        self.controls[slow].set(SYNC, SLOW)?;
        // It takes these before or after it has lost the lead; then it answers when its own disk has them.
        self.write(WRITES_BY_THE_SLOW).await?;
        ensure!(self.controls[slow].count(SYNC)? > 0, "its disk was not slow");
        let leader = self.leader().await?;
        ensure!(leader != slow, "it leads still");
        self.write(WRITES).await?;
        for other in (0..3).filter(|member| *member != slow) {
            self.check(other).await?;
        }
        self.controls[slow].clear(SYNC)?;
        self.check(slow).await?;
        report.add("writes beside a leader that was slow", WRITES as usize);
        Ok(())
    }
}
