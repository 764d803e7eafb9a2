//! Builds the server and becomes it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cargo, machine, rocksdb};

const ADDRESS: &str = "127.0.0.1:2379";

/// Build and serve on 127.0.0.1:2379 until Ctrl-C.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install nothing: only name the command that would
    #[arg(long)]
    no_install: bool,
    /// Build without optimisation: sooner ready, slower to serve
    #[arg(long)]
    debug: bool,
    /// Flags for the server, after `--`; they win over those set here
    #[arg(last = true)]
    flags: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    rocksdb::ensure(!args.no_install)?;
    let mut build = cargo::cargo();
    build.args(["build", "--locked", "--package=stentor-server", "--package=stentor-cli", "--bins"]);
    if !args.debug {
        build.arg("--release");
    }
    let programs = cargo::programs_of(&mut build)?;
    let server = programs.get("stentor").context("the package stentor-server builds no program `stentor`")?;

    let own_data = machine::workspace_root().join("stentor-data");
    let data = data_dir(&args.flags).unwrap_or_else(|| own_data.clone());
    println!("data:      {} (kept between runs)", data.display());
    if let Some(dir) = programs.get("stentorctl").and_then(|p| p.parent()) {
        println!("stentorctl: export PATH={}:$PATH", dir.display());
    }
    let mut command = Command::new(server);
    command.arg("--data-dir").arg(own_data);
    command.arg(format!("--listen-client-urls=http://{ADDRESS}"));
    command.arg(format!("--advertise-client-urls=http://{ADDRESS}"));
    command.arg("--log-format=console").args(&args.flags);
    println!("$ {}", machine::show(&command));
    println!("serving on {ADDRESS} until Ctrl-C");
    become_it(command)
}

/// The data directory that the flags name, if they do; the last one counts.
fn data_dir(flags: &[OsString]) -> Option<PathBuf> {
    let mut found = None;
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        let text = flag.to_string_lossy();
        let name = text.trim_start_matches('-');
        if name == "data-dir" {
            found = flags.next().map(PathBuf::from);
        } else if let Some(dir) = name.strip_prefix("data-dir=") {
            found = Some(PathBuf::from(dir));
        }
    }
    found
}

/// Replaces this process, so that Ctrl-C, a signal sent to it and the exit code are the server's own.
#[cfg(unix)]
fn become_it(mut command: Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", machine::show(&command)))
}

#[cfg(not(unix))]
fn become_it(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", machine::show(&command)))?;
    std::process::exit(status.code().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_data_directory_wins() {
        let flags = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(data_dir(&flags(&["--name=a"])), None);
        assert_eq!(data_dir(&flags(&["--data-dir=/a", "-data-dir", "/b"])), Some("/b".into()));
        assert_eq!(data_dir(&flags(&["--data-dir", "/a", "--data-dir=/c"])), Some("/c".into()));
    }
}
