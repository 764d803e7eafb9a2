use std::sync::Arc;

use stentor_proto::etcdserverpb::lease_client::LeaseClient;
use stentor_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::raw::call::stub;
use crate::raw::connection::Connection;
use crate::raw::{Error, Result};

/// Calls on leases; see [`Client::lease`](crate::raw::Client::lease).
#[derive(Clone, Copy, Debug)]
pub struct Lease<'a> {
    connection: &'a Arc<Connection>,
}

/// A stream of renewals; dropping it ends it.
#[derive(Debug)]
pub struct LeaseKeepAlive {
    connection: Arc<Connection>,
    renewals: mpsc::Sender<LeaseKeepAliveRequest>,
    state: State,
}

/// A server may send nothing, headers included, before the first request: so the call starts with it.
#[derive(Debug)]
enum State {
    Ready(ReceiverStream<LeaseKeepAliveRequest>),
    Open(Box<Streaming<LeaseKeepAliveResponse>>),
    Failed,
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

    /// A stream of renewals; it opens with the first one.
    pub fn keep_alive(self) -> LeaseKeepAlive {
        let (renewals, requests) = mpsc::channel(16);
        let state = State::Ready(ReceiverStream::new(requests));
        LeaseKeepAlive { connection: self.connection.clone(), renewals, state }
    }
}

impl LeaseKeepAlive {
    /// Asks for one renewal and waits for its answer; a TTL of 0 says that the lease is gone. Within the
    /// call timeout.
    ///
    /// # Errors
    /// See [`Error`]; afterwards the stream is of no more use.
    pub async fn renew(&mut self, id: i64) -> Result<LeaseKeepAliveResponse> {
        match self.connection.call_timeout {
            None => self.exchange(id).await,
            Some(timeout) => {
                tokio::time::timeout(timeout, self.exchange(id)).await.map_err(|_| Error::DeadlineExceeded)?
            }
        }
    }

    async fn exchange(&mut self, id: i64) -> Result<LeaseKeepAliveResponse> {
        let ended = || Error::Connection {
            endpoint: self.connection.endpoint.to_string(),
            reason: "the server ended the stream".to_owned(),
        };
        self.renewals.send(LeaseKeepAliveRequest { id }).await.map_err(|_| ended())?;
        // Whoever drops this half-way finds the stream failed, not out of step.
        let mut answers = match std::mem::replace(&mut self.state, State::Failed) {
            State::Open(answers) => answers,
            State::Ready(requests) => {
                let request = self.connection.request(requests);
                let mut stub = stub!(LeaseClient<_>, self.connection);
                let answer = stub.lease_keep_alive(request).await.map_err(|s| self.connection.error(&s))?;
                Box::new(answer.into_inner())
            }
            State::Failed => return Err(ended()),
        };
        let answer = self.connection.next(&mut answers).await?.ok_or_else(ended)?;
        self.state = State::Open(answers);
        Ok(answer)
    }
}
