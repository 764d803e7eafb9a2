//! Watch over gRPC: what the engine's own tests can't see, and every case of its list once more as a client
//! meets it. docs/watch-tests.md says which test is for what.
//!
//! Most run on one thread by a clock that moves only when nothing is left to do, so waiting costs nothing,
//! and what never comes is known at once.

pub(crate) mod client;
mod ledger;
mod raw;
mod writes;

mod cancel;
mod create;
mod fragments;
mod guarantees;
mod introspection;
mod kubernetes;
mod live;
mod progress;
mod replay;
mod sharing;
mod slow;
mod stream;
