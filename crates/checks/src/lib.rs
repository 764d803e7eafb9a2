//! What clients ask a cluster for, by chance, and what must be so of all that they were told. The simulation and
//! the tests with real processes share it, so that both are as strict.
//!
//! [`log`] is what happened, by what members publish; [`history`] holds what clients were answered against it,
//! [`watch`] what watches were told.

pub mod history;
pub mod log;
pub mod perform;
pub mod random;
pub mod watch;
pub mod workload;
