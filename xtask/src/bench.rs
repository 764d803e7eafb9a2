//! Measures Stentor beside etcd. Slow, and at the mercy of what else the machine does: no part of CI.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cargo, machine, peers, rocksdb};

/// Stentor is compared with this etcd.
const PEER: &str = "3.5";

/// Measure what load costs the server, beside etcd.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(clap::Subcommand)]
enum Kind {
    /// Each target at small sizes, better or worse than etcd: within three minutes
    Quick(Servers),
    /// Everything at the sizes of the targets, written into docs/benchmarks.md: some hours
    Full(Servers),
    /// Any rows, small unless `--full`
    Compare(Servers),
    /// The rows about watchers, small unless `--full`
    Watch(Servers),
    /// The rows about three members, small unless `--full`
    Cluster(Servers),
}

#[derive(clap::Args)]
struct Servers {
    /// The server to measure, if not the one of this clone
    #[arg(long)]
    server: Option<PathBuf>,
    /// The etcd to compare with, if not 3.5
    #[arg(long, conflicts_with = "alone")]
    peer: Option<PathBuf>,
    /// Measure Stentor alone
    #[arg(long)]
    alone: bool,
    /// Install nothing: only name the command that would
    #[arg(long)]
    no_install: bool,
    /// Rows and options, as `stentor-bench` takes them: `--full`, `--rounds N`, `--json FILE`, `put-100`, ...
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (name, args) = match &args.kind {
        Kind::Quick(args) => ("quick", args),
        Kind::Full(args) => ("full", args),
        Kind::Compare(args) => ("compare", args),
        Kind::Watch(args) => ("watch", args),
        Kind::Cluster(args) => ("cluster", args),
    };
    let server = match &args.server {
        Some(server) => server.clone(),
        None => {
            rocksdb::ensure(!args.no_install)?;
            built("stentor", "--package=stentor-server")?
        }
    };
    let mut command = Command::new(built("stentor-bench", "--package=stentor-bench")?);
    command.arg(name).arg("--stentor").arg(server);
    if let Some(peer) = args.peer()? {
        command.arg("--etcd").arg(peer);
    }
    if args.server.is_none() {
        command.args(commit().iter().flat_map(|commit| ["--commit", commit]));
    }
    if name == "full" {
        let docs = machine::workspace_root().join("docs");
        command.arg("--docs").arg(docs.join("benchmarks.md")).arg("--charts").arg(docs.join("benchmarks"));
    }
    machine::run(command.args(&args.rest))
}

/// The commit of this clone, as far as git knows it, marked if something was changed since.
fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.current_dir(machine::workspace_root()).args(["describe", "--always", "--dirty", "--exclude=*"]);
    machine::capture(&mut git).ok().map(|text| text.trim().to_owned())
}

impl Servers {
    fn peer(&self) -> Result<Option<PathBuf>> {
        if self.alone || self.peer.is_some() {
            return Ok(self.peer.clone());
        }
        let found = peers::find(!self.no_install)?;
        found.report(false)?;
        let peer = found.peers.into_iter().find(|peer| peer.release == PEER);
        if peer.is_none() {
            println!("SKIPPED: the comparison with etcd {PEER}");
        }
        Ok(peer.map(|peer| peer.etcd))
    }
}

fn built(name: &str, package: &str) -> Result<PathBuf> {
    cargo::programs_of(cargo::cargo().args(["build", "--locked", "--release", "--bins", package]))?
        .remove(name)
        .with_context(|| format!("no program {name} was built"))
}
