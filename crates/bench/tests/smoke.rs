//! Each workload, tiny, on a real server: it runs through, and what was due came once and in order. Nothing
//! is said about time.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use stentor_bench::compare::Comparison;
use stentor_bench::target::Target;
use stentor_bench::workload::{Options, Size, Workload};
use stentor_interop::peers;

fn each_workload_on(binary: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        for workload in Workload::value_variants() {
            let mut target = Target::start(binary)?;
            let figures = workload.run(&mut target, &Options::of(Size::Tiny)).await;
            let figures = figures.unwrap_or_else(|error| panic!("{}: {error:#}", workload.name()));
            let get = |name| figures.get(name).unwrap_or_else(|| panic!("{}: no {name}", workload.name()));
            assert_eq!(get("events received"), get("events expected"), "{}", workload.name());
            if let Some(disordered) = figures.get("events out of order or twice") {
                assert_eq!(disordered, 0.0, "{}", workload.name());
            }
            for bar in workload.bars().iter().filter(|bar| !bar.figure.contains("1,000,000")) {
                assert!(figures.get(bar.figure).is_some(), "{} has no {}", workload.name(), bar.figure);
            }
            assert!(get("server RSS") > 1e6);
        }
        Ok(())
    })
}

#[test]
fn each_workload_runs() {
    let Some(server) = peers::required(peers::SERVER, "each_workload_runs") else { return };
    each_workload_on(&server).unwrap();
}

#[test]
fn a_comparison_has_both_sides_and_a_verdict_for_each_bar() {
    let test = "a_comparison_has_both_sides_and_a_verdict_for_each_bar";
    let Some(stentor) = peers::required(peers::SERVER, test) else { return };
    // The server stands in for its peer: this is about the comparison.
    let comparison = Comparison { etcd: Some(stentor.clone()), stentor, rounds: 2, options: Options::of(Size::Tiny) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let workload = Workload::FanoutKey;
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, comparison.run(workload)).unwrap();
    assert!(outcome.etcd.is_some());
    assert_eq!(outcome.bars.len(), workload.bars().len());
    assert!(outcome.bars.iter().all(|bar| bar.value.is_some()), "{:?}", outcome.bars);
    assert!(outcome.table().contains("server CPU per event"));
}
