//! Runs every test, with what they need from this machine.
//!
//! Tests learn of all that through the environment:
//!
//! | variable | meaning |
//! |---|---|
//! | `STENTOR_CASES` | cases of each property test on the memory engine |
//! | `STENTOR_ROCKSDB_CASES` | cases of each property test on RocksDB |
//! | `STENTOR_INTEROP_REQUESTS` | random requests compared with a real etcd |
//! | `STENTOR_CRASH_ROUNDS` | rounds of kill -9 under load |
//! | `STENTOR_SCHEDULES` | orders of threads that each test of interleavings tries |
//! | `STENTOR_CLUSTER_SEEDS` | simulated clusters of replicas, message by message |
//! | `STENTOR_SIMULATED_RUNS` | runs in a simulated network, from seed `STENTOR_SEED` on |
//! | `STENTOR_CHAOS_MINUTES` | how long the processes of a cluster fail one after the other; none with 0 |
//! | `STENTOR_FUZZ_CASES` | random inputs for each fuzz target |
//! | `STENTOR_SEED` | where randomness starts; unset, each test has its own fixed seed |
//! | `STENTOR_TEST_CHECK_PERF` | run what takes minutes and tells little (`--full` alone) |
//! | `STENTOR_TEST_SERVER`, `STENTOR_TEST_CTL` | the programs `stentor` and `stentorctl` |
//! | `STENTOR_TEST_ETCD_34`, `STENTOR_TEST_ETCDCTL_34`, ... | the peers, where they could be had |

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::{cargo, machine, peers, protoc, rocksdb, simulate};

/// Run every test, random ones with small counts.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The counts of CI; and a packaged etcd that cannot be had is a failure
    #[arg(long, conflicts_with = "full")]
    ci: bool,
    /// The counts before a release, from a fresh seed (hours)
    #[arg(long)]
    full: bool,
    /// Start randomness here, as a failed run printed it
    #[arg(long)]
    seed: Option<u64>,
    /// Install nothing: only name the command that would
    #[arg(long)]
    no_install: bool,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// How much of each random test is run.
struct Counts {
    cases: u32,
    rocksdb_cases: u32,
    interop_requests: u32,
    crash_rounds: u32,
    fuzz_cases: u32,
    schedules: u32,
    cluster_seeds: u32,
    simulated_runs: u32,
    chaos_minutes: u32,
}

const SIMULATED_RUNS: &str = "STENTOR_SIMULATED_RUNS";
const CHAOS_MINUTES: &str = "STENTOR_CHAOS_MINUTES";
/// Where chaos starts, unless `STENTOR_SEED` says otherwise.
const CHAOS_SEED: &str = "1";

const QUICK: Counts = Counts {
    cases: 1_000,
    rocksdb_cases: 50,
    interop_requests: 500,
    crash_rounds: 2,
    fuzz_cases: 2_000,
    schedules: 1_000,
    cluster_seeds: 100,
    simulated_runs: 40,
    chaos_minutes: 0,
};
const CI: Counts = Counts {
    cases: 20_000,
    rocksdb_cases: 500,
    interop_requests: 3_000,
    crash_rounds: 10,
    fuzz_cases: 20_000,
    schedules: 20_000,
    cluster_seeds: 500,
    simulated_runs: 1_000,
    chaos_minutes: 3,
};
const FULL: Counts = Counts {
    cases: 200_000,
    rocksdb_cases: 5_000,
    interop_requests: 20_000,
    crash_rounds: 200,
    fuzz_cases: 1_000_000,
    schedules: 1_000_000,
    cluster_seeds: 50_000,
    simulated_runs: 10_000,
    chaos_minutes: 60,
};

impl Counts {
    fn variables(&self) -> [(&'static str, u32); 9] {
        [
            ("STENTOR_CASES", self.cases),
            ("STENTOR_ROCKSDB_CASES", self.rocksdb_cases),
            ("STENTOR_INTEROP_REQUESTS", self.interop_requests),
            ("STENTOR_CRASH_ROUNDS", self.crash_rounds),
            ("STENTOR_FUZZ_CASES", self.fuzz_cases),
            ("STENTOR_SCHEDULES", self.schedules),
            ("STENTOR_CLUSTER_SEEDS", self.cluster_seeds),
            (SIMULATED_RUNS, self.simulated_runs),
            (CHAOS_MINUTES, self.chaos_minutes),
        ]
    }
}

/// Its settings stand in the root Cargo.toml: quick to build, and the random tests run several times faster.
const PROFILE: &str = "--profile=test-fast";

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = Steps { silence: args.ci.then_some(SILENCE), ..Steps::default() };
    steps.must("packages and RocksDB", || rocksdb::ensure(!args.no_install))?;
    let found = steps.must("other etcd versions", || peers::find(!args.no_install))?;
    found.report(args.ci)?;
    let programs = steps.must("build the tests", build)?;

    let mut environment = args.counts_and_seed()?;
    for (variable, name) in [("STENTOR_TEST_SERVER", "stentor"), ("STENTOR_TEST_CTL", "stentorctl")] {
        let program = programs.get(name).with_context(|| format!("no program {name} was built"))?;
        environment.insert(variable.into(), program.display().to_string());
    }
    for peer in &found.peers {
        environment.extend(peer.variables().map(|(name, path)| (name, path.display().to_string())));
    }
    for (name, value) in &environment {
        println!("{name}={value}");
    }

    let filter = args.filter.as_deref();
    steps.try_tests("tests", selection()?.arg("--no-fail-fast").envs(&environment), filter)?;
    steps.try_tests("interleavings", interleavings()?.envs(&environment), filter)?;
    if filter.is_none() {
        let runs = environment.get(SIMULATED_RUNS).map_or(Ok(0), |n| n.parse())?;
        let from = environment.get("STENTOR_SEED").map_or(Ok(0), |n| n.parse())?;
        let mut simulation = Command::new(programs.get("stentor-simulation").context("no simulation was built")?);
        steps.try_tests("simulation", simulation.args(simulate::seeds_from(runs, from)), None)?;
        if let Some(mut chaos) = chaos(&programs, &environment)? {
            steps.try_tests("chaos", &mut chaos, None)?;
        }
    }
    steps.try_tests("tests of xtask", cargo::cargo().args(["test", "--locked", "--package=xtask"]), filter)?;
    steps.finish(&found.missing())
}

/// A cluster of processes that fail one after the other, if it is to be run.
fn chaos(programs: &BTreeMap<String, PathBuf>, environment: &BTreeMap<String, String>) -> Result<Option<Command>> {
    let minutes = environment.get(CHAOS_MINUTES).map_or("0", String::as_str);
    if minutes == "0" {
        return Ok(None);
    }
    let program = |name: &str| programs.get(name).with_context(|| format!("no program {name} was built"));
    let seed = environment.get("STENTOR_SEED").map_or(CHAOS_SEED, String::as_str);
    let mut command = Command::new(program("stentor-interop")?);
    command.arg("chaos").arg("--server").arg(program("stentor")?).args(["--minutes", minutes, "--seed", seed]);
    Ok(Some(command))
}

/// All packages but this one, which is built already, in another profile.
fn selection() -> Result<Command> {
    let mut command = cargo::cargo();
    command.args(["test", "--locked", "--workspace", "--exclude=xtask", "--features=stentor-interop/etcd-client"]);
    command.arg("--features=stentor-client/tls-ring,stentor-client/tls-native-roots,stentor-client/tls-webpki-roots");
    command.arg("--features=stentor-client/rustls-0_23,stentor-client/dangerous");
    protoc::lend(command.arg(PROFILE).env("RUSTFLAGS", simulate::RUSTFLAGS))?;
    Ok(command)
}

/// The tests of stentor-watch in which shuttle orders the threads. The flag changes every package, so that
/// they are built in a directory of their own.
fn interleavings() -> Result<Command> {
    let metadata = cargo::metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo knows no target directory")?;
    let mut command = cargo::cargo();
    command.args(["test", "--locked", "--package=stentor-watch", "--test=interleavings", PROFILE]);
    command.arg("--target-dir").arg(PathBuf::from(target).join("shuttle")).env("RUSTFLAGS", "--cfg shuttle");
    Ok(command)
}

/// Builds every test, and the programs that tests start, in one go.
fn build() -> Result<BTreeMap<String, PathBuf>> {
    let mut programs = cargo::programs_of(selection()?.arg("--no-run"))?;
    // cargo builds a package's programs here only if that package has tests in tests/.
    for (name, package) in [("stentor", "--package=stentor-server"), ("stentorctl", "--package=stentor-cli")] {
        if !programs.contains_key(name) {
            programs
                .extend(cargo::programs_of(cargo::cargo().args(["build", "--locked", "--bins", PROFILE, package]))?);
        }
    }
    Ok(programs)
}

impl Args {
    fn counts_and_seed(&self) -> Result<BTreeMap<String, String>> {
        let counts = match (self.ci, self.full) {
            (true, _) => CI,
            (_, true) => FULL,
            _ => QUICK,
        };
        let mut variables = BTreeMap::new();
        for (name, count) in counts.variables() {
            // What the caller set wins.
            let value = std::env::var(name).unwrap_or_else(|_| count.to_string());
            variables.insert(name.to_owned(), value);
        }
        if self.full {
            variables.insert("STENTOR_TEST_CHECK_PERF".to_owned(), "1".to_owned());
        }
        let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs());
        let seed = match self.seed {
            None if self.full => Some(fresh().context("the clock stands before 1970")?),
            given => given,
        };
        if let Some(seed) = seed {
            println!("seed {seed}: repeat this run with `cargo xtask test{} --seed {seed}`", self.level());
            variables.insert("STENTOR_SEED".to_owned(), seed.to_string());
        }
        Ok(variables)
    }

    fn level(&self) -> &'static str {
        match (self.ci, self.full) {
            (true, _) => " --ci",
            (_, true) => " --full",
            _ => "",
        }
    }
}

/// How long tests may print nothing in CI, where nobody is there to end one that hangs.
const SILENCE: Duration = Duration::from_secs(20 * 60);

/// What was run, and how it went.
#[derive(Default)]
struct Steps {
    /// A command that prints nothing for so long is ended.
    silence: Option<Duration>,
    rows: Vec<(&'static str, u64, bool)>,
    tally: Tally,
}

/// Sums of cargo test's closing lines.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    /// Counts a line like `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; others are nothing.
    fn count(&mut self, line: &str) {
        let Some((_, figures)) = line.strip_prefix("test result: ").and_then(|l| l.split_once(". ")) else { return };
        for part in figures.split(';') {
            let mut words = part.split_whitespace();
            let Some(number) = words.next().and_then(|n| n.parse::<u64>().ok()) else { continue };
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl Steps {
    /// A step without which the others make no sense.
    fn must<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("==> {name}");
        let start = Instant::now();
        let result = step();
        self.rows.push((name, start.elapsed().as_secs(), result.is_ok()));
        result.with_context(|| format!("step failed: {name}"))
    }

    /// A step of tests: when it fails, the rest runs all the same.
    fn try_tests(&mut self, name: &'static str, command: &mut Command, filter: Option<&str>) -> Result<()> {
        println!("==> {name}");
        let start = Instant::now();
        command.args(filter.map(|f| ["--", f]).into_iter().flatten());
        let passed = self.watch(command)?;
        self.rows.push((name, start.elapsed().as_secs(), passed));
        Ok(())
    }

    /// Runs a command of tests, shows what it prints and counts its closing lines.
    fn watch(&mut self, command: &mut Command) -> Result<bool> {
        if self.silence.is_some() {
            // All that it has started can then be ended with it.
            command.process_group(0);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", machine::show(command)))?;
        let output = child.stdout.take().context("cargo has no output")?;
        let (sender, lines) = mpsc::channel();
        let reader =
            std::thread::spawn(move || BufReader::new(output).split(b'\n').try_for_each(|line| sender.send(line).ok()));
        let hangs = loop {
            let line = match self.silence {
                Some(limit) => lines.recv_timeout(limit),
                None => lines.recv().map_err(RecvTimeoutError::from),
            };
            let line = match line {
                Ok(line) => line?,
                Err(error) => break error == RecvTimeoutError::Timeout,
            };
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            self.tally.count(&line);
        };
        if hangs {
            println!("nothing was printed for too long: ended");
            machine::run(Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]))?;
        }
        // A process that outlives the group may hold the pipe for ever.
        if !hangs && reader.join().is_err() {
            bail!("reading what {} printed failed", machine::show(command));
        }
        Ok(child.wait()?.success() && !hangs)
    }

    fn finish(self, missing_peers: &[&str]) -> Result<()> {
        println!("\n==> summary");
        for (name, seconds, passed) in &self.rows {
            println!("{seconds:>6} s  {name}{}", if *passed { "" } else { ": FAILED" });
        }
        for release in missing_peers {
            println!("SKIPPED: tests with etcd {release} (the reason stands above)");
        }
        let Tally { passed, failed, ignored } = self.tally;
        println!("{passed} passed, {failed} failed, {ignored} skipped");
        let failures: Vec<_> = self.rows.iter().filter(|(_, _, passed)| !passed).map(|(name, _, _)| *name).collect();
        if !failures.is_empty() {
            bail!("failed: {}", failures.join(", "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut tally = Tally::default();
        tally.count("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        tally.count("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s");
        tally.count("running 5 tests");
        assert_eq!(tally, Tally { passed: 7, failed: 2, ignored: 1 });
    }

    #[test]
    fn tests_that_hang_are_ended_and_have_failed() {
        let mut steps = Steps { silence: Some(Duration::from_millis(200)), ..Steps::default() };
        let lines = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        let mut hangs = Command::new("sh");
        assert!(!steps.watch(hangs.args(["-c", &format!("echo '{lines}'; sleep 600")])).unwrap());
        assert_eq!(steps.tally.passed, 3);
        assert!(steps.watch(&mut Command::new("true")).unwrap());
        assert!(!steps.watch(&mut Command::new("false")).unwrap());
    }

    #[test]
    fn a_seed_is_handed_on_only_when_asked_for() {
        let args = |full, seed| Args { ci: false, full, seed, no_install: true, filter: None };
        let seed = |args: Args| args.counts_and_seed().unwrap().get("STENTOR_SEED").cloned();
        assert_eq!(seed(args(false, None)), None);
        assert_eq!(seed(args(false, Some(7))), Some("7".into()));
        assert_eq!(seed(args(true, Some(7))), Some("7".into()));
        assert!(seed(args(true, None)).is_some());
    }
}
