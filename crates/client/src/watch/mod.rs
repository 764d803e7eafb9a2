//! Watches. What they promise is kept by [`resume`], which does no I/O; [`hub`] and [`stream`] drive it.

mod balance;
mod buffer;
mod builder;
mod handle;
mod hub;
mod item;
mod resume;
mod stream;

pub use builder::WatchBuilder;
pub use handle::{Events, Watch, WatchControl};
pub(crate) use hub::HubHandle;
pub use item::{Batch, Event, EventKind, Interruption, Prev, WatchItem};
pub(crate) use resume::ServerVersion;
