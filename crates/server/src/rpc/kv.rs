//! KV: ranges, writes, transactions and compaction.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use prost::Message;
use stentor_mvcc::{Answer, check, txn};
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::kv_server::Kv;
use stentor_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use stentor_proto::storagepb::log_entry::Op;
use tonic::{Request, Response, Status};

use super::status::{of_propose, of_store};
use super::{range, range_stream, raw, sign};
use crate::node::Node;
use crate::reads::{self, Admitted, SMALL_BYTES};

/// The service KV. Range, Txn and DeleteRange, whose answers may be large, are also served as encoded
/// answers, without the generated stub (`KvService::range_answer` and its kin).
#[derive(Clone)]
pub struct KvService {
    node: Arc<Node>,
}

impl KvService {
    /// Serves from `node`.
    pub fn new(node: Arc<Node>) -> KvService {
        KvService { node }
    }

    /// Reads a range, as the encoded answer.
    pub(crate) async fn range_answer(&self, request: RangeRequest) -> Result<raw::Answer, Status> {
        range::read(&self.node, &request).await
    }

    /// Reads a range in chunks, each as the encoded answer.
    pub(crate) async fn range_stream_answers(&self, request: RangeRequest) -> Result<raw::Answers, Status> {
        check::range(&request)?;
        range_stream::check(&request)?;
        self.node.metrics.mvcc.range.inc();
        let view = self.node.read(request.serializable).await.map_err(of_propose)?;
        let chunks = range_stream::Chunks::begin(self.node.clone(), request, &view).map_err(of_store)?;
        Ok(chunks.stream().boxed())
    }

    /// Runs a transaction, and holds the answer's share of the budget for large ones.
    pub(crate) async fn txn_answer(&self, request: TxnRequest) -> Result<raw::Answer, Status> {
        let (response, admitted) = self.run_txn(request).await?;
        Ok(raw::Answer::new(response.encode_to_vec(), admitted))
    }

    /// Deletes, and holds the answer's share of the budget for large ones.
    pub(crate) async fn delete_answer(&self, request: DeleteRangeRequest) -> Result<raw::Answer, Status> {
        let (response, admitted) = self.run_delete(request).await?;
        Ok(raw::Answer::new(response.encode_to_vec(), admitted))
    }

    async fn run_txn(&self, request: TxnRequest) -> Result<(TxnResponse, Option<Admitted>), Status> {
        let op = Op::Txn(request);
        self.node.check_space(&op).await.map_err(of_propose)?;
        let Op::Txn(request) = op else { return Err(EtcdError::KeyNotFound.into()) };
        check::txn(&request, self.node.settings.max_txn_ops)?;
        let estimated = reads::estimate_txn(&self.node.store.view(), &request);
        let (mut response, admitted) = if txn::is_read_only(&request) {
            self.read_txn_within(request, estimated).await?
        } else {
            let admitted = self.admit(estimated).await?;
            match self.write(Op::Txn(request)).await? {
                Answer::Txn(response) => (response, admitted),
                other => return Err(unexpected(&other)),
            }
        };
        sign(&self.node, &mut response.header);
        Ok((response, admitted))
    }

    /// Reads once there is room for an answer of about `bytes`, and again if it turns out to be larger.
    async fn read_txn_within(
        &self,
        request: TxnRequest,
        mut bytes: u64,
    ) -> Result<(TxnResponse, Option<Admitted>), Status> {
        loop {
            let admitted = self.admit(bytes).await?;
            let room = admitted.as_ref().map_or(SMALL_BYTES, Admitted::bytes);
            let response = self.read_txn(request.clone(), admitted.is_some()).await?;
            let len = response.encoded_len() as u64;
            if len <= room {
                self.node.metrics.count_txn(&response);
                return Ok((response, admitted));
            }
            // Nothing is held while it waits for more room.
            bytes = len.saturating_add(len / 4);
        }
    }

    async fn run_delete(&self, request: DeleteRangeRequest) -> Result<(DeleteRangeResponse, Option<Admitted>), Status> {
        check::delete_range(&request)?;
        let admitted = self.admit(reads::estimate_delete(&self.node.store.view(), &request)).await?;
        match self.write(Op::DeleteRange(request)).await? {
            Answer::DeleteRange(mut response) => {
                sign(&self.node, &mut response.header);
                Ok((response, admitted))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Waits for room for a large answer; a small one needs none.
    async fn admit(&self, bytes: u64) -> Result<Option<Admitted>, EtcdError> {
        if bytes <= SMALL_BYTES {
            return Ok(None);
        }
        self.node.reads.admit(bytes).await.map(Some)
    }

    async fn read_txn(&self, request: TxnRequest, is_large: bool) -> Result<TxnResponse, Status> {
        let view = self.node.read(txn::is_serializable(&request)).await.map_err(of_propose)?;
        if !is_large && request.compare.iter().all(|c| c.range_end.is_empty()) {
            return view.txn(&request).map_err(of_store);
        }
        let read = self.node.reads.run(self.node.environment.workers, move || view.txn(&request));
        read.await?.map_err(of_store)
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
        let answer = self.range_answer(request.into_inner()).await?;
        let response = RangeResponse::decode(&answer.message[..]);
        response.map(Response::new).map_err(|e| Status::internal(e.to_string()))
    }

    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<RangeStreamResponse, Status>> + Send>>;

    async fn range_stream(&self, request: Request<RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        let answers = self.range_stream_answers(request.into_inner()).await?;
        let responses = answers.map(|answer| {
            let response = RangeStreamResponse::decode(&answer?.message[..]);
            response.map_err(|e| Status::internal(e.to_string()))
        });
        Ok(Response::new(Box::pin(responses)))
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
        Ok(Response::new(self.run_delete(request.into_inner()).await?.0))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        Ok(Response::new(self.run_txn(request.into_inner()).await?.0))
    }

    async fn compact(&self, request: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        let revision = self.node.compact_request(request.into_inner()).await.map_err(of_propose)?;
        Ok(Response::new(CompactionResponse { header: Some(self.node.header(revision)) }))
    }
}
