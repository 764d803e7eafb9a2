//! RangeStream: a range in chunks, all read at one revision.

use std::sync::Arc;

use async_stream::try_stream;
use futures::Stream;
use prost::Message;
use prost::encoding::encode_varint;
use stentor_mvcc::{EncodedPairs, Error, View};
use stentor_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use stentor_proto::etcdserverpb::{RangeRequest, RangeResponse};
use stentor_proto::{EtcdError, Revision};
use tonic::Status;

use super::raw::Answer;
use super::status::of_store;
use crate::failpoints;
use crate::node::Node;
use crate::reads::{self, Admitted, SMALL_BYTES};

/// Keys of the first chunk: whoever lists wants to begin early.
const FIRST_KEYS: i64 = 10;

/// Most keys of a chunk, whatever their size.
const MAX_KEYS: i64 = 10_000;

/// Field 1 of a `RangeStreamResponse`: its `RangeResponse`.
const RESPONSE_TAG: u8 = 1 << 3 | 2;

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

/// Pairs of one chunk, as fields of a `RangeResponse`.
struct Chunk {
    pairs: EncodedPairs,
    admitted: Admitted,
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

    /// Each chunk as the encoded `RangeStreamResponse`, with its share of the budget.
    pub(super) fn stream(mut self) -> impl Stream<Item = Result<Answer, Status>> + Send {
        try_stream! {
            loop {
                let (answer, is_last) = self.next().await?;
                failpoints::BEFORE_RANGE_CHUNK.hit();
                yield answer;
                if is_last {
                    break;
                }
            }
        }
    }

    /// The next chunk, and whether it is the last.
    async fn next(&mut self) -> Result<(Answer, bool), Status> {
        if self.rest.count_only {
            return Ok((self.answer(&[], Some(false), None), true));
        }
        let wanted = self.limit.map_or(self.keys, |left| left.min(self.keys));
        let Chunk { pairs, admitted } = self.read(RangeRequest { limit: wanted, ..self.rest.clone() }).await?;
        if let Some(left) = &mut self.limit {
            *left -= pairs.keys as i64;
        }
        let is_last = !pairs.more || self.limit == Some(0);
        let answer = self.answer(&pairs.bytes, is_last.then_some(pairs.more), Some(admitted));
        self.adapt(pairs.bytes.len());
        if let Some(key) = pairs.last_key {
            self.rest.key = [&key[..], b"\0"].concat().into();
        }
        Ok((answer, is_last))
    }

    async fn read(&self, request: RangeRequest) -> Result<Chunk, Status> {
        // Taken anew for each chunk: a slow client must not hold up compaction.
        let view = self.node.store.view();
        // Whatever the estimate, a chunk ends where its share does.
        let mut bytes = reads::estimate(&view, &request).min(self.node.settings.max_request_bytes as u64);
        let of_read = |error| match error {
            // A stream that has begun can't be ahead of the store; a restored store can be behind it.
            Error::Refused(EtcdError::FutureRev) => EtcdError::Compacted.into(),
            error => of_store(error),
        };
        if bytes <= SMALL_BYTES {
            let pairs = read_pairs(&view, &request, SMALL_BYTES as usize).map_err(of_read)?;
            let read = pairs.bytes.len() as u64;
            if read <= SMALL_BYTES {
                return Ok(Chunk { pairs, admitted: self.node.reads.admit(read).await? });
            }
            // One pair is larger. It is read again when there is room for it: waiting holds nothing.
            bytes = read;
        }
        drop(view);
        let admitted = self.node.reads.admit(bytes).await?;
        let view = self.node.store.view();
        let max_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let read = move || read_pairs(&view, &request, max_bytes);
        let pairs = self.node.reads.run(self.node.environment.workers, read).await?;
        Ok(Chunk { pairs: pairs.map_err(of_read)?, admitted })
    }

    /// A chunk; the last one also says who answers, how many keys there are and whether there are more.
    fn answer(&self, pairs: &[u8], more: Option<bool>, admitted: Option<Admitted>) -> Answer {
        let last = more.map(|more| RangeResponse {
            header: Some(self.node.header(self.current)),
            kvs: Vec::new(),
            more,
            count: self.count,
        });
        let last = last.map_or_else(Vec::new, |last| last.encode_to_vec());
        let length = pairs.len() + last.len();
        let mut message = Vec::with_capacity(length + 8);
        message.push(RESPONSE_TAG);
        encode_varint(length as u64, &mut message);
        // Messages are joined by joining their bytes.
        message.extend_from_slice(pairs);
        message.extend_from_slice(&last);
        Answer::new(message, admitted)
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

/// The first pairs of what is left.
fn read_pairs(view: &View, request: &RangeRequest, max_bytes: usize) -> Result<EncodedPairs, Error> {
    if !request.keys_only {
        return view.first_pairs_encoded(request, max_bytes);
    }
    let result = view.range(request)?;
    let last_key = result.kvs.last().map(|pair| pair.key.clone());
    let (keys, more) = (result.kvs.len(), result.more);
    let bytes = RangeResponse { kvs: result.kvs, ..RangeResponse::default() }.encode_to_vec();
    Ok(EncodedPairs { bytes, keys, last_key, more })
}
