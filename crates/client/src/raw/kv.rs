use std::sync::Arc;

use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use tonic::Streaming;

use crate::raw::Result;
use crate::raw::call::stub;
use crate::raw::connection::Connection;

/// Calls on keys and values; see [`Client::kv`](crate::raw::Client::kv).
#[derive(Clone, Copy, Debug)]
pub struct Kv<'a> {
    connection: &'a Arc<Connection>,
}

/// The chunks of one range; dropping it ends the call.
#[derive(Debug)]
pub struct RangeStream {
    connection: Arc<Connection>,
    chunks: Streaming<RangeStreamResponse>,
}

impl<'a> Kv<'a> {
    pub(crate) fn new(connection: &'a Arc<Connection>) -> Kv<'a> {
        Kv { connection }
    }

    fn stub(self) -> KvClient<tonic::transport::Channel> {
        stub!(KvClient<_>, self.connection)
    }

    /// Reads one key or a range of keys.
    ///
    /// # Errors
    /// See [`Error`](crate::raw::Error); so for every call here.
    pub async fn range(self, request: RangeRequest) -> Result<RangeResponse> {
        let mut stub = self.stub();
        self.connection.unary(request, async |r| stub.range(r).await).await
    }

    /// Reads a range in chunks, all of one revision. No deadline applies.
    ///
    /// # Errors
    /// A server without this call answers [`Error::Server`](crate::raw::Error::Server) with code 12, here or
    /// at the first chunk.
    pub async fn range_stream(self, request: RangeRequest) -> Result<RangeStream> {
        let request = self.connection.request(request);
        let answer = self.stub().range_stream(request).await.map_err(|s| self.connection.error(&s))?;
        Ok(RangeStream { connection: self.connection.clone(), chunks: answer.into_inner() })
    }

    /// Writes one key.
    ///
    /// # Errors
    /// After one of which [`Error::may_have_applied`](crate::raw::Error::may_have_applied) tells whether the
    /// write may have happened; so for every write here.
    pub async fn put(self, request: PutRequest) -> Result<PutResponse> {
        let mut stub = self.stub();
        self.connection.unary(request, async |r| stub.put(r).await).await
    }

    /// Deletes one key or a range of keys.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete_range(self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        let mut stub = self.stub();
        self.connection.unary(request, async |r| stub.delete_range(r).await).await
    }

    /// Runs one of two lists of operations, by what the compares say.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn txn(self, request: TxnRequest) -> Result<TxnResponse> {
        let mut stub = self.stub();
        self.connection.unary(request, async |r| stub.txn(r).await).await
    }

    /// Drops history below a revision.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn compact(self, request: CompactionRequest) -> Result<CompactionResponse> {
        let mut stub = self.stub();
        self.connection.unary(request, async |r| stub.compact(r).await).await
    }
}

impl RangeStream {
    /// The next chunk; `None` after the last.
    ///
    /// # Errors
    /// See [`Error`](crate::raw::Error).
    pub async fn next(&mut self) -> Result<Option<RangeResponse>> {
        Ok(self.connection.next(&mut self.chunks).await?.map(|chunk| chunk.range_response.unwrap_or_default()))
    }
}
