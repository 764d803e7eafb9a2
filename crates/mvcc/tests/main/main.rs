//! The store as a whole, against a model of it and against a failing disk.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod checkpoints;
mod failures;
#[cfg(feature = "rocksdb")]
mod formats;
mod model;
mod places;
mod property;
mod snapshots;
