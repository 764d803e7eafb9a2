//! Ends Stentor at each of its failpoints.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{cargo, machine, rocksdb, simulate};

/// Build the server with failpoints, end it at each of them, and look for everything it acknowledged.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seed of the load
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Install nothing: only name the command that would
    #[arg(long)]
    no_install: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    rocksdb::ensure(!args.no_install)?;
    let mut build = cargo::cargo();
    build.args(["build", "--locked", "--package=stentor-server", "--package=stentor-interop", "--bins"]);
    // The profile and the flags of `cargo xtask test`, so that dependencies are built once for both.
    build.args(["--features=stentor-server/failpoints", "--profile=test-fast"]).env("RUSTFLAGS", simulate::RUSTFLAGS);
    let programs = cargo::programs_of(&mut build)?;
    let program = |name: &str| programs.get(name).with_context(|| format!("no program {name} was built"));
    let mut command = Command::new(program("stentor-interop")?);
    command.arg("failpoints").arg("--server").arg(program("stentor")?).args(["--seed", &args.seed.to_string()]);
    machine::run(&mut command)
}
