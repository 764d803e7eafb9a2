//! A client of the etcd v3 protocol, for Stentor and for etcd 3.4 to 3.7, in which a watch survives
//! everything but the loss of the history it needs.
//!
//! ```no_run
//! use stentor_client::{Client, KeyRange};
//!
//! # async fn example() -> stentor_client::Result<()> {
//! let client = Client::connect(["10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"]).await?;
//!
//! // What there is, and then every change of it: none is missed, and none comes twice.
//! let (tasks, watch) = client.list_then_watch(KeyRange::segment("/task/10.0.0.1")).await?;
//! println!("{} tasks", tasks.pairs().len());
//! let mut changes = watch.into_events();
//! while let Some(change) = changes.next().await {
//!     println!("{:?}", change?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Client`] is cheap to clone, and its methods take `&self`. What it sends again by itself, and what it
//!   does not, is stated with each; [`Error::kind`] says what a failure means.
//! - [`Reflector`] is a local copy of a range of keys that keeps itself complete.
//! - [`Watch`] is a stream that goes on where it was after any break, on any member.
//! - [`Lease`] keeps itself alive, and says no more of itself than is known.
//! - [`Txn`] does several things at once; [`create`](Client::create), [`replace`](Client::replace) and
//!   [`remove`](Client::remove) write only if the key is as it was read.
//! - [`Client::stm`] runs code that reads and writes as if it were alone, and commits it if it was.
//! - [`Lock`] and [`Election`] let one of many do something, and tell it when it must not go on. They share keys
//!   with etcd's own clients.
//! - [`Client::namespaced`] is a client of a part of the keys, [`Client::at`] one of a single member.
//! - Nothing of the public interface is of the gRPC or HTTP library underneath.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `tls-ring` | TLS by rustls (`Tls`), and ring as provider of cryptography for programs that choose none |
//! | `tls-aws-lc` | the same with aws-lc, before ring if both are on; its build wants a C compiler |
//! | `tls` | the same without a provider: the program installs one, or gives it |
//! | `tls-native-roots` | trust in what the system trusts |
//! | `tls-webpki-roots` | trust in the authorities that Mozilla trusts, built into the program |
//! | `rustls-0_23` | a provider given as a value of rustls 0.23 |
//! | `dangerous` | connections to servers that nobody has verified, for tests |
//! | `raw` | the protocol's own messages, for tools |
//!
//! # Tracing
//!
//! The client tells what it does by the crate `tracing`, with the target `stentor_client` or a module below it: troubles
//! of endpoints as events of level `WARN`, how others are got over at `DEBUG`. Spans, all of level `DEBUG`, have no
//! values of keys in them, but a watch's has its range. Where nobody wants that level, they cost a comparison.
//!
//! | span | what it is | fields |
//! |---|---|---|
//! | `call` | a unary call with all its tries | `request`, the name of the message; `endpoint`, where it went last; `tries` |
//! | `dial` | a try to open a connection | `endpoint` |
//! | `watch` | a watch, from its start until it is dropped or has ended; a child of the span it was started in | `range`; and of its watcher, anew after each interruption: `id` on the server, `endpoint`, `from`, the first revision asked for |
//!
//! # Versions
//!
//! The crate follows semantic versioning: until 1.0 a minor version may break the interface, a patch never does.
//! It builds with Rust 1.89 and later; a newer minimum is a minor version. The feature `raw` is not part of the
//! promise: its messages are those of the protocol.
//!
//! # Runtime
//!
//! Calls are made within a tokio runtime, in which the client's own tasks then run. Without one they end with
//! [`Closed`](ErrorKind::Closed).

// What a program sees.
mod builder;
mod client;
mod cluster;
mod credentials;
mod election;
mod error;
mod key_value;
mod kv;
mod lease;
mod list;
mod list_then_watch;
mod lock;
mod maintenance;
mod members;
mod namespace;
mod observe;
mod put_all;
mod queue;
mod range;
mod reflector;
mod status;
mod stm;
mod swap;
#[cfg(feature = "tls")]
mod tls;
pub mod txn;
mod watch;

// One call: to which endpoint, how often, with which token.
mod auth;
mod backoff;
mod call;
mod checksum;
mod endpoint;
mod floor;
mod random;
mod runtime;
mod spans;
// Public as the error of `raw` only.
#[cfg_attr(not(feature = "raw"), allow(unreachable_pub, dead_code))]
mod fault;

#[cfg(feature = "raw")]
pub mod raw;

pub use backoff::Backoff;
pub use builder::ClientBuilder;
pub use client::Client;
pub use cluster::{MemberAdd, MemberAdded, MemberId, MemberInfo, MemberList};
pub use credentials::{Credentials, Secret, SecretFuture};
pub use election::{Campaign, Election, Leadership, Observation, Observe};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::{Error, ErrorKind, Result};
pub use key_value::{KeyValue, LeaseId};
pub use kv::{Compact, Delete, Deleted, Get, Put, PutPrev, Written};
pub use lease::{Granted, Lease, LeaseBuilder, LeaseChanges, LeaseGrant, LeaseInfo, LeaseLoss, LeaseState, TimeToLive};
pub use list::{ListBuilder, Listing, Pages};
pub use list_then_watch::ListThenWatch;
pub use lock::{Lock, LockGuard};
pub use maintenance::{Alarm, AlarmKind, HashKv, Member, MemberStatus, StoreSnapshot};
pub use observe::{ClientEvent, Counter, Metrics};
pub use put_all::PutAll;
pub use queue::OwnershipLoss;
pub use range::KeyRange;
pub use reflector::{
    Change, Changes, Entry, Pair, ReflectBuilder, Reflector, ReflectorStatus, Snapshot, Subscription, SubscriptionItem,
    Undecodable,
};
pub use status::{EndpointStatus, Status};
pub use stentor_proto::Revision;
pub use stm::{Committed, Isolation, Stm, Transaction};
pub use swap::{ConditionalDelete, ConditionalPut, Swap};
#[cfg(feature = "tls")]
pub use tls::Tls;
pub use txn::{Txn, TxnOutcome};
pub use watch::{Batch, Event, EventKind, Events, Interruption, Prev, Watch, WatchBuilder, WatchControl, WatchItem};

/// The code of the pages for users is compiled with the tests of the documentation.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/guides/from-etcd-client.md")]
    struct FromEtcdClient;
}
