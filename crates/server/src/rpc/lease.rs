//! Leases: granted, kept alive, ended, looked at.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use futures::Stream;
use stentor_mvcc::{Answer, LeaseId};
use stentor_proto::etcdserverpb::lease_server::Lease;
use stentor_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use stentor_proto::storagepb::log_entry::Op;
use stentor_proto::{EtcdError, Revision};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::status::of_propose;
use crate::lessor::MAX_TTL_SECONDS;
use crate::node::Node;

/// The service Lease.
#[derive(Clone)]
pub struct LeaseService {
    node: Arc<Node>,
    stop: CancellationToken,
}

impl LeaseService {
    /// Serves from `node` until `stop`.
    pub fn new(node: Arc<Node>, stop: CancellationToken) -> LeaseService {
        LeaseService { node, stop }
    }

    /// An id that no lease has: the one asked for, or a random positive one.
    fn choose_id(&self, wanted: i64) -> i64 {
        if wanted != 0 {
            return wanted;
        }
        let view = self.node.store.view();
        free_id((self.node.environment.random)(), |id| view.leases().get(id).is_some())
    }
}

/// The first positive id from a random one on that is not taken: it ends whatever `random` is.
fn free_id(random: u64, is_taken: impl Fn(LeaseId) -> bool) -> i64 {
    let mut id = (random & i64::MAX as u64) as i64;
    while LeaseId::new(id).is_none_or(&is_taken) {
        id = id.checked_add(1).unwrap_or(1);
    }
    id
}

/// The smallest TTL: one and a half election timeouts, in whole seconds rounded up.
fn min_ttl_seconds(election_timeout: Duration) -> i64 {
    (election_timeout * 3 / 2).as_millis().div_ceil(1000) as i64
}

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(&self, request: Request<LeaseGrantRequest>) -> Result<Response<LeaseGrantResponse>, Status> {
        let mut grant = request.into_inner();
        let op = Op::LeaseGrant(LeaseGrantRequest::default());
        self.node.check_space(&op).await.map_err(of_propose)?;
        grant.id = self.choose_id(grant.id);
        if grant.ttl > MAX_TTL_SECONDS {
            return Err(EtcdError::LeaseTTLTooLarge.into());
        }
        grant.ttl = grant.ttl.max(min_ttl_seconds(self.node.settings.election_timeout));
        let (id, ttl) = (grant.id, grant.ttl);
        let answer = self.node.propose(Op::LeaseGrant(grant)).await.map_err(of_propose)?;
        let revision = if let Answer::LeaseGrant(revision) = answer { revision } else { Revision::ZERO };
        let header = Some(self.node.header(revision));
        Ok(Response::new(LeaseGrantResponse { header, id, ttl, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let answer = self.node.propose(Op::LeaseRevoke(request.into_inner())).await.map_err(of_propose)?;
        let revision = if let Answer::LeaseRevoke { revision, .. } = answer { revision } else { Revision::ZERO };
        Ok(Response::new(LeaseRevokeResponse { header: Some(self.node.header(revision)) }))
    }

    type LeaseKeepAliveStream = Pin<Box<dyn Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let mut requests = request.into_inner();
        let node = self.node.clone();
        let stop = self.stop.clone();
        let stopped = || Status::from(EtcdError::Stopped);
        let answers = try_stream! {
            while let Some(request) = stop.run_until_cancelled(requests.message()).await.ok_or_else(stopped)?? {
                // Taken before the renewal, so that the header is never ahead of it.
                let header = Some(node.header(node.store.view().revision()));
                let renewed = stop.run_until_cancelled(node.renew_lease(request.id)).await;
                let ttl = renewed.ok_or_else(stopped)?.map_err(of_propose)?;
                yield LeaseKeepAliveResponse { header, id: request.id, ttl };
            }
        };
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let view = self.node.read(false).await.map_err(of_propose)?;
        let header = Some(self.node.header(view.revision()));
        let lease = LeaseId::new(id).and_then(|id| view.leases().get(id));
        let remaining = self.node.lease_time_left(id).await.map_err(of_propose)?;
        let response = match (lease, remaining) {
            (Some(lease), Some(remaining)) => LeaseTimeToLiveResponse {
                header,
                id,
                ttl: remaining.as_secs() as i64,
                granted_ttl: lease.ttl_seconds,
                keys: if keys { lease.keys.iter().cloned().collect() } else { Vec::new() },
            },
            _ => LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
        };
        Ok(Response::new(response))
    }

    async fn lease_leases(&self, _: Request<LeaseLeasesRequest>) -> Result<Response<LeaseLeasesResponse>, Status> {
        let view = self.node.read(false).await.map_err(of_propose)?;
        let mut leases: Vec<LeaseStatus> = view.leases().iter().map(|(id, _)| LeaseStatus { id: id.get() }).collect();
        leases.sort_unstable_by_key(|lease| lease.id);
        Ok(Response::new(LeaseLeasesResponse { header: Some(self.node.header(view.revision())), leases }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_id_is_positive_and_free() {
        let taken = |id: LeaseId| [1, 2, 7, i64::MAX].contains(&id.get());
        assert_eq!(free_id(5, taken), 5);
        assert_eq!(free_id(7, taken), 8);
        assert_eq!(free_id(0, taken), 3, "no lease has id 0");
        assert_eq!(free_id(u64::MAX, taken), 3);
        assert_eq!(free_id(1 << 63 | 9, taken), 9);
    }

    #[test]
    fn the_smallest_ttl_is_one_and_a_half_elections_rounded_up() {
        assert_eq!(min_ttl_seconds(Duration::from_millis(1000)), 2);
        assert_eq!(min_ttl_seconds(Duration::from_millis(271)), 1);
        assert_eq!(min_ttl_seconds(Duration::from_millis(2000)), 3);
    }
}
