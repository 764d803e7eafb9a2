//! Running cases, and making a failing one short.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stentor_mvcc::engine::Durability;

use super::generate::{self, Step};
use super::reached::Reached;
use super::world::{Checked, World};
use crate::places::Place;

/// From this many cases on, everything that there is to come by must have been.
const ENOUGH_CASES: u64 = 200;
/// Tries to shorten a failing case.
const MOST_TRIES: usize = 400;

/// What to run.
pub(crate) struct Plan {
    /// Of the test.
    pub name: &'static str,
    pub cases: u64,
    /// Of a case.
    pub steps: usize,
}

/// A number of cases from the environment.
pub(crate) fn cases(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |n| n.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

/// The first seed.
pub(crate) fn seed() -> u64 {
    cases("STENTOR_SEED", 1)
}

pub(crate) fn all<P: Place>(plan: &Plan, place: impl Fn(Durability) -> P) {
    let mut reached = Reached::default();
    for seed in (seed()..).take(plan.cases as usize) {
        let mut rng = StdRng::seed_from_u64(seed);
        let durability = if rng.random_bool(0.5) { Durability::Synced } else { Durability::Buffered };
        let group = rng.random_range(1..5);
        let steps = generate::steps(&mut rng, plan.steps);
        let run = |steps: &[Step]| run(place(durability), durability, group, steps);
        match run(&steps) {
            Ok(came_by) => reached.add(came_by),
            Err(_) => fail(plan, seed, steps, run),
        }
    }
    let missing = reached.missing(P::OUT_OF_REACH);
    assert!(plan.cases < ENOUGH_CASES || missing.is_empty(), "{} cases never came by {missing:?}", plan.cases);
}

fn run<P: Place>(place: P, durability: Durability, group: usize, steps: &[Step]) -> Result<Reached, String> {
    let mut world = World::new(place, durability)?;
    // A panic in the store is a failure like any other, and leaves a case to be shortened.
    let checked = catch_unwind(AssertUnwindSafe(|| -> Checked {
        for (at, step) in steps.iter().enumerate() {
            world.run(step).map_err(|e| format!("step {at}, {step:?}: {e}"))?;
        }
        world.twin(group)
    }));
    checked.unwrap_or_else(|_| Err("the store panicked".to_owned()))?;
    Ok(world.reached)
}

/// Takes steps out for as long as the case fails without them.
fn fail(plan: &Plan, seed: u64, mut steps: Vec<Step>, run: impl Fn(&[Step]) -> Result<Reached, String>) -> ! {
    let whole = run(&steps).err().unwrap_or_else(|| "it passed when run again: not deterministic".to_owned());
    let mut tries = 0;
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() && tries < MOST_TRIES {
            tries += 1;
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(fewer.len()));
            if run(&fewer).is_err() { steps = fewer } else { at += size }
        }
        size /= 2;
    }
    let short = run(&steps).err().unwrap_or(whole);
    let variable = if plan.name.contains("rocksdb") { "STENTOR_ROCKSDB_CASES" } else { "STENTOR_CASES" };
    panic!(
        "seed {seed} fails; to run it again:\n\
         STENTOR_SEED={seed} {variable}=1 cargo test -p stentor-mvcc --test main {}\n\n\
         shortened to {steps:#?}\n\n{short}",
        plan.name
    );
}
