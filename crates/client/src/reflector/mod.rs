//! A local copy of a range of keys that keeps itself complete.
//!
//! [`store`], [`relist`] and [`ring`] are the copy, what a list changes in it, and what waits for its
//! subscribers; they do no I/O. [`task`] drives them by lists and watches, [`handle`] is what a program
//! holds.

mod builder;
mod change;
mod entry;
mod handle;
mod relist;
mod ring;
mod shared;
mod snapshot;
mod status;
mod store;
mod subscription;
mod task;
#[cfg(test)]
mod tests;

pub use builder::ReflectBuilder;
pub use change::{Change, Changes, SubscriptionItem};
pub use entry::{Entry, Pair, Undecodable};
pub use handle::Reflector;
pub use snapshot::Snapshot;
pub use status::ReflectorStatus;
pub use subscription::Subscription;
