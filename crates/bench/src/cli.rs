//! What can be said on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use stentor_bench::workload::{Options, Workload};

/// Put load on etcd v3 servers and measure what it costs them
///
/// `stentor-bench put --endpoint 127.0.0.1:2379` is short for `stentor-bench run put ...`; `stentor-bench
/// run --help` lists all workloads.
#[derive(Parser)]
#[command(name = "stentor-bench", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run one workload on a server that runs already
    Run(Run),
    /// Run watch workloads on Stentor and etcd in turn, each started afresh
    Watch(Compare),
    /// Run the workloads of three members on Stentor and etcd in turn, each started afresh
    Cluster(Compare),
    /// Run any workloads on Stentor and etcd in turn, each started afresh
    Compare(Compare),
    /// Say of each target whether Stentor is better or worse than etcd, at small sizes within three minutes
    Quick(Quick),
    /// Measure everything at the sizes of the targets, and write it into a document
    Full(Full),
    /// Write a document of what was measured before
    Report(Report),
}

/// Whom to measure.
#[derive(Args)]
pub(crate) struct Servers {
    /// Stentor's binary
    #[arg(long)]
    pub(crate) stentor: PathBuf,
    /// etcd's binary; without it, Stentor alone is measured
    #[arg(long)]
    pub(crate) etcd: Option<PathBuf>,
    /// The commit that Stentor's binary was built from, to be written down
    #[arg(long)]
    pub(crate) commit: Option<String>,
    /// Also write the figures to this file
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    pub(crate) servers: Servers,
    /// Rounds of each workload; the median counts
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// The sizes of the targets
    #[arg(long)]
    pub(crate) full: bool,
    #[command(flatten)]
    pub(crate) options: Options,
    /// Which; all without any
    pub(crate) workloads: Vec<Workload>,
}

#[derive(Args)]
pub(crate) struct Quick {
    #[command(flatten)]
    pub(crate) servers: Servers,
    /// Seconds in all; what did not run by then is named
    #[arg(long, default_value_t = 175)]
    pub(crate) seconds: u64,
}

/// What to write.
#[derive(Args)]
pub(crate) struct Documents {
    /// The document; what is between its marks is replaced
    #[arg(long)]
    pub(crate) docs: PathBuf,
    /// Where charts and all figures go, a directory beside the document
    #[arg(long)]
    pub(crate) charts: PathBuf,
}

#[derive(Args)]
pub(crate) struct Full {
    #[command(flatten)]
    pub(crate) servers: Servers,
    #[command(flatten)]
    pub(crate) documents: Documents,
    /// Rounds of each workload; the median counts
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Which; all without any
    pub(crate) workloads: Vec<Workload>,
}

#[derive(Args)]
pub(crate) struct Report {
    #[command(flatten)]
    pub(crate) documents: Documents,
    /// Files that other commands wrote with `--json`, of one machine; later ones replace rows of earlier ones
    #[arg(long, required = true, num_args = 1..)]
    pub(crate) json: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Run {
    /// The workload
    pub(crate) workload: Workload,
    /// Where the server listens, address and port; clients share several
    #[arg(long, required = true)]
    pub(crate) endpoint: Vec<SocketAddr>,
    /// Its process on this machine, if not the one that listens at the first endpoint
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// The sizes of the targets
    #[arg(long)]
    pub(crate) full: bool,
    /// Also write the figures to this file
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: Options,
}
