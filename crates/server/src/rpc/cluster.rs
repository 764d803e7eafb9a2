//! Cluster: who the members are. Changing that comes with the replicated log.

use std::sync::Arc;

use stentor_proto::etcdserverpb::cluster_server::Cluster;
use stentor_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
};
use tonic::{Request, Response, Status};

use super::status::{not_built, of_propose};
use crate::config::Config;
use crate::node::Node;

/// The members as MemberList tells them.
#[derive(Clone, Debug)]
pub struct Members {
    list: Vec<Member>,
}

impl Members {
    /// The one member of a cluster of one, with its URLs as they were given.
    pub fn single(node: &Node, config: &Config) -> Members {
        let member = Member {
            id: node.identity().member_id,
            name: config.name.clone(),
            peer_ur_ls: config.initial_advertise_peer_urls.iter().map(ToString::to_string).collect(),
            client_ur_ls: config.advertise_client_urls.iter().map(ToString::to_string).collect(),
            is_learner: false,
        };
        Members { list: vec![member] }
    }
}

/// The service Cluster.
#[derive(Clone)]
pub struct ClusterService {
    node: Arc<Node>,
    members: Members,
}

impl ClusterService {
    /// Serves from `node`.
    pub fn new(node: Arc<Node>, members: Members) -> ClusterService {
        ClusterService { node, members }
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(&self, request: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.node.barrier().await.map_err(of_propose)?;
        }
        let header = Some(self.node.header_without_revision());
        Ok(Response::new(MemberListResponse { header, members: self.members.list.clone() }))
    }

    async fn member_add(&self, _: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        Err(not_built("Cluster.MemberAdd"))
    }

    async fn member_remove(&self, _: Request<MemberRemoveRequest>) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(not_built("Cluster.MemberRemove"))
    }

    async fn member_update(&self, _: Request<MemberUpdateRequest>) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(not_built("Cluster.MemberUpdate"))
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(not_built("Cluster.MemberPromote"))
    }
}
