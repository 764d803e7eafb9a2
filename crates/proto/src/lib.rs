//! The etcd v3 protocol as every other crate of Stentor shares it: messages, gRPC stubs (features
//! `client` and `server`), key ranges, revisions and the error table.
//!
//! The messages are generated from `proto/` by `cargo xtask proto` and checked in; building this
//! crate needs no protoc. Without its features it needs no gRPC library either.

mod error;
pub mod log_entry;
mod range;
mod revision;
pub mod snapshot;

pub use error::{Code, EtcdError};
pub use range::{KeyRange, RangeEnd};
pub use revision::Revision;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, rust_2018_idioms)]
mod generated {
    pub mod mvccpb {
        include!("generated/mvccpb.rs");
    }
    pub mod authpb {
        include!("generated/authpb.rs");
    }
    pub mod etcdserverpb {
        include!("generated/etcdserverpb.rs");
    }
    pub mod v3lockpb {
        include!("generated/v3lockpb.rs");
    }
    pub mod v3electionpb {
        include!("generated/v3electionpb.rs");
    }
    pub mod stentor {
        pub mod introspection {
            pub mod v1 {
                include!("generated/stentor.introspection.v1.rs");
            }
        }
        pub mod peer {
            pub mod v1 {
                include!("generated/stentor.peer.v1.rs");
            }
        }
        pub mod storage {
            pub mod v1 {
                include!("generated/stentor.storage.v1.rs");
            }
        }
    }
}

pub use generated::stentor::introspection::v1 as introspectionpb;
pub use generated::stentor::peer::v1 as peerpb;
pub use generated::stentor::storage::v1 as storagepb;
pub use generated::{authpb, etcdserverpb, mvccpb, v3electionpb, v3lockpb};

/// The file descriptors of everything in `proto/`, for gRPC reflection.
pub const FILE_DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
