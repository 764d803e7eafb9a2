//! stentor-mvcc: a multi-version key-value store with the semantics of etcd v3.
//!
//! Every transaction that changes something takes the next *revision*; each of its changes has a
//! *sub-revision*. All changes are kept as history until they are *compacted*, so the store can be read
//! as of any kept revision, and whoever follows it can replay what was missed, exactly.
//!
//! What it is: an embeddable store on RocksDB (feature `rocksdb`) or in memory, with one writer at a time,
//! readers that never wait, transactions, leases' key sets, compaction in the background, snapshots.
//! What it is not: a server, a cache (the keys live in memory, values do not: about 100 bytes for a key of
//! 42 bytes, the key included), a store for values above a few MiB, or a place for more than some tens of
//! millions of keys.
//!
//! ```
//! use stentor_mvcc::{Store, engine::memory};
//! use stentor_proto::Revision;
//! use stentor_proto::etcdserverpb::{PutRequest, RangeRequest};
//!
//! let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
//! for value in ["world1", "world2"] {
//!     store.put(PutRequest { key: "hello".into(), value: value.into(), ..Default::default() })?;
//! }
//! // The newest value, and the one before it.
//! let at = |revision| RangeRequest { key: "hello".into(), revision, ..Default::default() };
//! assert_eq!(store.view().range(&at(0))?.kvs[0].value, "world2");
//! assert_eq!(store.view().range(&at(2))?.kvs[0].value, "world1");
//! // What happened from revision 2 on.
//! let view = store.view();
//! let changes = view.history(Revision::new(2).unwrap(), view.revision())?.collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(changes.len(), 2);
//! # Ok::<(), stentor_mvcc::Error>(())
//! ```

mod change;
mod record;

mod observer;
mod options;
mod store;
mod view;

pub mod check;
mod encode;
mod read;
pub mod txn;

mod alarm;
mod answer;
mod compaction;
mod group;
mod hash;
mod index_checkpoint;
mod lease;
mod member;

pub mod engine;
pub mod failpoints;
pub mod key_index;
pub mod snapshot;

mod error;
mod meta;
mod open;
mod source;
mod state;
mod upkeep;

pub use alarm::{Alarm, AlarmKind};
pub use answer::{Answer, Outcome};
pub use change::ChangeId;
pub use compaction::CompactionStep;
pub use encode::EncodedPairs;
pub use error::Error;
pub use group::SMALL_OVERWRITE_BYTES;
pub use hash::KvHash;
pub use lease::{Lease, LeaseId, Leases};
pub use member::Members;
pub use observer::{Commit, Observer};
pub use options::{LogPosition, Options};
pub use read::RangeResult;
pub use record::{ChangeKind, Record, RecordError};
pub use store::Store;
pub use upkeep::{applied_position, identity, set_identity};
pub use view::View;
