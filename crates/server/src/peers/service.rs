//! What other members ask of this one.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use stentor_proto::peerpb::peer_server::Peer;
use stentor_proto::peerpb::{
    FollowerProgress, HashKvRequest, HashKvResponse, LeaseTimeLeftRequest, LeaseTimeLeftResponse, MembersRequest,
    MembersResponse, MessagesRequest, MessagesResponse, ProgressRequest, ProgressResponse, RenewLeaseRequest,
    RenewLeaseResponse, Sender, SnapshotRequest, SnapshotResponse,
};
use stentor_proto::{EtcdError, Revision};
use stentor_raft::Message;
use tokio::sync::{Semaphore, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use super::incoming;
use crate::corruption;
use crate::node::Node;
use crate::replication::{Arrived, Event, position};
use crate::rpc::{of_propose, of_store};
use crate::storage::Received;

/// What a member that was removed is told, by which it knows.
pub(super) const REMOVED: &str = "stentor: this member was removed from the cluster";

/// The service Peer.
#[derive(Clone)]
pub(crate) struct PeerService {
    node: Arc<Node>,
    received: Arc<dyn Received>,
    /// One store is received at a time.
    receiving: Arc<Semaphore>,
    stop: CancellationToken,
}

impl PeerService {
    /// Answers for `node`, until `stop`.
    pub(crate) fn new(node: Arc<Node>, received: Arc<dyn Received>, stop: CancellationToken) -> PeerService {
        PeerService { node, received, receiving: Arc::new(Semaphore::new(1)), stop }
    }

    /// Refuses who is not of this cluster, or does not mean this member.
    fn check(&self, sender: Option<&Sender>) -> Result<u64, Status> {
        let sender = sender.ok_or_else(|| Status::invalid_argument("stentor: a sender must say who it is"))?;
        let identity = self.node.identity();
        if sender.cluster_id != identity.cluster_id {
            return Err(EtcdError::ClusterIDMismatch.into());
        }
        if sender.to != identity.member_id {
            return Err(Status::failed_precondition("stentor: another member was meant"));
        }
        if self.node.store.view().members().is_removed(sender.member_id) {
            return Err(Status::failed_precondition(REMOVED));
        }
        Ok(sender.member_id)
    }

    async fn tell(&self, event: Event) -> Result<(), Status> {
        self.node.events().send(event).await.map_err(|_| EtcdError::Stopped.into())
    }

    fn is_for_us(&self, message: &Message, from: u64) -> bool {
        message.to() == self.node.identity().member_id && message.from() == from
    }

    /// Takes messages until the stream ends.
    async fn take(&self, from: u64, mut requests: Streaming<MessagesRequest>) -> Result<(), Status> {
        while let Some(request) = requests.message().await? {
            for wire in request.messages {
                match Message::from_wire(wire) {
                    // Its store comes by another way, and it with that.
                    Ok(message) if message.is_snapshot() => {}
                    Ok(message) if self.is_for_us(&message, from) => self.tell(Event::Message(message)).await?,
                    Ok(_) => debug!("a message of or for another member is not taken"),
                    Err(error) => warn!(%error, from = format!("{from:x}"), "a message can't be read"),
                }
            }
        }
        Ok(())
    }
}

/// What the limit of a message's size is: an entry is as large as a request, and a request may hold one more
/// than its limit.
pub(crate) fn message_limit(max_request_bytes: usize) -> usize {
    (max_request_bytes.saturating_mul(2)).saturating_add(8 << 20)
}

#[tonic::async_trait]
impl Peer for PeerService {
    type MessagesStream = Pin<Box<dyn Stream<Item = Result<MessagesResponse, Status>> + Send>>;

    async fn messages(
        &self,
        request: Request<Streaming<MessagesRequest>>,
    ) -> Result<Response<Self::MessagesStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?;
        let from = self.check(first.and_then(|first| first.sender).as_ref())?;
        let (end, ended) = tokio::sync::mpsc::channel(1);
        let service = self.clone();
        // Ends with the stream, whose requests it reads, or with the server.
        tokio::spawn(async move {
            let taken = tokio::select! {
                taken = service.take(from, requests) => taken,
                () = service.stop.cancelled() => Err(EtcdError::Stopped.into()),
                () = end.closed() => Ok(()),
            };
            if let Err(status) = taken {
                // The sender may be gone.
                let _ = end.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(ended))))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotRequest>>,
    ) -> Result<Response<SnapshotResponse>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap_or_default();
        let from = self.check(first.sender.as_ref())?;
        let unfit = || Status::invalid_argument("stentor: a store must come with its message");
        let wire = first.message.ok_or_else(unfit)?;
        let message = Message::from_wire(wire).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let (place, _) = message.snapshot().filter(|_| self.is_for_us(&message, from)).ok_or_else(unfit)?;
        let receiving = self.receiving.clone();
        let place_on_disk = receiving
            .try_acquire_owned()
            .map_err(|_| Status::unavailable("stentor: a store is being received already"))?;
        info!(from = format!("{from:x}"), index = place.index, "receiving a store");
        let internal = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
        let engine = self.received.begin().map_err(|error| internal(&error))?;
        stentor_mvcc::set_identity(&*engine, self.node.identity()).map_err(|error| internal(&error))?;
        let workers = self.node.environment.workers;
        let restored = incoming::receive(&mut requests, engine.clone(), workers).await?;
        if position(restored.applied) != place {
            return Err(unfit());
        }
        let (done, is_done) = oneshot::channel();
        self.tell(Event::Received(message, Arrived::new(engine, place_on_disk, done))).await?;
        is_done.await.map_err(|_| Status::from(EtcdError::Stopped))?;
        Ok(Response::new(SnapshotResponse {}))
    }

    async fn members(&self, _: Request<MembersRequest>) -> Result<Response<MembersResponse>, Status> {
        let (view, identity) = (self.node.store.view(), self.node.identity());
        Ok(Response::new(MembersResponse {
            cluster_id: identity.cluster_id,
            members: view.members().iter().cloned().collect(),
            removed: view.members().removed().collect(),
            member_id: identity.member_id,
        }))
    }

    async fn renew_lease(&self, request: Request<RenewLeaseRequest>) -> Result<Response<RenewLeaseResponse>, Status> {
        let RenewLeaseRequest { sender, id } = request.into_inner();
        self.check(sender.as_ref())?;
        let ttl = self.node.renew_lease_here(id).await.map_err(of_propose)?;
        Ok(Response::new(RenewLeaseResponse { ttl }))
    }

    async fn lease_time_left(
        &self,
        request: Request<LeaseTimeLeftRequest>,
    ) -> Result<Response<LeaseTimeLeftResponse>, Status> {
        let LeaseTimeLeftRequest { sender, id } = request.into_inner();
        self.check(sender.as_ref())?;
        let left = self.node.lease_time_left_here(id).await.map_err(of_propose)?;
        let milliseconds = left.map_or(-1, |left: Duration| i64::try_from(left.as_millis()).unwrap_or(i64::MAX));
        Ok(Response::new(LeaseTimeLeftResponse { milliseconds }))
    }

    async fn progress(&self, request: Request<ProgressRequest>) -> Result<Response<ProgressResponse>, Status> {
        self.check(request.into_inner().sender.as_ref())?;
        if !self.node.is_leader() {
            return Err(EtcdError::NotLeader.into());
        }
        let (committed, followers) = self.node.followers().await?;
        let followers = followers
            .into_iter()
            .map(|f| FollowerProgress { id: f.id, matched: f.matched, recent: f.recent })
            .collect();
        Ok(Response::new(ProgressResponse { committed, followers }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let HashKvRequest { sender, revision, applied } = request.into_inner();
        self.check(sender.as_ref())?;
        let at = Revision::new(revision).filter(|at| *at > Revision::ZERO);
        let at = at.ok_or_else(|| Status::invalid_argument("stentor: a revision is needed"))?;
        let held = corruption::held_after(&self.node, at, applied).await.map_err(of_store)?;
        Ok(Response::new(HashKvResponse {
            hash: held.hash,
            compact_revision: held.compacted.map_or(-1, Revision::get),
            revision: held.revision.get(),
            applied: held.applied,
        }))
    }
}
