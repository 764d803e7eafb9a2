//! Which binaries there are to test with, by environment variable. Without them a test is skipped,
//! and says so.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The server under test: Stentor, or an etcd to prove the tests on.
pub const SERVER: &str = "STENTOR_TEST_SERVER";
/// Stentor's own command line tool.
pub const CTL: &str = "STENTOR_TEST_CTL";
/// etcd servers, oldest first.
pub const ETCDS: [&str; 3] = ["STENTOR_TEST_ETCD_34", "STENTOR_TEST_ETCD_35", "STENTOR_TEST_ETCD_37"];
/// etcdctl, oldest first.
pub const ETCDCTLS: [&str; 3] = ["STENTOR_TEST_ETCDCTL_34", "STENTOR_TEST_ETCDCTL_35", "STENTOR_TEST_ETCDCTL_37"];

/// The binary that an environment variable names.
pub fn binary(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(variable).filter(|value| !value.is_empty())?);
    if path.is_file() {
        return Some(path);
    }
    skipped(&format!("{variable} names {}, which is not a file", path.display()));
    None
}

/// Says on standard error, past the test harness's capture, that something was not tested.
pub fn skipped(what: &str) {
    // Nothing can be done about a standard error that is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// The binary of `variable`, or a visible line that `test` was skipped for want of it.
pub fn required(variable: &str, test: &str) -> Option<PathBuf> {
    let found = binary(variable);
    if found.is_none() {
        skipped(&format!("{test}: {variable} is not set"));
    }
    found
}

/// The number that an environment variable holds, or another.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// What a server says of itself: whose it is, and which etcd it is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Whether it is Stentor; otherwise it is etcd.
    pub stentor: bool,
    /// Major, minor, patch of the etcd it says to be.
    pub number: (u16, u16, u16),
}

impl Version {
    /// Asks a server binary with `--version`.
    ///
    /// # Errors
    /// When it cannot be run or its first line is not `etcd Version: MAJOR.MINOR.PATCH`.
    pub fn of(binary: &Path) -> Result<Version> {
        let output = Command::new(binary).arg("--version").output();
        let output = output.with_context(|| format!("cannot run {}", binary.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = parse(&text).with_context(|| format!("{} --version says: {text}", binary.display()))?;
        Ok(Version { stentor: text.to_lowercase().contains("stentor"), number })
    }

    /// Whether it is an etcd older than `number`. Stentor is like the newest.
    pub fn is_etcd_before(self, number: (u16, u16, u16)) -> bool {
        !self.stentor && self.number < number
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.number;
        let name = if self.stentor { "Stentor as etcd" } else { "etcd" };
        write!(f, "{name} {major}.{minor}.{patch}")
    }
}

fn parse(text: &str) -> Option<(u16, u16, u16)> {
    let number = text.lines().next()?.strip_prefix("etcd Version: ")?;
    let mut parts = number.trim().split(['.', '-', '+']).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_lines() {
        assert_eq!(parse("etcd Version: 3.7.3\nGit SHA: x"), Some((3, 7, 3)));
        assert_eq!(parse("etcd Version: 3.6.0-rc.1\n"), Some((3, 6, 0)));
        assert_eq!(parse("etcdctl version: 3.7.3"), None);
    }
}
