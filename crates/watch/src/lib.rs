//! stentor-watch: watchers over a [`stentor_mvcc::Store`], without gRPC, clocks or a runtime.
//!
//! A watcher is a range of keys, options and a *cursor*: the next revision it needs. Nothing is queued for
//! it. A [`WatchStream`] fills an [`Outbox`] with encoded responses while that has room; a client that
//! stops reading costs its cursors. What was missed is read again from recent commits in memory, or from
//! history, and if compaction has taken it, the watcher is told so.
//!
//! - [`Hub`]: follows a store, keeps its recent commits, wakes the streams that one concerns.
//! - [`WatchStream`]: the watchers of one client. A state machine: requests go in, responses come out.
//! - [`History`]: what the hub needs of a store; `Store` has it.
//! - [`OpenStream`]: a stream as it is looked at from outside.
//!
//! ```
//! use std::sync::Arc;
//! use stentor_mvcc::{Store, engine::memory};
//! use stentor_proto::etcdserverpb::{PutRequest, WatchCreateRequest};
//! use stentor_watch::{Hub, StreamOptions, WatchStream};
//!
//! let store = Arc::new(Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?);
//! let hub = Hub::follow(&store, Default::default());
//! let mut stream = WatchStream::open(&hub, StreamOptions::default());
//! stream.create(WatchCreateRequest { key: "hello".into(), ..Default::default() }, Ok(()));
//! assert!(stream.next_response().is_some_and(|response| response.created));
//!
//! store.put(PutRequest { key: "hello".into(), value: "world".into(), ..Default::default() })?;
//! let response = stream.next_response().expect("the event");
//! assert_eq!(response.events[0].kv.as_ref().map(|kv| kv.mod_revision), Some(2));
//! assert!(stream.next_response().is_none());
//! # Ok::<(), stentor_mvcc::Error>(())
//! ```

mod history;
mod hub;
mod outbox;
mod report;
mod stream;

mod chunk;
mod counts;
mod filter;
mod inbox;
mod read;
mod recent;
mod span;
mod sync;
mod tree;
mod wakes;
mod watcher;

pub use counts::{Canceled, Gauges, Sent};
pub use history::{History, Moment};
pub use hub::{Hub, HubOptions, Tip};
pub use outbox::Outbox;
pub use read::{Read, ReadDone};
pub use report::{OpenStream, StreamReport, WatcherReport, WatcherState};
pub use stream::{HeaderFn, Next, StreamOptions, WatchStream};
