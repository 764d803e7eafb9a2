//! The engine against plain models of what it guarantees, without network, clock or threads.

#![allow(clippy::unwrap_used, clippy::expect_used)]

// What a run is made of.
mod inlet;
mod model;
mod run;
mod transcript;

// One guarantee each, as a checker of a run and by hand-made cases.
mod atomic;
mod bookmarkable;
mod early;
mod filterable;
mod ordered;
mod previous;
mod reliable;
mod resumable;
mod told;
mod unique;

mod random;

// By example.
mod by_hand;
mod create;
mod delivery;
mod known_bugs;
mod many;
