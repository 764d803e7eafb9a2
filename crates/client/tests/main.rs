//! The client against a member in this process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;
mod kv;
mod lease;
mod maintenance;
mod queue;
mod stm;
