//! Small disks that can be filled: file systems in memory, seen by this run alone, so that none outlives it.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Ten times what a member takes.
const SIZE: &str = "size=64m";
/// What fills a disk, beside the member's data.
const FILLER: &str = "filler";
/// How mounts can be made that nobody else sees: as root, or as one who is root to nobody else.
const UNSHARE: [&[&str]; 2] =
    [&["--mount", "--propagation", "private"], &["--mount", "--propagation", "private", "--user", "--map-root-user"]];

/// Becomes this program again, with `arguments`, where it can mount disks that end with it. Returns if nobody lets it.
pub fn become_mounter(arguments: impl IntoIterator<Item = OsString>) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let can_mount = |flags: &&&[&str]| {
        let mut command = Command::new("unshare");
        command.args(**flags).args(["mount", "-t", "tmpfs", "-o", SIZE, "stentor-chaos"]).arg(directory.path());
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let Some(flags) = UNSHARE.iter().find(can_mount) else { return Ok(()) };
    directory.close()?;
    let failed = Command::new("unshare").args(*flags).arg(std::env::current_exe()?).args(arguments).exec();
    Err(failed).context("cannot start unshare")
}

/// A mounted disk.
pub(super) struct Disk(PathBuf);

impl Disk {
    /// Mounts one at a new directory.
    pub(super) fn mount(at: &Path) -> Result<Disk> {
        fs::create_dir(at)?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "stentor-chaos"]).arg(at).status()?;
        ensure!(mounted.success(), "cannot mount a disk at {}: {mounted}", at.display());
        Ok(Disk(at.to_path_buf()))
    }

    /// Leaves no room on it, nor what became free since the last time.
    pub(super) fn fill(&self) -> Result<()> {
        let mut filler = OpenOptions::new().create(true).append(true).open(self.0.join(FILLER))?;
        let mut piece = &[0; 256 << 10][..];
        while !piece.is_empty() {
            match filler.write(piece) {
                Ok(1..) => {}
                // A smaller piece may still find room.
                Err(error) if error.kind() == ErrorKind::StorageFull => piece = &piece[..piece.len() / 2],
                Ok(_) => piece = &[],
                Err(error) => return Err(error).context("cannot fill the disk"),
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub(super) fn free(&self) -> Result<()> {
        fs::remove_file(self.0.join(FILLER)).context("cannot free the disk")
    }

    /// Copies what is on it to where it outlives this run.
    pub(super) fn keep(&self, to: &Path) {
        // It is for whoever looks into a failure, which this must not hide.
        let _ = Command::new("cp").arg("-a").arg(&self.0).arg(to).status();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Else it ends with this process.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
