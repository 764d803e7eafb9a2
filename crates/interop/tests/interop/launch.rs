//! What is started by `stentor-interop launch` ends with whoever has started it, even by SIGKILL.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stentor_interop::launch;

const PROGRAM: &str = env!("CARGO_BIN_EXE_stentor-interop");

#[test]
fn a_program_ends_with_its_parent() -> Result<()> {
    let script = format!("{PROGRAM} launch --parent $$ -- sleep 600 & echo $!; wait");
    let mut parent = Command::new("sh").arg("-c").arg(script).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(parent.stdout.take().context("no output")?).read_line(&mut line)?;
    let program = Path::new("/proc").join(line.trim()).join("cmdline");
    let is_there = || std::fs::read(&program).is_ok_and(|words| words.starts_with(b"sleep"));
    until("it does not start", is_there)?;
    parent.kill()?;
    parent.wait()?;
    until("it goes on without its parent", || !is_there())
}

#[test]
fn nothing_is_started_for_a_parent_that_is_gone() -> Result<()> {
    let done = Command::new(PROGRAM).args(["launch", "--parent", "1", "--", "true"]).stderr(Stdio::null()).status()?;
    ensure!(!done.success());
    let done = launch::command(Path::new(PROGRAM), Path::new("true")).status()?;
    ensure!(done.success(), "with its parent it starts");
    Ok(())
}

fn until(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        ensure!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
    Ok(())
}
