//! Runs the fuzz targets for longer than tests do.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::{cargo, machine, rocksdb};

const PACKAGE: &str = "--package=stentor-fuzz";

/// Look for inputs that break a decoder: with libFuzzer where cargo-bolero and nightly are there.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Random inputs only, even where libFuzzer could run
    #[arg(long)]
    random: bool,
    /// Where randomness starts (random inputs only); fresh if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Install nothing: only name the command that would
    #[arg(long)]
    no_install: bool,
    /// Only targets whose name contains this
    filter: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    rocksdb::ensure(!args.no_install)?;
    if args.random {
        return random(args);
    }
    match missing_tool() {
        None => libfuzzer(args),
        Some(missing) => {
            println!("SKIPPED: libFuzzer: {missing}. Random inputs instead");
            random(args)
        }
    }
}

/// What libFuzzer needs and is not there.
fn missing_tool() -> Option<&'static str> {
    if machine::on_path("cargo-bolero").is_none() {
        return Some("cargo-bolero is not installed (cargo install --locked cargo-bolero)");
    }
    let toolchains = machine::capture(std::process::Command::new("rustup").args(["toolchain", "list"]));
    let nightly = toolchains.is_ok_and(|list| list.lines().any(|line| line.starts_with("nightly")));
    (!nightly).then_some("no nightly toolchain (rustup toolchain install nightly)")
}

/// The same tests as in `cargo test`, for longer and from a fresh seed.
fn random(args: &Args) -> Result<()> {
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs());
    let seed = args.seed.map_or_else(fresh, Ok).context("the clock stands before 1970")?;
    println!("seed {seed}");
    let mut tests = cargo::cargo();
    tests.args(["test", "--locked", "--profile=fuzz", PACKAGE, "--test=fuzz"]);
    tests.args(["--", "--nocapture"]).args(&args.filter);
    tests.env("STENTOR_FUZZ_SECONDS", args.seconds.to_string()).env("STENTOR_SEED", seed.to_string());
    machine::run(&mut tests)
}

/// Coverage-guided, one target after the other. What a run found interesting is kept for the next.
fn libfuzzer(args: &Args) -> Result<()> {
    let kept = machine::cache_dir()?.join("fuzz");
    let (corpus, crashes) = (kept.join("corpus"), kept.join("crashes"));
    let names = machine::capture(cargo::cargo().args(["run", "--locked", "--quiet", PACKAGE, "--"]).arg(&corpus))?;
    let wanted = |name: &&str| args.filter.as_deref().is_none_or(|filter| name.contains(filter));
    for name in names.lines().filter(wanted) {
        println!("==> {name}");
        std::fs::create_dir_all(crashes.join(name))?;
        let mut bolero = cargo::cargo();
        bolero.args(["bolero", "test", PACKAGE, "--toolchain=nightly", "--engine=libfuzzer"]);
        bolero.args(["-T", &format!("{}s", args.seconds)]);
        bolero.arg("--target-dir").arg(kept.join("target"));
        bolero.arg("--corpus-dir").arg(corpus.join(name)).arg("--crashes-dir").arg(crashes.join(name)).arg(name);
        // The nightly toolchain's own rustc, not the one that cargo handed to this program.
        bolero.env_remove("RUSTC").env_remove("RUSTDOC").env_remove("RUSTUP_TOOLCHAIN");
        machine::run(&mut bolero).with_context(|| {
            format!(
                "{name} fails; `cargo test -p stentor-fuzz` has to, once the input in {} is a sample",
                kept.display()
            )
        })?;
    }
    Ok(())
}
