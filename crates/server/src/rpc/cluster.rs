//! Cluster: who the members are, and changing that.

use std::sync::Arc;

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::cluster_server::Cluster;
use stentor_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
};
use stentor_proto::storagepb::MemberRecord;
use tonic::{Request, Response, Status};

use super::status::of_propose;
use crate::config::{Config, Url};
use crate::node::{Node, Rules};

/// The service Cluster.
#[derive(Clone)]
pub struct ClusterService {
    node: Arc<Node>,
    token: Arc<str>,
    rules: Rules,
}

impl ClusterService {
    /// Serves from `node`.
    pub fn new(node: Arc<Node>, config: &Config) -> ClusterService {
        let rules = Rules { strict: config.strict_reconfig_check, max_learners: config.max_learners };
        ClusterService { node, token: config.initial_cluster_token.as_str().into(), rules }
    }
}

/// A member as clients are told.
fn told(member: MemberRecord) -> Member {
    let MemberRecord { id, name, peer_urls, client_urls, is_learner } = member;
    Member { id, name, peer_ur_ls: peer_urls, client_ur_ls: client_urls, is_learner }
}

fn all_told(members: Vec<MemberRecord>) -> Vec<Member> {
    members.into_iter().map(told).collect()
}

/// The peer URLs that a member is to have: at least one, all well formed.
fn checked(urls: Vec<String>) -> Result<Vec<String>, EtcdError> {
    let parsed: Result<Vec<_>, _> = urls.iter().map(|url| Url::parse_peer(url)).collect();
    match parsed {
        Ok(urls) if !urls.is_empty() => Ok(urls.iter().map(ToString::to_string).collect()),
        _ => Err(EtcdError::MemberBadURLs),
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(&self, request: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        let view = self.node.read(!request.into_inner().linearizable).await.map_err(of_propose)?;
        let members = all_told(view.members().iter().cloned().collect());
        Ok(Response::new(MemberListResponse { header: Some(self.node.header_without_revision()), members }))
    }

    async fn member_add(&self, request: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        let MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        let added = self.node.add_member(checked(peer_ur_ls)?, is_learner, &self.token, self.rules).await;
        let (member, members) = added.map_err(of_propose)?;
        let header = Some(self.node.header_without_revision());
        Ok(Response::new(MemberAddResponse { header, member: Some(told(member)), members: all_told(members) }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let removed = self.node.remove_member(request.into_inner().id, self.rules).await;
        let members = all_told(removed.map_err(of_propose)?);
        Ok(Response::new(MemberRemoveResponse { header: Some(self.node.header_without_revision()), members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let updated = self.node.update_member(id, checked(peer_ur_ls)?).await;
        let members = all_told(updated.map_err(of_propose)?);
        Ok(Response::new(MemberUpdateResponse { header: Some(self.node.header_without_revision()), members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let promoted = self.node.promote_member(request.into_inner().id, self.rules).await;
        let members = all_told(promoted.map_err(of_propose)?);
        Ok(Response::new(MemberPromoteResponse { header: Some(self.node.header_without_revision()), members }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_needs_peer_urls_that_are_some() {
        let checked = |urls: &[&str]| checked(urls.iter().map(|url| (*url).to_owned()).collect());
        assert_eq!(checked(&["http://a:1", "http://b:2/"]), Ok(vec!["http://a:1".to_owned(), "http://b:2".to_owned()]));
        for bad in [&[][..], &["http://a:1", "a:1"], &["http://a:1/path"]] {
            assert_eq!(checked(bad), Err(EtcdError::MemberBadURLs));
        }
    }
}
