use std::sync::Arc;

use stentor_proto::etcdserverpb::cluster_client::ClusterClient;
use stentor_proto::etcdserverpb::{MemberListRequest, MemberListResponse};

use crate::raw::Result;
use crate::raw::call::stub;
use crate::raw::connection::Connection;

/// Calls on the cluster; see [`Client::cluster`](crate::raw::Client::cluster).
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
    /// See [`Error`](crate::raw::Error).
    pub async fn member_list(self, linearizable: bool) -> Result<MemberListResponse> {
        let mut stub = stub!(ClusterClient<_>, self.connection);
        self.connection.unary(MemberListRequest { linearizable }, async |r| stub.member_list(r).await).await
    }
}
