//! The load generator's command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;
use stentor_bench::compare::{Comparison, Outcome};
use stentor_bench::target::Target;
use stentor_bench::workload::{Options, Size, Workload};
use stentor_interop::peers::Version;

/// Put load on etcd v3 servers and measure what it costs them
#[derive(Parser)]
#[command(name = "stentor-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run watch workloads on Stentor and etcd in turn, each started afresh
    Watch(Watch),
    /// Run one workload on a server that runs already
    Run(Run),
}

#[derive(clap::Args)]
struct Watch {
    /// Stentor's binary
    #[arg(long)]
    stentor: PathBuf,
    /// etcd's binary; without it, Stentor alone is measured
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// Rounds of each workload; the median counts
    #[arg(long)]
    rounds: Option<usize>,
    /// The sizes of the cost table
    #[arg(long)]
    full: bool,
    /// Also write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// Which; all without any
    workloads: Vec<Workload>,
}

#[derive(clap::Args)]
struct Run {
    /// The workload
    workload: Workload,
    /// Where the server listens, host and port
    #[arg(long)]
    endpoint: SocketAddr,
    /// Its process on this machine
    #[arg(long)]
    pid: u32,
    /// The sizes of the cost table
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        match command {
            Command::Watch(args) => watch(args).await,
            Command::Run(args) => single(args).await,
        }
    })
}

/// What is written to a file: enough to tell later what was measured.
#[derive(Serialize)]
struct Record {
    stentor: String,
    etcd: Option<String>,
    cpus: usize,
    full: bool,
    rounds: usize,
    outcomes: Vec<Outcome>,
}

async fn watch(args: Watch) -> Result<()> {
    let mut options = args.options;
    options.size = if args.full { Size::Full } else { Size::Small };
    let rounds = args.rounds.unwrap_or(if args.full { 3 } else { 1 });
    let mut record = Record {
        stentor: Version::of(&args.stentor)?.to_string(),
        etcd: args.etcd.as_deref().map(Version::of).transpose()?.map(|version| version.to_string()),
        cpus: std::thread::available_parallelism()?.get(),
        full: args.full,
        rounds,
        outcomes: Vec::new(),
    };
    println!("{}; {} CPUs", record.etcd.as_deref().unwrap_or("Stentor alone"), record.cpus);
    let comparison = Comparison { stentor: args.stentor, etcd: args.etcd, rounds, options };
    let all = Workload::value_variants().to_vec();
    for workload in if args.workloads.is_empty() { all } else { args.workloads } {
        let outcome = comparison.run(workload).await?;
        println!("\n{}", outcome.table());
        record.outcomes.push(outcome);
    }
    let worse: Vec<_> = record.outcomes.iter().filter(|o| o.has_worse()).map(|o| o.workload.as_str()).collect();
    println!("\nworse than a bar: {}", if worse.is_empty() { "none".to_owned() } else { worse.join(", ") });
    let Some(path) = args.json else { return Ok(()) };
    let json = serde_json::to_string_pretty(&record)? + "\n";
    std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))
}

async fn single(args: Run) -> Result<()> {
    let mut options = args.options;
    options.size = if args.full { Size::Full } else { Size::Small };
    let mut target = Target::running("server", args.endpoint, args.pid);
    let figures = args.workload.run(&mut target, &options).await?;
    for figure in &figures.0 {
        println!("{:<46}{figure}", figure.name);
    }
    Ok(())
}
