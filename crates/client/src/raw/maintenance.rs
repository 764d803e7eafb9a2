use std::sync::Arc;

use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use stentor_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, HashKvRequest, HashKvResponse, SnapshotRequest,
    SnapshotResponse, StatusRequest, StatusResponse,
};
use tonic::Streaming;

use crate::raw::Result;
use crate::raw::call::stub;
use crate::raw::connection::Connection;

/// Calls on the member that the client is connected to; see
/// [`Client::maintenance`](crate::raw::Client::maintenance).
#[derive(Clone, Copy, Debug)]
pub struct Maintenance<'a> {
    connection: &'a Arc<Connection>,
}

/// The chunks of a snapshot; dropping it ends the call.
#[derive(Debug)]
pub struct SnapshotStream {
    connection: Arc<Connection>,
    chunks: Streaming<SnapshotResponse>,
}

impl<'a> Maintenance<'a> {
    pub(crate) fn new(connection: &'a Arc<Connection>) -> Maintenance<'a> {
        Maintenance { connection }
    }

    fn stub(self) -> MaintenanceClient<tonic::transport::Channel> {
        stub!(MaintenanceClient<_>, self.connection)
    }

    /// The member's version, size, leader and raft positions.
    ///
    /// # Errors
    /// See [`Error`](crate::raw::Error); so for every call here.
    pub async fn status(self) -> Result<StatusResponse> {
        let mut stub = self.stub();
        self.connection.unary(StatusRequest {}, async |r| stub.status(r).await).await
    }

    /// A hash of the keys at a revision, equal on members with equal history.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn hash_kv(self, request: HashKvRequest) -> Result<HashKvResponse> {
        let mut stub = self.stub();
        self.connection.unary(request, async |r| stub.hash_kv(r).await).await
    }

    /// Reads, raises or disarms alarms.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn alarm(self, request: AlarmRequest) -> Result<AlarmResponse> {
        let mut stub = self.stub();
        self.connection.unary(request, async |r| stub.alarm(r).await).await
    }

    /// Gives the space of deleted history back.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn defragment(self) -> Result<DefragmentResponse> {
        let mut stub = self.stub();
        self.connection.unary(DefragmentRequest {}, async |r| stub.defragment(r).await).await
    }

    /// Fetches the whole store. No deadline applies.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn snapshot(self) -> Result<SnapshotStream> {
        let request = self.connection.request(SnapshotRequest {});
        let answer = self.stub().snapshot(request).await.map_err(|s| self.connection.error(&s))?;
        Ok(SnapshotStream { connection: self.connection.clone(), chunks: answer.into_inner() })
    }
}

impl SnapshotStream {
    /// The next chunk; `None` after the last, which holds the SHA-256 of those before.
    ///
    /// # Errors
    /// See [`Error`](crate::raw::Error).
    pub async fn next(&mut self) -> Result<Option<SnapshotResponse>> {
        self.connection.next(&mut self.chunks).await
    }
}
