//! Runs three servers that fail one after the other.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{interop, machine};

/// Run a cluster of three under load, let its members, links and disks fail, and check all that it told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long faults go on, up to an hour; longer if one of them has not happened yet
    #[arg(long, default_value_t = 3)]
    minutes: u64,
    /// Seed of the load and of the faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The server, if not the one of this clone
    #[arg(long)]
    server: Option<PathBuf>,
    /// Install nothing: only name the command that would
    #[arg(long)]
    no_install: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let program = interop::program()?;
    let server = match &args.server {
        Some(server) => server.clone(),
        None => interop::server(!args.no_install)?,
    };
    let (minutes, seed) = (args.minutes.to_string(), args.seed.to_string());
    let mut command = Command::new(program);
    command.arg("chaos").arg("--server").arg(server).args(["--minutes", &minutes, "--seed", &seed]);
    machine::run(&mut command)
}
