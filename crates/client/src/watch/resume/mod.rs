//! One stream and the watchers on it, as a state machine without I/O: responses and failures go in,
//! [`Action`]s come out, time and randomness are arguments. What is due to the program goes into each
//! watcher's [`Buffer`](crate::watch::buffer::Buffer).
//!
//! A lane outlives its stream. When that breaks, the lane asks for another after a pause, reads the store
//! once to see that its history is still the one seen before, and creates every watcher again at the lowest
//! revision not delivered yet. See docs/client.md for the states.

mod create;
mod lane;
mod progress;
mod version;
mod watcher;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub(crate) use lane::{Action, Counters, Lane, LaneOptions, WatcherId};
pub(crate) use version::ServerVersion;
pub(crate) use watcher::{Spec, Start, Watcher};
