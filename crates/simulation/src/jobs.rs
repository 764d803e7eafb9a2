//! Several processes run at a time. Threads would not do: tokio numbers its tasks throughout a process, and no
//! run may depend on another.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result, ensure};

use crate::reached::Reached;

/// What some runs came to.
#[derive(Default)]
pub(crate) struct Found {
    /// Runs that failed.
    pub(crate) failed: u64,
    /// What all came across.
    pub(crate) reached: Reached,
}

/// Lines of a process that are for the one that has started it begin so.
const MARK: &str = "= ";
const FAILED: &str = "failed";
/// One more run is done.
const RUN: &str = "= run";
/// After so many runs it is said how far all are.
const TOLD_EVERY: u64 = 500;

/// Tells the process that has started this one that a run is done.
pub(crate) fn tell_run() {
    println!("{RUN}");
}

impl Found {
    /// Tells the process that has started this one.
    pub(crate) fn tell(&self) {
        println!("{MARK}{FAILED} {}", self.failed);
        self.reached.rows().iter().for_each(|(name, count)| println!("{MARK}{name} {count}"));
    }

    /// Takes what such a process has told; `None` if that is no such line.
    fn take(&mut self, line: &str) -> Option<()> {
        let (name, count) = line.strip_prefix(MARK)?.split_once(' ')?;
        let place = if name == FAILED { &mut self.failed } else { self.reached.count_of(name)? };
        *place += count.parse::<u64>().ok()?;
        Some(())
    }
}

/// Shares the runs between so many processes, each started with this one's arguments, and passes on what they
/// print. Says now and then how many of them are done.
pub(crate) fn share(jobs: u64, runs: u64) -> Result<Found> {
    let mut children = (0..jobs).map(|part| start(part, jobs)).collect::<Result<Vec<_>>>()?;
    let (lines, printed) = mpsc::channel();
    for child in &mut children {
        let output = child.stdout.take().context("a process without an output")?;
        let lines = lines.clone();
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).all(|line| lines.send(line).is_ok())
        });
    }
    drop(lines);
    let (mut found, mut done) = (Found::default(), 0);
    for line in printed {
        if line == RUN {
            done += 1;
            if done % TOLD_EVERY == 0 && done < runs {
                eprintln!("{done} of {runs} runs");
            }
        } else if found.take(&line).is_none() {
            println!("{line}");
        }
    }
    for mut child in children {
        let status = child.wait()?;
        ensure!(status.success(), "a process of the simulation ended with {status}");
    }
    Ok(found)
}

fn start(part: u64, of: u64) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).args(["--part", &part.to_string(), "--of", &of.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("the simulation can't start itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_tells_the_other_takes() {
        let mut found = Found::default();
        for line in ["= failed 2", "= kills 3", "= kills 4"] {
            assert_eq!(found.take(line), Some(()), "{line}");
        }
        assert_eq!((found.failed, found.reached.kills), (2, 7));
        for line in ["seed 3 failed; repeat it", "= unheard_of 1", "= kills many", "= kills"] {
            assert_eq!(found.take(line), None, "{line}");
        }
    }
}
