//! RangeStream: a range in chunks, all read at one revision.

use std::sync::Arc;

use async_stream::try_stream;
use futures::Stream;
use prost::Message;
use stentor_mvcc::{Error, RangeResult, View};
use stentor_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use stentor_proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};
use stentor_proto::{EtcdError, Revision};
use tonic::Status;

use super::status::{of_stopping, of_store};
use crate::node::Node;
use crate::reads;

/// Keys of the first chunk: whoever lists wants to begin early.
const FIRST_KEYS: i64 = 10;

/// Most keys of a chunk, whatever their size.
const MAX_KEYS: i64 = 10_000;

/// Refuses what can't be streamed in key order.
pub(super) fn check(request: &RangeRequest) -> Result<(), Status> {
    let refuse = |what| Err(Status::unimplemented(format!("RangeStream does not support {what}")));
    // A target without an order is let through, and means nothing: chunks come in key order.
    let (order, target) = (request.sort_order(), request.sort_target());
    if order == SortOrder::Descend || order == SortOrder::Ascend && target != SortTarget::Key {
        refuse("custom sort orders")
    } else if request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
    {
        refuse("revision filters")
    } else {
        Ok(())
    }
}

/// What is left of a streamed range.
pub(super) struct Chunks {
    node: Arc<Node>,
    /// The part that is left, at the revision of the stream.
    rest: RangeRequest,
    /// Keys the caller still wants; `None`: all.
    limit: Option<i64>,
    /// Keys of the whole range.
    count: i64,
    /// The store's revision at the start, for the last chunk's header.
    current: Revision,
    keys: i64,
}

impl Chunks {
    pub(super) fn begin(node: Arc<Node>, mut request: RangeRequest, view: &View) -> Result<Chunks, Error> {
        // Also tells whether the revision can be read.
        let count = view.range(&RangeRequest { count_only: true, ..request.clone() })?.count;
        if request.revision <= 0 {
            request.revision = view.revision().get();
        }
        (request.sort_order, request.sort_target) = (0, 0);
        let limit = Some(request.limit).filter(|n| *n > 0 && !request.count_only);
        let current = view.revision();
        Ok(Chunks { node, rest: request, limit, count, current, keys: FIRST_KEYS })
    }

    pub(super) fn stream(mut self) -> impl Stream<Item = Result<RangeStreamResponse, Status>> + Send {
        try_stream! {
            loop {
                let (response, is_last) = self.next().await?;
                yield RangeStreamResponse { range_response: Some(response) };
                if is_last {
                    break;
                }
            }
        }
    }

    /// The next chunk, and whether it is the last.
    async fn next(&mut self) -> Result<(RangeResponse, bool), Status> {
        if self.rest.count_only {
            return Ok((self.last(Vec::new(), false), true));
        }
        let wanted = self.limit.map_or(self.keys, |left| left.min(self.keys));
        let result = self.read(RangeRequest { limit: wanted, ..self.rest.clone() }).await?;
        if let Some(left) = &mut self.limit {
            *left -= result.kvs.len() as i64;
        }
        let is_last = !result.more || self.limit == Some(0);
        if is_last {
            return Ok((self.last(result.kvs, result.more), true));
        }
        if let Some(pair) = result.kvs.last() {
            self.rest.key = [&pair.key[..], b"\0"].concat().into();
        }
        let response = RangeResponse { header: None, kvs: result.kvs, more: false, count: 0 };
        self.adapt(response.encoded_len());
        Ok((response, false))
    }

    async fn read(&self, request: RangeRequest) -> Result<RangeResult, Status> {
        // Taken anew for each chunk: a slow client must not hold up compaction.
        let view = self.node.store.view();
        let bytes = reads::estimate(&view, &request);
        let _admitted = self.node.reads.admit(bytes).await;
        let read = self.node.environment.workers.blocking(move || view.range(&request));
        read.await.map_err(of_stopping)?.map_err(|error| match error {
            // A stream that has begun can't be ahead of the store; a restored store can be behind it.
            Error::Refused(EtcdError::FutureRev) => EtcdError::Compacted.into(),
            error => of_store(error),
        })
    }

    fn last(&self, kvs: Vec<stentor_proto::mvccpb::KeyValue>, more: bool) -> RangeResponse {
        RangeResponse { header: Some(self.node.header(self.current)), kvs, more, count: self.count }
    }

    /// Doubles or halves the next chunk, towards the size of the largest request.
    fn adapt(&mut self, bytes: usize) {
        let target = self.node.settings.max_request_bytes;
        if bytes > target {
            self.keys = (self.keys / 2).max(1);
        } else if bytes < target / 2 {
            self.keys = (self.keys * 2).min(MAX_KEYS);
        }
    }
}
