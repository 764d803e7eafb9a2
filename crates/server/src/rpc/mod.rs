//! The gRPC services: each call is checked, handed to the core, and answered. No rule of the store lives
//! here.

mod auth;
mod cluster;
mod election;
mod introspection;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod range;
mod range_stream;
pub(crate) mod raw;
mod status;
pub mod watch;

pub use auth::AuthService;
pub use cluster::ClusterService;
pub use election::ElectionService;
pub use introspection::IntrospectionService;
pub use kv::KvService;
pub use lease::LeaseService;
pub use lock::LockService;
pub use maintenance::MaintenanceService;

pub(crate) use status::{of_propose, of_store};
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::ResponseHeader;

use crate::node::Node;

/// Says in a header, which has the revision alone, who answers.
fn sign(node: &Node, header: &mut Option<ResponseHeader>) {
    let revision = header.as_ref().map_or(0, |h| h.revision);
    *header = Some(node.header(Revision::new(revision).unwrap_or_default()));
}
