//! What can be told of watchers beyond delivering to them: who is how far behind, for people
//! ([`survey()`]), for the log and for the metrics ([`Sampler`]).
//!
//! All of it looks from outside: a stream is held only while its own rows are visited, and what is
//! kept or answered is bounded however many watchers there are.

mod label;
mod lag;
mod sampler;
mod slow;
mod streams;
mod survey;
#[cfg(test)]
mod tests;
mod top;

pub use label::StreamLabel;
pub use lag::Lag;
pub use sampler::Sampler;
pub use stentor_watch::{StreamReport, WatcherReport, WatcherState};
pub use streams::{OpenStream, Streams};
pub use survey::{Order, Query, States, StreamRow, Survey, Totals, WatcherRow, survey};
