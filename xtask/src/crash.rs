//! Kills Stentor under load, any number of times.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{interop, machine};

/// Kill the server under load, and look for everything it acknowledged.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    /// Seed of the load and of the moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The server to kill, if not the one of this clone: to try the test itself on an etcd
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
    let (rounds, seed) = (args.rounds.to_string(), args.seed.to_string());
    let mut command = Command::new(program);
    command.arg("crash").arg("--server").arg(server).args(["--rounds", &rounds, "--seed", &seed]);
    machine::run(&mut command)
}
