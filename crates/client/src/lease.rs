use std::sync::Arc;

use stentor_proto::etcdserverpb::lease_client::LeaseClient;
use stentor_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::call::stub;
use crate::connection::Connection;
use crate::{Error, Result};

/// Calls on leases; see [`Client::lease`](crate::Client::lease).
#[derive(Clone, Copy, Debug)]
pub struct Lease<'a> {
    connection: &'a Arc<Connection>,
}

/// A stream of renewals; dropping it ends it.
#[derive(Debug)]
pub struct LeaseKeepAlive {
    connection: Arc<Connection>,
    renewals: mpsc::Sender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

impl<'a> Lease<'a> {
    pub(crate) fn new(connection: &'a Arc<Connection>) -> Lease<'a> {
        Lease { connection }
    }

    fn stub(self) -> LeaseClient<tonic::transport::Channel> {
        stub!(LeaseClient<_>, self.connection)
    }

    /// Creates a lease; the answer has the TTL in force, in seconds.
    ///
    /// # Errors
    /// See [`Error`]; so for every call here.
    pub async fn grant(self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        let mut stub = self.stub();
        self.connection.unary(request, async |r| stub.lease_grant(r).await).await
    }

    /// Ends a lease and deletes its keys.
    ///
    /// # Errors
    /// As [`grant`](Self::grant).
    pub async fn revoke(self, request: LeaseRevokeRequest) -> Result<LeaseRevokeResponse> {
        let mut stub = self.stub();
        self.connection.unary(request, async |r| stub.lease_revoke(r).await).await
    }

    /// What is left of a lease; the TTL is -1 if there is no such lease.
    ///
    /// # Errors
    /// As [`grant`](Self::grant).
    pub async fn time_to_live(self, request: LeaseTimeToLiveRequest) -> Result<LeaseTimeToLiveResponse> {
        let mut stub = self.stub();
        self.connection.unary(request, async |r| stub.lease_time_to_live(r).await).await
    }

    /// All leases.
    ///
    /// # Errors
    /// As [`grant`](Self::grant).
    pub async fn leases(self) -> Result<LeaseLeasesResponse> {
        let mut stub = self.stub();
        self.connection.unary(LeaseLeasesRequest {}, async |r| stub.lease_leases(r).await).await
    }

    /// Opens a stream of renewals.
    ///
    /// # Errors
    /// As [`grant`](Self::grant).
    pub async fn keep_alive(self) -> Result<LeaseKeepAlive> {
        let (renewals, requests) = mpsc::channel(16);
        let request = self.connection.request(ReceiverStream::new(requests));
        let answer = self.stub().lease_keep_alive(request).await.map_err(|s| self.connection.error(&s))?;
        Ok(LeaseKeepAlive { connection: self.connection.clone(), renewals, answers: answer.into_inner() })
    }
}

impl LeaseKeepAlive {
    /// Asks for one renewal and waits for its answer; a TTL of 0 says that the lease is gone. Within the
    /// call timeout.
    ///
    /// # Errors
    /// See [`Error`]; afterwards the stream is of no more use.
    pub async fn renew(&mut self, id: i64) -> Result<LeaseKeepAliveResponse> {
        let timeout = self.connection.call_timeout;
        let answer = async {
            // A closed queue means that the stream has ended; reading it says why.
            self.renewals.send(LeaseKeepAliveRequest { id }).await.ok();
            let answer = self.connection.next(&mut self.answers).await?;
            answer.ok_or_else(|| Error::Connection {
                endpoint: self.connection.endpoint.to_string(),
                reason: "the server ended the stream".to_owned(),
            })
        };
        match timeout {
            None => answer.await,
            Some(timeout) => tokio::time::timeout(timeout, answer).await.map_err(|_| Error::DeadlineExceeded)?,
        }
    }
}
