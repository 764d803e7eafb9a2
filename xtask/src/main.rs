//! Every command a person needs to work on Stentor. Run `cargo xtask --help`.

mod bench;
mod cargo;
mod chaos;
mod crash;
mod deps;
mod failpoints;
mod features;
mod fuzz;
mod interop;
mod machine;
mod peers;
mod proto;
mod protoc;
mod rocksdb;
mod serve;
mod simulate;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Every command a person needs to work on Stentor.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build, and serve on 127.0.0.1:2379 until Ctrl-C
    Serve(serve::Args),
    /// Run every test, random ones with small counts
    Test(test::Args),
    /// Get the etcd versions that the interop tests talk to
    Peers(peers::Args),
    /// Compare with real etcds by random requests, any number of them
    Interop(interop::Args),
    /// Measure what load costs the server, beside etcd
    Bench(bench::Args),
    /// Kill the server under load, any number of times
    Crash(crash::Args),
    /// Three servers that fail one after the other, under load
    Chaos(chaos::Args),
    /// End the server at each of its failpoints, under load
    Failpoints(failpoints::Args),
    /// Simulate clients, members and faults, and check every watch
    Simulate(simulate::Args),
    /// Check the dependencies: bans, licences, sources, and what no crate may reach
    Deps(deps::Args),
    /// Check that each feature of the client builds alone, and the server with failpoints
    Features(features::Args),
    /// Look for inputs that break a decoder
    Fuzz(fuzz::Args),
    /// Compile proto/ to Rust (checked in; needs no protoc)
    Proto(proto::Args),
    /// Build RocksDB once for this machine and every cargo profile (3 to 5 minutes on 2 cores)
    Rocksdb(rocksdb::Args),
}

fn main() -> ExitCode {
    let result = if protoc::is_asked_for() { protoc::run() } else { run(Cli::parse().command) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Peers(args) => peers::run(&args),
        Command::Interop(args) => interop::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Crash(args) => crash::run(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Failpoints(args) => failpoints::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Deps(args) => deps::run(&args),
        Command::Features(args) => features::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Proto(args) => proto::run(&args),
        Command::Rocksdb(args) => rocksdb::run(&args),
    }
}
