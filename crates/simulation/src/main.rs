//! Runs clusters and their clients in a simulated network, with faults drawn from a seed, and checks what every
//! client was told. Started by `cargo xtask simulate`; see docs/client-tests.md.

mod calls;
mod check;
mod ending;
mod faults;
mod jobs;
mod leases;
mod member;
mod operator;
mod place;
mod programs;
mod reached;
mod restore;
mod run;
mod watcher;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::jobs::Found;
use crate::run::{Outcome, run};

/// Simulate clients, members and faults.
#[derive(Parser)]
struct Args {
    /// How many runs
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many of them are run twice, and must be the same
    #[arg(long, default_value_t = 5)]
    twice: u64,
    /// Print what happened in each run
    #[arg(long)]
    trace: bool,
    /// How many processes share the runs; as many as there are processors if not given
    #[arg(long)]
    jobs: Option<u64>,
    /// Which of them this is, started by another one
    #[arg(long, hide = true, requires = "of")]
    part: Option<u64>,
    /// How many they are
    #[arg(long, hide = true, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    of: u64,
}

/// Below this many runs, something rare may be missed by chance.
const ENOUGH: u64 = 300;

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if args.part.is_some() {
        run_part(&args)?.tell();
        return Ok(ExitCode::SUCCESS);
    }
    let begun = Instant::now();
    let processors = || std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let jobs = args.jobs.unwrap_or_else(processors).clamp(1, args.seeds.max(1));
    let Found { failed, reached } = if jobs == 1 { run_part(&args)? } else { jobs::share(jobs, args.seeds)? };
    let millis = begun.elapsed().as_millis() as u64 / args.seeds.max(1);
    println!("{} runs, {failed} failed, {millis} ms each; reached:", args.seeds);
    reached.rows().iter().for_each(|(name, count)| println!("  {count:>9} {name}"));
    let missed = if args.seeds < ENOUGH { Vec::new() } else { reached.missed() };
    if !missed.is_empty() {
        println!("never reached: {}", missed.join(", "));
    }
    Ok(if failed == 0 && missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every so many-th run, from one on.
fn run_part(args: &Args) -> Result<Found> {
    let mut found = Found::default();
    for offset in (args.part.unwrap_or(0)..args.seeds).step_by(usize::try_from(args.of)?) {
        let seed = args.from.saturating_add(offset);
        let outcome = aligned(seed)?;
        if args.trace {
            println!("{}", outcome.trace.join("\n"));
        }
        found.reached.add(&outcome.reached);
        let mut wrong = outcome.wrong;
        if offset < args.twice {
            wrong.extend(difference(&outcome.trace, &aligned(seed)?.trace));
        }
        if !wrong.is_empty() {
            found.failed += 1;
            println!("seed {seed} failed; repeat it with `cargo xtask simulate --seeds 1 --from {seed} --trace`");
            wrong.iter().for_each(|wrong| println!("  {wrong}"));
        }
        if args.part.is_some() {
            jobs::tell_run();
        }
    }
    Ok(found)
}

/// A run that does not depend on those before it: tokio numbers its tasks throughout the process, and a
/// runtime that is dropped drops them in an order that depends on the numbers.
fn aligned(seed: u64) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let number = || async { tokio::task::id().to_string().parse::<u64>() };
    while runtime.block_on(async { tokio::spawn(number()).await })?.context("task ids are no numbers")? % 256 != 255 {}
    Ok(run(seed))
}

/// Where two runs of one seed part.
fn difference(first: &[String], second: &[String]) -> Option<String> {
    let apart = first.iter().zip(second).find(|(a, b)| a != b);
    match apart {
        Some((a, b)) => Some(format!("not the same when run twice:\n    {a}\n    {b}")),
        None if first.len() != second.len() => Some("one of two runs goes on longer".to_owned()),
        None => None,
    }
}
