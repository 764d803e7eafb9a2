//! Every command a person needs to work on Stentor. Run `cargo xtask --help`.

mod machine;
mod proto;
mod rocksdb;

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
    /// Compile proto/ to Rust (checked in; needs no protoc)
    Proto(proto::Args),
    /// Build RocksDB once for this machine and every cargo profile (3 to 5 minutes on 2 cores)
    Rocksdb(rocksdb::Args),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Proto(args) => proto::run(&args),
        Command::Rocksdb(args) => rocksdb::run(&args),
    }
}
