//! Whole clusters, simulated message by message: bad networks, crashes, failing disks, snapshots and changes
//! of the membership, and what must hold of them all the time and at the end.
//!
//! Nothing but the seed decides what happens. `STENTOR_CLUSTER_SEEDS` sets the number of seeds,
//! `STENTOR_SEED` the first.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod check;
mod ending;
mod faults;
mod member;
mod network;
mod reached;
mod reads;
mod rejected;
mod world;

use std::env;

use rand::Rng;

use check::Broken;
use faults::Rates;
use reached::Reached;
use world::World;

/// From this many seeds on, everything must have been reached.
const ENOUGH: u64 = 100;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// Says how to repeat a run if it does not end well, be it by a panic.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!(
                "replay with STENTOR_CLUSTER_SEEDS=1 STENTOR_SEED={seed} cargo test -p stentor-raft --test cluster"
            );
        }
    }
}

#[test]
fn a_cluster_keeps_its_promises_whatever_happens() {
    let (seeds, first) = (number("STENTOR_CLUSTER_SEEDS", 100), number("STENTOR_SEED", 1));
    let mut all = Reached::default();
    let mut longest = 0;
    for seed in first..first + seeds {
        let _replay = Replay(seed);
        let world = run(seed);
        all.add(&world.reached);
        longest = longest.max(world.now);
    }
    println!("{seeds} seeds of at most {longest} ticks reached {all:#?}");
    let missed = all.missed();
    assert!(seeds < ENOUGH || missed.is_empty(), "never reached: {missed:?}");
}

#[test]
fn a_seed_decides_everything() {
    for seed in 1..=6 {
        let _replay = Replay(seed);
        let (one, other) = (run(seed), run(seed));
        assert_eq!((one.trace, one.now, one.network.sent()), (other.trace, other.now, other.network.sent()));
    }
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    if let Err(broken) = play(&mut world) {
        panic!("seed {seed}, tick {}: {broken}", world.now);
    }
    world
}

fn play(world: &mut World) -> Result<(), Broken> {
    for _ in 0..world.random.random_range(2..8) {
        let rates = Rates::draw(world);
        for _ in 0..world.random.random_range(20..80) {
            faults::strike(world, &rates)?;
            world.tick()?;
        }
    }
    ending::converge(world)
}
