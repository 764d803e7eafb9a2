//! What this member asks of others, mostly of the leader.

use std::time::Duration;

use stentor_proto::Revision;
use stentor_proto::peerpb::peer_client::PeerClient;
use stentor_proto::peerpb::{
    HashKvRequest, LeaseTimeLeftRequest, MembersRequest, MembersResponse, ProgressRequest, RenewLeaseRequest,
};
use stentor_raft::Follower;
use tonic::Status;
use tonic::transport::Channel;

use super::Peers;
use crate::corruption::Held;

impl Peers {
    /// Has a lease given its full TTL again, by the leader: that in seconds, 0 if there is no such lease.
    pub(crate) async fn renew_lease(&self, leader: u64, id: i64) -> Result<i64, Status> {
        let request = RenewLeaseRequest { sender: Some(self.shared.sender(leader)), id };
        Ok(self.client(leader)?.renew_lease(request).await?.into_inner().ttl)
    }

    /// How long a lease has left, as the leader knows; `None` if there is no such lease.
    pub(crate) async fn lease_time_left(&self, leader: u64, id: i64) -> Result<Option<Duration>, Status> {
        let request = LeaseTimeLeftRequest { sender: Some(self.shared.sender(leader)), id };
        let answer = self.client(leader)?.lease_time_left(request).await?.into_inner();
        Ok(u64::try_from(answer.milliseconds).ok().map(Duration::from_millis))
    }

    /// The last entry committed, and how far each member is, as the leader knows.
    pub(crate) async fn progress(&self, leader: u64) -> Result<(u64, Vec<Follower>), Status> {
        let request = ProgressRequest { sender: Some(self.shared.sender(leader)) };
        let answer = self.client(leader)?.progress(request).await?.into_inner();
        let followers = answer.followers.into_iter();
        let follower = |f: stentor_proto::peerpb::FollowerProgress| Follower {
            id: f.id,
            matched: f.matched,
            recent: f.recent,
            needs_snapshot: false,
        };
        Ok((answer.committed, followers.map(follower).collect()))
    }

    /// Who the members are, as another one knows.
    pub(crate) async fn members(&self, of: u64) -> Result<MembersResponse, Status> {
        Ok(self.client(of)?.members(MembersRequest {}).await?.into_inner())
    }

    /// What another one has, hashed up to `at`, once it has applied what this one has.
    pub(crate) async fn held(&self, of: u64, at: Revision, applied: u64) -> Result<Held, Status> {
        let request = HashKvRequest { sender: Some(self.shared.sender(of)), revision: at.get(), applied };
        let answer = self.client(of)?.hash_kv(request).await?.into_inner();
        Ok(Held {
            at,
            hash: answer.hash,
            compacted: Revision::new(answer.compact_revision),
            revision: Revision::new(answer.revision).unwrap_or_default(),
            applied: answer.applied,
        })
    }

    fn client(&self, id: u64) -> Result<PeerClient<Channel>, Status> {
        let channel = self.links.lock().get(&id).map(super::Link::channel);
        channel.unwrap_or_else(|| Err(Status::unavailable("there is no link to that member"))).map(PeerClient::new)
    }
}
