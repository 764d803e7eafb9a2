//! Runs the differential test or the crash test any number of times. `cargo xtask interop` and
//! `cargo xtask crash` find the binaries and call it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use stentor_interop::differential::{Coverage, ENOUGH, Options, document, run};
use stentor_interop::{chaos, crash, failpoints, launch};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The same random requests to two servers
    Differential(Differential),
    /// kill -9 under load
    Crash(Crash),
    /// Three servers that fail one after the other, under load
    Chaos(Chaos),
    /// An end at each failpoint
    Failpoints(Failpoints),
    /// Print the made part of docs/differences.md
    Document,
    /// Become a program that ends with whoever has started it
    #[command(hide = true)]
    Launch(Launch),
}

#[derive(clap::Args)]
struct Differential {
    /// The server that is right: an etcd
    #[arg(long)]
    peer: PathBuf,
    /// The server under test
    #[arg(long)]
    server: PathBuf,
    /// Requests a seed
    #[arg(long, default_value_t = 3000)]
    requests: u64,
    /// How many seeds
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Go on after a difference
    #[arg(long)]
    keep_going: bool,
    /// Print each request and its answer
    #[arg(long)]
    trace: bool,
}

#[derive(clap::Args)]
struct Crash {
    /// The server to kill
    #[arg(long)]
    server: PathBuf,
    /// How often
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    /// Seed of the load and of the moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(clap::Args)]
struct Chaos {
    /// The server to start three times
    #[arg(long)]
    server: PathBuf,
    /// How long faults go on
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    minutes: u64,
    /// Seed of the load and of the faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Disks can be mounted that nobody else sees
    #[arg(long, hide = true)]
    own_mounts: bool,
}

#[derive(clap::Args)]
struct Failpoints {
    /// The server to end, built with failpoints
    #[arg(long)]
    server: PathBuf,
    /// Seed of the load
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(clap::Args)]
struct Launch {
    /// The process that starts this
    #[arg(long)]
    parent: u32,
    /// The program and its arguments
    #[arg(required = true, last = true)]
    program: Vec<OsString>,
}

fn main() -> ExitCode {
    match begin(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Servers end with the thread that starts them, so there is but one.
fn begin(command: Command) -> Result<()> {
    if matches!(&command, Command::Chaos(args) if !args.own_mounts) {
        let again = std::env::args_os().skip(1).chain(["--own-mounts".into()]);
        chaos::become_mounter(again)?;
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run_command(command))
}

async fn run_command(command: Command) -> Result<()> {
    match command {
        Command::Differential(args) => differential(args).await,
        Command::Crash(args) => {
            let options = crash::Options { server: args.server, rounds: args.rounds, seed: args.seed };
            crash::run(&options).await.map(|report| print!("{report}"))
        }
        Command::Chaos(args) => {
            let options = chaos::Options {
                server: args.server,
                minutes: args.minutes,
                seed: args.seed,
                launcher: std::env::current_exe()?,
                own_mounts: args.own_mounts,
            };
            chaos::run(&options).await.map(|report| print!("{report}"))
        }
        Command::Failpoints(args) => {
            let options = failpoints::Options { server: args.server, seed: args.seed };
            failpoints::run(&options).await.map(|report| print!("{report}"))
        }
        Command::Launch(args) => launch::launch(args.parent, &args.program),
        Command::Document => {
            print!("{}", document());
            Ok(())
        }
    }
}

async fn differential(args: Differential) -> Result<()> {
    let mut coverage = Coverage::default();
    let mut found = 0;
    for seed in args.first_seed..args.first_seed.saturating_add(args.seeds) {
        let options = Options {
            reference: args.peer.clone(),
            subject: args.server.clone(),
            seed,
            requests: args.requests,
            keep_going: args.keep_going,
            trace: args.trace,
        };
        let report = run(&options).await?;
        coverage.merge(&report.coverage);
        found += report.differences.len();
        for difference in &report.differences {
            println!("{difference}\n");
        }
        println!("seed {seed}: {} requests, {} differences", report.coverage.requests(), report.differences.len());
        if report.stalled && !report.differences.is_empty() {
            println!("seed {seed}: the machine stood still, so leases may have expired; run it again");
        }
        if found > 0 && !args.keep_going {
            break;
        }
    }
    println!("{coverage}");
    let missing = coverage.missing();
    if coverage.requests() >= ENOUGH && !missing.is_empty() {
        bail!("never reached: {}", missing.join(", "));
    }
    if found > 0 {
        bail!("{found} differences");
    }
    Ok(())
}
