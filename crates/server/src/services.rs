//! All gRPC services of a member, as one set of routes.

use std::sync::Arc;

use stentor_proto::FILE_DESCRIPTORS;
use stentor_proto::etcdserverpb::auth_server::AuthServer;
use stentor_proto::etcdserverpb::cluster_server::ClusterServer;
use stentor_proto::etcdserverpb::kv_server::KvServer;
use stentor_proto::etcdserverpb::lease_server::LeaseServer;
use stentor_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use stentor_proto::introspectionpb::introspection_server::IntrospectionServer;
use stentor_proto::v3electionpb::election_server::ElectionServer;
use stentor_proto::v3lockpb::lock_server::LockServer;
use stentor_watch::Hub;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use crate::config::Config;
use crate::node::Node;
use crate::rpc::raw;
use crate::rpc::watch::WatchService;
use crate::rpc::{
    AuthService, ClusterService, ElectionService, IntrospectionService, KvService, LeaseService, LockService,
    MaintenanceService,
};

/// A message may be this much larger than the largest write.
pub(crate) const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;

/// The routes of all services, and the handle by which health is told.
///
/// # Errors
/// The file descriptors for reflection can't be read.
pub(crate) fn routes(
    node: &Arc<Node>,
    config: &Config,
    hub: Arc<Hub>,
    watch: WatchService,
    stop: &CancellationToken,
) -> Result<(Routes, HealthReporter), tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let limit = node.settings.max_request_bytes + MESSAGE_OVERHEAD_BYTES;
    // Answers have no limit; a range can be as large as the store.
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            $server::new($service).max_decoding_message_size(limit).max_encoding_message_size(usize::MAX)
        };
    }
    let mut routes = Routes::new(health);
    routes = routes
        .add_service(limited!(KvServer, KvService::new(node.clone())))
        .add_service(limited!(IntrospectionServer, IntrospectionService::new(node.clone(), hub)))
        .add_service(limited!(LeaseServer, LeaseService::new(node.clone(), stop.clone())))
        .add_service(limited!(ClusterServer, ClusterService::new(node.clone(), config)))
        .add_service(limited!(MaintenanceServer, MaintenanceService::new(node.clone())))
        .add_service(limited!(AuthServer, AuthService::new(node.clone())))
        .add_service(limited!(LockServer, LockService))
        .add_service(limited!(ElectionServer, ElectionService))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    // In the place of the stub's own: answers that may be large, and events, which are encoded already.
    let kv = KvService::new(node.clone());
    macro_rules! raw {
        ($serve:ident, $handle:ident) => {{
            let kv = kv.clone();
            axum::routing::post(async move |request| raw::$serve(limit, request, async |m| kv.$handle(m).await).await)
        }};
    }
    let router = routes
        .into_axum_router()
        .route("/etcdserverpb.KV/Range", raw!(serve, range_answer))
        .route("/etcdserverpb.KV/RangeStream", raw!(serve_stream, range_stream_answers))
        .route("/etcdserverpb.KV/Txn", raw!(serve, txn_answer))
        .route("/etcdserverpb.KV/DeleteRange", raw!(serve, delete_answer))
        .route("/etcdserverpb.Watch/Watch", axum::routing::post(async move |request| watch.serve(request)));
    Ok((Routes::from(router), reporter))
}
