use std::sync::Arc;

use stentor_proto::introspectionpb::introspection_client::IntrospectionClient;
use stentor_proto::introspectionpb::{WatchersRequest, WatchersResponse};

use crate::raw::Result;
use crate::raw::call::stub;
use crate::raw::connection::Connection;

/// What a Stentor member tells of itself beyond etcd's protocol; see
/// [`Client::introspection`](crate::raw::Client::introspection). An etcd refuses these calls with gRPC's code
/// Unimplemented, 12.
#[derive(Clone, Copy, Debug)]
pub struct Introspection<'a> {
    connection: &'a Arc<Connection>,
}

impl<'a> Introspection<'a> {
    pub(crate) fn new(connection: &'a Arc<Connection>) -> Introspection<'a> {
        Introspection { connection }
    }

    /// The watchers and streams of the member that are furthest behind, and how many there are.
    ///
    /// # Errors
    /// See [`Error`](crate::raw::Error).
    pub async fn watchers(self, request: WatchersRequest) -> Result<WatchersResponse> {
        let mut stub = stub!(IntrospectionClient<_>, self.connection);
        self.connection.unary(request, async |r| stub.watchers(r).await).await
    }
}
