//! Each workload, tiny, on a real server: it runs through, and what was due came once and in order. Nothing
//! is said about time.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use stentor_bench::clients::{Clients, Load, Pace};
use stentor_bench::compare::Comparison;
use stentor_bench::figures::Figures;
use stentor_bench::report;
use stentor_bench::schedule::Until;
use stentor_bench::target::Target;
use stentor_bench::wire::Keys;
use stentor_bench::work::{KeepAlive, Multi, Puts};
use stentor_bench::workload::{Options, Size, Workload};
use stentor_interop::peers;

fn within<T>(run: impl Future<Output = Result<T>>) -> T {
    let run = async { tokio::task::LocalSet::new().run_until(run).await };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run));
    result.unwrap_or_else(|error| panic!("{error:#}"))
}

/// What every workload's figures must say, whatever the times.
fn check(workload: Workload, figures: &Figures, is_stentor: bool) {
    let name = workload.name();
    let get = |figure: &str| figures.get(figure).unwrap_or_else(|| panic!("{name}: no {figure}"));
    let is_watch = figures.get("events expected").is_some();
    if is_watch {
        assert_eq!(get("events received"), get("events expected"), "{name}");
        assert_eq!(figures.get("events out of order or twice").unwrap_or(0.0), 0.0, "{name}");
    }
    if let Some(answers) = figures.get("answers") {
        assert!(answers > 0.0, "{name}: no answers");
        let lost = figures.get("acknowledged keys that are lost").unwrap_or(0.0);
        assert!(lost == 0.0 || !is_stentor, "{name}: {lost} keys");
        assert_eq!(get("wrong answers") - lost, 0.0, "{name}");
        assert_eq!(figures.get("refused").unwrap_or(0.0), 0.0, "{name}");
    } else {
        assert!(is_watch || workload == Workload::IdleServer, "{name} does not say what came");
    }
    for bar in workload.bars().iter().filter(|bar| !bar.figure.contains("1,000,000")) {
        assert!(figures.get(bar.figure).is_some(), "{name} has no {}", bar.figure);
    }
    let resident = figures.0.iter().find(|figure| figure.name.contains("RSS") && figure.value > 1e6);
    assert!(resident.is_some(), "{name}: no server has less than a megabyte");
    assert!(figures.0.iter().all(|figure| figure.value.is_finite()), "{name}: {figures:?}");
    let names: BTreeSet<_> = figures.0.iter().map(|figure| &figure.name).collect();
    assert_eq!(names.len(), figures.0.len(), "{name} says something twice");
}

fn each_workload_on(binary: &Path, workloads: impl Iterator<Item = Workload>) {
    within(async {
        for workload in workloads {
            let mut target = Target::start(binary, workload.members())?;
            let figures = workload.run(&mut target, &Options::of(Size::Tiny)).await;
            let figures = figures.unwrap_or_else(|error| panic!("{}: {error:#}", workload.name()));
            check(workload, &figures, target.is_stentor());
        }
        Ok(())
    });
}

#[test]
fn each_workload_runs() {
    let Some(server) = peers::required(peers::SERVER, "each_workload_runs") else { return };
    each_workload_on(&server, Workload::value_variants().iter().copied());
}

#[test]
fn each_workload_runs_on_etcd() {
    let Some(etcd) = peers::required(peers::ETCDS[1], "each_workload_runs_on_etcd") else { return };
    // It has no RangeStream; how it fares with the rest of the watches says nothing new, and takes half a minute.
    let some = |workload: &Workload| *workload != Workload::RangeStream && *workload < Workload::FanoutScale;
    each_workload_on(&etcd, Workload::value_variants().iter().copied().filter(some));
}

#[test]
fn calls_in_an_open_loop_all_happen() {
    let test = "calls_in_an_open_loop_all_happen";
    let Some(server) = peers::required(peers::SERVER, test) else { return };
    let done = within(async {
        let target = Target::start(&server, 1)?;
        let clients = Clients::connect(target.addresses(), 10, 4).await?;
        let work = Arc::new(Puts::in_turn(Keys::new("k", 1_000, 8), 16)?);
        let (pace, until) = (Pace::Open(10_000.0), Until::Count(500));
        clients.run(Load { work, clients: 10, pace, until, record: true }).await?.all_right()
    });
    assert_eq!((done.calls, done.latency.len(), done.late.len()), (500, 500, 500));
    let revisions: BTreeSet<_> = done.acknowledged.iter().map(|(revision, _)| *revision).collect();
    assert_eq!(revisions.len(), 500, "each put is a revision of its own");
    assert_eq!(done.last_revision - done.first_revision, 499);
}

#[test]
fn a_server_that_refuses_ends_the_run() {
    let test = "a_server_that_refuses_ends_the_run";
    let Some(server) = peers::required(peers::SERVER, test) else { return };
    let error = within(async {
        let target = Target::start(&server, 1)?;
        let clients = Clients::connect(target.addresses(), 1, 1).await?;
        // Nobody has granted that lease.
        let work = Arc::new(KeepAlive::of(7, 1));
        let load = Load { work, clients: 1, pace: Pace::Closed, until: Until::Count(1), record: false };
        let wrong = clients.run(load.clone()).await?.all_right().err();
        let multi = Arc::new(Multi::new(&Keys::new("k", 1_000, 8), 128, 13_000)?);
        let refused = clients.run(Load { work: multi, ..load }).await.err();
        Ok((wrong, refused))
    });
    assert!(error.0.is_some_and(|error| error.to_string().contains("not as expected")));
    assert!(error.1.is_some_and(|error| format!("{error:#}").contains("gRPC status 3")), "a request that is too large");
}

#[test]
fn a_server_that_runs_already_is_found_by_its_port() {
    let test = "a_server_that_runs_already_is_found_by_its_port";
    let Some(server) = peers::required(peers::SERVER, test) else { return };
    within(async {
        let started = Target::start(&server, 1)?;
        let mut found = Target::running("server", vec![started.address], None)?;
        assert!(found.is_accounted());
        let figures = Workload::Put.run(&mut found, &Options::of(Size::Tiny)).await?;
        check(Workload::Put, &figures, started.is_stentor());
        let restart = Workload::Restart.run(&mut found, &Options::of(Size::Tiny)).await;
        assert!(restart.is_err(), "it is not ours to kill");
        Ok(())
    });
}

#[test]
fn a_comparison_has_both_sides_and_a_verdict_for_each_bar() {
    let test = "a_comparison_has_both_sides_and_a_verdict_for_each_bar";
    let Some(stentor) = peers::required(peers::SERVER, test) else { return };
    // The server stands in for its peer: this is about the comparison.
    let comparison = Comparison { etcd: Some(stentor.clone()), stentor, rounds: 2, options: Options::of(Size::Tiny) };
    let workload = Workload::FanoutKey;
    let outcome = within(comparison.run(workload));
    assert!(outcome.etcd.is_some());
    assert_eq!(outcome.bars.len(), workload.bars().len());
    assert!(outcome.bars.iter().all(|bar| bar.value.is_some()), "{:?}", outcome.bars);
    assert!(report::table(&outcome).contains("server CPU per event"));
}

#[test]
fn what_a_peer_cannot_do_is_left_out() {
    let test = "what_a_peer_cannot_do_is_left_out";
    let (Some(stentor), Some(etcd)) = (peers::required(peers::SERVER, test), peers::required(peers::ETCDS[1], test))
    else {
        return;
    };
    let comparison = Comparison { stentor, etcd: Some(etcd), rounds: 1, options: Options::of(Size::Tiny) };
    let outcome = within(comparison.run(Workload::RangeStream));
    assert!(outcome.etcd.is_none() && !outcome.stentor.0.is_empty());
}
