//! The load generator's command line.

mod cli;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, ValueEnum};
use stentor_bench::compare::{Comparison, Outcome};
use stentor_bench::machine::Machine;
use stentor_bench::report::{self, Record};
use stentor_bench::scratch::Scratch;
use stentor_bench::target::{self, Target};
use stentor_bench::workload::{Group, Options, Size, Workload};
use stentor_interop::peers::Version;

use crate::cli::{Cli, Command, Compare, Documents, Full, Quick, Run, Servers};

fn main() -> ExitCode {
    match run(Cli::parse_from(with_run(std::env::args_os().collect())).command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `stentor-bench put ...` is short for `stentor-bench run put ...`.
fn with_run(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let first = arguments.get(1).and_then(|first| first.to_str()).unwrap_or_default();
    if Workload::from_str(first, false).is_ok() {
        arguments.insert(1, "run".into());
    }
    arguments
}

fn run(command: Command) -> Result<()> {
    target::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        match command {
            Command::Watch(args) => compare(args, Some(Group::Watch)).await,
            Command::Cluster(args) => compare(args, Some(Group::Cluster)).await,
            Command::Compare(args) => compare(args, None).await,
            Command::Quick(args) => quick(args).await,
            Command::Full(args) => full(args).await,
            Command::Report(args) => {
                report::write_documents(&Record::load(&args.json)?, &args.documents.docs, &args.documents.charts)
            }
            Command::Run(args) => single(args).await,
        }
    })
}

/// A comparison under way: servers' data lies in a directory that does not outlive it.
struct Session {
    comparison: Comparison,
    record: Record,
    _scratch: Scratch,
}

impl Session {
    fn new(servers: &Servers, rounds: usize, options: Options) -> Result<Session> {
        let scratch = Scratch::new()?;
        scratch.use_for_all()?;
        let machine = Machine::here(scratch.path())?;
        if machine.is_memory() {
            eprintln!("warning: the servers' data is in memory, where syncs cost nothing: set TMPDIR to a disk");
        }
        let version = |binary| Version::of(binary).map(|version| version.to_string());
        let mut stentor = version(&servers.stentor)?;
        if let Some(commit) = &servers.commit {
            stentor = format!("{stentor}, commit {commit}");
        }
        let record = Record {
            machine,
            stentor,
            etcd: servers.etcd.as_deref().map(version).transpose()?,
            arguments: std::env::args().skip(1).collect(),
            full: options.size == Size::Full,
            rounds,
            outcomes: Vec::new(),
        };
        let (stentor, etcd) = (servers.stentor.clone(), servers.etcd.clone());
        println!("{} beside {}", record.stentor, record.etcd.as_deref().unwrap_or("nothing"));
        println!("{}", record.machine.describe());
        Ok(Session { comparison: Comparison { stentor, etcd, rounds, options }, record, _scratch: scratch })
    }

    /// Measures one workload within a time, and writes down what was found so far: a later failure shall
    /// not cost it.
    async fn measure(&mut self, workload: Workload, servers: &Servers, time: Option<Duration>) -> Result<&Outcome> {
        let run = self.comparison.run(workload);
        let outcome = match time {
            Some(time) => tokio::time::timeout(time, run).await.unwrap_or_else(|_| Err(anyhow!("out of time"))),
            None => run.await,
        };
        let outcome = outcome.unwrap_or_else(|error| Outcome::failed(workload, format!("{error:#}")));
        self.record.outcomes.push(outcome);
        if let Some(path) = &servers.json {
            self.record.save(path)?;
        }
        self.record.outcomes.last().context("nothing was measured")
    }

    /// An error if a workload failed.
    fn finish(&self) -> Result<()> {
        let failed: Vec<_> =
            self.record.outcomes.iter().filter(|o| o.failure.is_some()).map(|o| o.workload.as_str()).collect();
        if failed.is_empty() { Ok(()) } else { bail!("not measured: {}", failed.join(", ")) }
    }
}

async fn compare(args: Compare, group: Option<Group>) -> Result<()> {
    let mut options = args.options;
    options.size = if args.full { Size::Full } else { Size::Small };
    let rounds = args.rounds.unwrap_or(if args.full { 3 } else { 1 });
    let mut session = Session::new(&args.servers, rounds, options)?;
    let chosen = |workload: &Workload| group.is_none_or(|group| workload.group() == group);
    let all = || Workload::value_variants().iter().copied().filter(chosen).collect();
    for workload in if args.workloads.is_empty() { all() } else { args.workloads } {
        let outcome = session.measure(workload, &args.servers, None).await?;
        println!("\n{}", report::table(outcome));
    }
    let missed: Vec<_> =
        session.record.outcomes.iter().filter(|o| o.has_missed()).map(|o| o.workload.as_str()).collect();
    println!("\nbars missed: {}", if missed.is_empty() { "none".to_owned() } else { missed.join(", ") });
    session.finish()
}

/// Every target, small, within a few minutes.
async fn quick(args: Quick) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut session = Session::new(&args.servers, 1, Options::of(Size::Quick))?;
    for workload in Workload::targets() {
        let left = end.saturating_duration_since(Instant::now());
        session.measure(workload, &args.servers, Some(left)).await?;
    }
    println!("\n{}", report::summary(&session.record.outcomes, false));
    println!("Bars are of the full sizes; `cargo xtask bench full` measures those.");
    session.finish()
}

/// Everything at the sizes of the targets, into the documentation.
async fn full(args: Full) -> Result<()> {
    let mut session = Session::new(&args.servers, args.rounds, Options::of(Size::Full))?;
    let all = || Workload::value_variants().to_vec();
    for workload in if args.workloads.is_empty() { all() } else { args.workloads } {
        let outcome = session.measure(workload, &args.servers, None).await?;
        println!("\n{}", report::table(outcome));
    }
    println!("\n{}", report::summary(&session.record.outcomes, true));
    let Documents { docs, charts } = &args.documents;
    report::write_documents(&session.record, docs, charts)?;
    session.finish()
}

async fn single(args: Run) -> Result<()> {
    let mut options = args.options;
    options.size = if args.full { Size::Full } else { Size::Small };
    let mut target = Target::running("server", args.endpoint, args.pid)?;
    if !target.is_accounted() {
        println!("The server's process cannot be seen: nothing is said of its CPU time and memory.");
    }
    let figures = args.workload.run(&mut target, &options).await?;
    for figure in &figures.0 {
        println!("{:<46}{figure}", figure.name);
    }
    let Some(path) = args.json else { return Ok(()) };
    let json = serde_json::to_string_pretty(&figures)? + "\n";
    std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Command {
        Cli::try_parse_from(with_run(line.split(' ').map(OsString::from).collect())).unwrap().command
    }

    #[test]
    fn a_workload_alone_runs_it() {
        let line = "put --endpoint 127.0.0.1:2379 --endpoint [::1]:2380 --clients 50 --rate 1e3";
        for line in [format!("stentor-bench {line}"), format!("stentor-bench run {line}")] {
            let Command::Run(run) = parsed(&line) else { panic!("{line} is another command") };
            assert_eq!((run.workload, run.endpoint.len(), run.pid), (Workload::Put, 2, None));
            assert_eq!((run.options.clients, run.options.rate), (Some(50), Some(1_000.0)));
        }
        let Command::Watch(watch) = parsed("stentor-bench watch --stentor s fanout-key") else { panic!("no watch") };
        assert_eq!(watch.workloads, [Workload::FanoutKey]);
        assert!(Cli::try_parse_from(["stentor-bench", "run", "put"]).is_err(), "no endpoint");
    }
}
