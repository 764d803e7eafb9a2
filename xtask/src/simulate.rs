//! Runs clusters and their clients in a simulated network.

use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::{cargo, machine};

/// Simulate clusters, clients and faults, each run from a seed, and check every answer and every watch.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    seeds: u32,
    /// The first seed; fresh if not given
    #[arg(long)]
    from: Option<u64>,
    /// Print what happened in each run
    #[arg(long)]
    trace: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs());
    let from = args.from.map_or_else(fresh, Ok).context("the clock stands before 1970")?;
    let mut command = simulation(args.seeds, from)?;
    command.args(args.trace.then_some("--trace"));
    machine::run(&mut command)
}

/// With it, turmoil seeds the chance that tokio itself draws on, without which no run repeats itself.
pub(crate) const RUSTFLAGS: &str = "--cfg tokio_unstable";

/// The simulation, optimised for many runs: built in a directory of its own, since the flag changes every
/// package.
fn simulation(seeds: u32, from: u64) -> Result<Command> {
    let metadata = cargo::metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo knows no target directory")?;
    let mut command = cargo::cargo();
    command.args(["run", "--locked", "--quiet", "--package=stentor-simulation", "--profile=simulate"]);
    command.arg("--target-dir").arg(PathBuf::from(target).join("simulation"));
    command.arg("--").args(seeds_from(seeds, from)).env("RUSTFLAGS", RUSTFLAGS);
    Ok(command)
}

/// The program's arguments for so many seeds.
pub(crate) fn seeds_from(seeds: u32, from: u64) -> [String; 4] {
    ["--seeds".to_owned(), seeds.to_string(), "--from".to_owned(), from.to_string()]
}
