//! Random operations, compared with the model after each.
//!
//! A case is a list of steps made from a seed. Each step runs on the store and on the model; where they
//! differ, the case is made as short as it still fails, and printed with how to run it again.

pub(crate) mod generate;
pub(crate) mod reached;
pub(crate) mod resolve;
pub(crate) mod run;
pub(crate) mod verify;
pub(crate) mod world;

use crate::places::Memory;
use run::Plan;

#[test]
fn memory_agrees_with_the_model() {
    let plan = Plan { name: "memory_agrees_with_the_model", cases: run::cases("STENTOR_CASES", 300), steps: 26 };
    run::all(&plan, |_| Memory::new());
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_agrees_with_the_model() {
    let cases = run::cases("STENTOR_ROCKSDB_CASES", 20);
    let plan = Plan { name: "rocksdb_agrees_with_the_model", cases, steps: 40 };
    run::all(&plan, crate::places::RocksDb::new);
}
