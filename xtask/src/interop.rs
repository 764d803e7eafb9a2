//! Compares Stentor with real etcds: the same random requests to both, any number of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, machine, peers, protoc, rocksdb};

/// Its settings stand in the root Cargo.toml.
const PROFILE: &str = "--profile=test-fast";

/// Compare Stentor with real etcds by random requests.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Requests a seed
    #[arg(long, default_value_t = 3000)]
    requests: u64,
    /// How many seeds
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// The etcd to compare with; without it, 3.5 and 3.7 where they can be had
    #[arg(long)]
    peer: Option<PathBuf>,
    /// The server to compare, if not the one of this clone: to try the test itself on an etcd
    #[arg(long)]
    server: Option<PathBuf>,
    /// Go on after a difference
    #[arg(long)]
    keep_going: bool,
    /// Print each request and its answer
    #[arg(long)]
    trace: bool,
    /// Only print the made part of docs/differences.md
    #[arg(long)]
    document: bool,
    /// Only run the tests with the crate etcd-client
    #[arg(long)]
    etcd_client: bool,
    /// Install nothing: only name the command that would
    #[arg(long)]
    no_install: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let program = program()?;
    if args.document {
        return machine::run(Command::new(program).arg("document"));
    }
    let server = match &args.server {
        Some(server) => server.clone(),
        None => server(!args.no_install)?,
    };
    if args.etcd_client {
        let environment = BTreeMap::from([("STENTOR_TEST_SERVER".to_owned(), server.display().to_string())]);
        return etcd_client_tests(&environment);
    }
    for peer in args.peers()? {
        println!("against {}", peer.display());
        let mut command = Command::new(&program);
        command.arg("differential").arg("--server").arg(&server).arg("--peer").arg(peer);
        for (name, number) in
            [("--requests", args.requests), ("--seeds", args.seeds), ("--first-seed", args.first_seed)]
        {
            command.arg(name).arg(number.to_string());
        }
        command.args(args.keep_going.then_some("--keep-going"));
        command.args(args.trace.then_some("--trace"));
        machine::run(&mut command)?;
    }
    Ok(())
}

impl Args {
    fn peers(&self) -> Result<Vec<PathBuf>> {
        if let Some(peer) = &self.peer {
            return Ok(vec![peer.clone()]);
        }
        let found = peers::find(!self.no_install)?;
        found.report(false)?;
        let newer = found.peers.into_iter().filter(|peer| peer.release != "3.4");
        let etcds: Vec<PathBuf> = newer.map(|peer| peer.etcd).collect();
        if etcds.is_empty() {
            bail!("no etcd 3.5 or 3.7 could be had: name one with --peer");
        }
        Ok(etcds)
    }
}

/// Builds the program that runs the comparison and the crash test.
pub(crate) fn program() -> Result<PathBuf> {
    built("stentor-interop", &["build", "--locked", "--package=stentor-interop", "--bins", PROFILE])
}

/// Builds the server.
pub(crate) fn server(install: bool) -> Result<PathBuf> {
    rocksdb::ensure(install)?;
    built("stentor", &["build", "--locked", "--package=stentor-server", "--bins", PROFILE])
}

/// The tests with the crate etcd-client. `environment` names the server, as for all tests.
fn etcd_client_tests(environment: &BTreeMap<String, String>) -> Result<()> {
    let mut command = cargo::cargo();
    command.args(["test", "--locked", "--package=stentor-interop", "--features=etcd-client", "--test=interop"]);
    machine::run(protoc::lend(&mut command)?.args([PROFILE, "etcd_client"]).envs(environment))
}

fn built(name: &str, arguments: &[&str]) -> Result<PathBuf> {
    cargo::programs_of(cargo::cargo().args(arguments))?
        .remove(name)
        .with_context(|| format!("no program {name} was built"))
}
