//! Leases in a cluster: only the leader knows how long each has left, so the others ask it.

use std::future::Future;
use std::time::Duration;

use stentor_mvcc::LeaseId;
use stentor_proto::EtcdError;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Status;

use super::Node;
use crate::replication::ProposeError;

/// Between two tries to find the leader.
const RETRY: Duration = Duration::from_millis(50);

impl Node {
    /// Gives a lease its full TTL again and returns that, in seconds; 0 if there is no such lease.
    ///
    /// # Errors
    /// `Timeout` without a leader for too long; a member that can't go on.
    pub(crate) async fn renew_lease(&self, id: i64) -> Result<i64, ProposeError> {
        let there = |leader| self.replication.peers.renew_lease(leader, id);
        self.by_leader(|| self.renew_lease_here(id), there).await
    }

    /// How long a lease has left; `None` if there is no such lease.
    ///
    /// # Errors
    /// As [`Node::renew_lease`].
    pub(crate) async fn lease_time_left(&self, id: i64) -> Result<Option<Duration>, ProposeError> {
        let there = |leader| self.replication.peers.lease_time_left(leader, id);
        self.by_leader(|| self.lease_time_left_here(id), there).await
    }

    /// As [`Node::renew_lease`], by the leader itself.
    ///
    /// # Errors
    /// `NotLeader` too.
    pub(crate) async fn renew_lease_here(&self, id: i64) -> Result<i64, ProposeError> {
        if !self.is_there(id).await? {
            return Ok(0);
        }
        Ok(self.lessor.renew(id).await?.unwrap_or(0))
    }

    /// As [`Node::lease_time_left`], by the leader itself.
    ///
    /// # Errors
    /// `NotLeader` too.
    pub(crate) async fn lease_time_left_here(&self, id: i64) -> Result<Option<Duration>, ProposeError> {
        let is_there = self.is_there(id).await?;
        Ok(self.lessor.remaining(id)?.filter(|_| is_there))
    }

    /// Whether the leader has a lease; one that is not the leader any more must not say so.
    async fn is_there(&self, id: i64) -> Result<bool, ProposeError> {
        if self.lessor.term().is_none() {
            return Err(EtcdError::NotLeader.into());
        }
        self.barrier().await?;
        Ok(LeaseId::new(id).is_some_and(|id| self.store.view().leases().get(id).is_some()))
    }

    /// Does something here if this is the leader, else there; again, until one of them has done it.
    async fn by_leader<T, H, R>(&self, here: impl Fn() -> H, there: impl Fn(u64) -> R) -> Result<T, ProposeError>
    where
        H: Future<Output = Result<T, ProposeError>>,
        R: Future<Output = Result<T, Status>>,
    {
        let until = Instant::now() + self.settings.time_limit;
        loop {
            match self.leader() {
                // Who waits for the end of a lease waits for as long as that takes.
                Some(leader) if leader == self.identity.member_id => match here().await {
                    // It has just become the leader, or is none any more.
                    Err(ProposeError::Etcd(EtcdError::NotLeader)) => {}
                    done => return done,
                },
                Some(leader) => {
                    if let Ok(Ok(done)) = timeout_at(until, there(leader)).await {
                        return Ok(done);
                    }
                }
                None => {}
            }
            if timeout_at(until, sleep(RETRY)).await.is_err() {
                return Err(EtcdError::Timeout.into());
            }
        }
    }
}
