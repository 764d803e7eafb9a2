//! Starts a program that ends with whoever has started it, however that ends.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The command by which this program, at `launcher`, becomes `program` after it has asked for SIGKILL at the end of
/// the thread that starts it.
pub fn command(launcher: &Path, program: &Path) -> Command {
    let mut command = Command::new(launcher);
    command.args(["launch", "--parent", &std::process::id().to_string(), "--"]).arg(program);
    command
}

/// Becomes the program. Does nothing if the parent has ended meanwhile: nobody would end what is started.
///
/// # Errors
/// Always: it only returns when the program can't be started.
pub fn launch(parent: u32, program: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let is_parent = |pid: Pid| u32::try_from(pid.as_raw_nonzero().get()).is_ok_and(|pid| pid == parent);
    if !getppid().is_some_and(is_parent) {
        bail!("whoever started this is gone");
    }
    let [program, arguments @ ..] = program else { bail!("no program") };
    Err(Command::new(program).args(arguments).exec().into())
}
