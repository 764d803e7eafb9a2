//! KV: ranges, writes, transactions and compaction.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use prost::Message;
use stentor_mvcc::{Answer, check, txn};
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::kv_server::Kv;
use stentor_proto::etcdserverpb::request_op::Request as OpRequest;
use stentor_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use stentor_proto::storagepb::log_entry::Op;
use tonic::{Request, Response, Status};

use super::status::{of_propose, of_stopping, of_store};
use super::{range, range_stream, sign};
use crate::node::Node;
use crate::reads::{self, SMALL_BYTES};

/// The service KV.
#[derive(Clone)]
pub struct KvService {
    node: Arc<Node>,
}

impl KvService {
    /// Serves from `node`.
    pub fn new(node: Arc<Node>) -> KvService {
        KvService { node }
    }

    async fn read_txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        let view = self.node.read(txn::is_serializable(&request)).await.map_err(of_propose)?;
        let ranges = || request.success.iter().chain(&request.failure);
        let bytes = ranges()
            .map(|op| match &op.request {
                Some(OpRequest::RequestRange(range)) => reads::estimate(&view, range),
                _ => 0,
            })
            .fold(0, u64::saturating_add);
        if bytes <= SMALL_BYTES * 4 && request.compare.iter().all(|c| c.range_end.is_empty()) {
            return view.txn(&request).map_err(of_store);
        }
        drop(view);
        let _admitted = self.node.reads.admit(bytes).await;
        let view = self.node.store.view();
        let read = self.node.environment.workers.blocking(move || view.txn(&request));
        read.await.map_err(of_stopping)?.map_err(of_store)
    }

    /// Proposes a write that the quota has room for.
    async fn write(&self, op: Op) -> Result<Answer, Status> {
        self.node.propose(op).await.map_err(of_propose)
    }
}

fn unexpected(answer: &Answer) -> Status {
    Status::internal(format!("an operation was answered as another: {answer:?}"))
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        // Clients are answered by the route in `range.rs`; this is for callers of the service itself.
        let answer = range::read(&self.node, &request.into_inner()).await?;
        let response = RangeResponse::decode(&answer.message[..]);
        response.map(Response::new).map_err(|e| Status::internal(e.to_string()))
    }

    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<RangeStreamResponse, Status>> + Send>>;

    async fn range_stream(&self, request: Request<RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        let request = request.into_inner();
        check::range(&request)?;
        range_stream::check(&request)?;
        self.node.metrics.mvcc.range.inc();
        let view = self.node.read(request.serializable).await.map_err(of_propose)?;
        let chunks = range_stream::Chunks::begin(self.node.clone(), request, &view).map_err(of_store)?;
        Ok(Response::new(Box::pin(chunks.stream())))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let op = Op::Put(request.into_inner());
        self.node.check_space(&op).await.map_err(of_propose)?;
        if let Op::Put(put) = &op {
            check::put(put)?;
        }
        match self.write(op).await? {
            Answer::Put(mut response) => {
                sign(&self.node, &mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        check::delete_range(&request)?;
        match self.write(Op::DeleteRange(request)).await? {
            Answer::DeleteRange(mut response) => {
                sign(&self.node, &mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let op = Op::Txn(request.into_inner());
        self.node.check_space(&op).await.map_err(of_propose)?;
        let Op::Txn(request) = op else { return Err(EtcdError::KeyNotFound.into()) };
        check::txn(&request, self.node.settings.max_txn_ops)?;
        let mut response = if txn::is_read_only(&request) {
            let response = self.read_txn(request).await?;
            self.node.metrics.count_txn(&response);
            response
        } else {
            match self.write(Op::Txn(request)).await? {
                Answer::Txn(response) => response,
                other => return Err(unexpected(&other)),
            }
        };
        sign(&self.node, &mut response.header);
        Ok(Response::new(response))
    }

    async fn compact(&self, request: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        let revision = self.node.compact_request(request.into_inner()).await.map_err(of_propose)?;
        Ok(Response::new(CompactionResponse { header: Some(self.node.header(revision)) }))
    }
}
