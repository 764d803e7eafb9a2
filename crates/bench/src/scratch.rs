//! Where servers keep their data while they are measured, and that neither outlives this program.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Waits until its standard input ends, which it does when the program that started it ends, however that
/// is; then kills every server that has its data in the directory and removes that.
const GUARD: &str = r#"
read -r _
for process in /proc/[0-9]*; do
    words=$(tr '\0' ' ' 2>/dev/null <"$process/cmdline") || continue
    case "$words" in *"--data-dir $STENTOR_BENCH_SCRATCH"*) kill -9 "${process#/proc/}" ;; esac
done
attempt=0
while ! rm -rf -- "$STENTOR_BENCH_SCRATCH" 2>/dev/null && [ $attempt -lt 50 ]; do
    attempt=$((attempt + 1))
    sleep 0.1
done
"#;

/// A directory for all data of this program, with somebody who cleans up behind it.
pub struct Scratch {
    directory: TempDir,
    guard: Child,
}

impl Scratch {
    /// Makes one within the system's place for such (`TMPDIR`).
    ///
    /// # Errors
    /// When it cannot be made, or there is no shell to guard it.
    pub fn new() -> Result<Scratch> {
        let directory =
            tempfile::Builder::new().prefix("stentor-bench-").tempdir().context("cannot make a directory")?;
        let mut command = Command::new("sh");
        command.args(["-c", GUARD]).env("STENTOR_BENCH_SCRATCH", directory.path());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // What a terminal sends to this program's group shall not reach it.
        command.process_group(0);
        let guard = command.spawn().context("cannot start a shell that cleans up")?;
        Ok(Scratch { directory, guard })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Makes it the place of every temporary directory of this process.
    ///
    /// # Errors
    /// When another was made that before.
    pub fn use_for_all(&self) -> Result<()> {
        let taken = tempfile::env::override_temp_dir(self.path());
        taken.map_err(|other| anyhow::anyhow!("temporary directories are in {} already", other.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It fails only if the guard has gone already.
        if let Some(mut input) = self.guard.stdin.take() {
            let _ = input.write_all(b"\n");
        }
        let _ = self.guard.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn what_is_left_is_killed_and_removed() {
        let scratch = Scratch::new().unwrap();
        let other = Scratch::new().unwrap();
        let data = |scratch: &Scratch| scratch.path().join("server").join("data");
        // Stands for a server; the argument that names its data is all that is known of it.
        let server = |data: &Path| {
            std::fs::create_dir_all(data).unwrap();
            std::fs::write(data.join("log"), "x").unwrap();
            let mut command = Command::new("sh");
            command.args(["-c", "read -r _", "server", "--data-dir"]).arg(data).stdin(Stdio::piped());
            command.spawn().unwrap()
        };
        let (mut left, mut others) = (server(&data(&scratch)), server(&data(&other)));
        let path = scratch.path().to_path_buf();
        drop(scratch);
        assert_eq!(left.wait().unwrap().signal(), Some(9));
        assert!(!path.exists());
        assert!(data(&other).join("log").exists(), "another's is left alone");
        drop(others.stdin.take());
        assert_eq!(others.wait().unwrap().signal(), None);
    }
}
