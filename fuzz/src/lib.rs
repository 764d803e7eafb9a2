//! Fuzz targets: one for every decoder of bytes that come from disk or network.
//!
//! A [`Target`] takes any bytes and says whether they were accepted; it fails by panicking, and also
//! when what was accepted does not read the same once written again. Each is a plain test
//! (`tests/fuzz.rs`) that feeds it a fixed number of inputs made from valid samples ([`Inputs`]), and
//! a libFuzzer target where cargo-bolero and a nightly toolchain are there: `cargo xtask fuzz`.

mod inputs;
mod panics;
mod random;
mod target;
pub mod targets;

pub use inputs::Inputs;
pub(crate) use panics::panics;
pub use random::{Budget, Tally, run};
pub use target::{Outcome, Target};
