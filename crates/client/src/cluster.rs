use std::sync::Arc;

use stentor_proto::etcdserverpb::cluster_client::ClusterClient;
use stentor_proto::etcdserverpb::{MemberListRequest, MemberListResponse};

use crate::Result;
use crate::call::stub;
use crate::connection::Connection;

/// Calls on the cluster; see [`Client::cluster`](crate::Client::cluster).
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    connection: &'a Arc<Connection>,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(connection: &'a Arc<Connection>) -> Cluster<'a> {
        Cluster { connection }
    }

    /// The members, linearizable or as the connected member knows them.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub async fn member_list(self, linearizable: bool) -> Result<MemberListResponse> {
        let mut stub = stub!(ClusterClient<_>, self.connection);
        self.connection.unary(MemberListRequest { linearizable }, async |r| stub.member_list(r).await).await
    }
}
