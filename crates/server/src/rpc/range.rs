//! Reading a range, straight into the encoded answer.

use std::sync::Arc;

use stentor_mvcc::check;
use stentor_proto::etcdserverpb::RangeRequest;
use tonic::Status;

use super::raw::{Answer, MAX_MESSAGE_BYTES, unsendable};
use super::status::{of_propose, of_store};
use crate::node::Node;
use crate::reads::{self, SMALL_BYTES};

/// How much more an answer is admitted with that was larger than expected.
const GROWTH: u64 = 4;

/// At most so much is reserved for an answer before it is known. What is not used is not resident, while
/// a buffer that has to grow is held twice for a moment.
const MAX_RESERVED: usize = 512 << 20;

/// Reads a range, as the encoded `RangeResponse`.
pub(super) async fn read(node: &Arc<Node>, request: &RangeRequest) -> Result<Answer, Status> {
    check::range(request)?;
    node.metrics.mvcc.range.inc();
    let view = node.read(request.serializable).await.map_err(of_propose)?;
    let header = node.header_without_revision();
    let mut bytes = reads::estimate(&view, request);
    if bytes <= SMALL_BYTES {
        let small = view.range_encoded_within(request, &header, 512, SMALL_BYTES as usize).map_err(of_store)?;
        if let Some(message) = small {
            return Ok(Answer::new(message, None));
        }
        bytes = SMALL_BYTES * GROWTH;
    }
    // The view is taken anew after the wait, so that waiting holds nothing; it is only newer.
    drop(view);
    loop {
        let mut admitted = node.reads.admit(bytes).await?;
        // An answer that could not be sent is not read to its end either.
        let max_bytes = admitted.bytes().min(MAX_MESSAGE_BYTES);
        let within = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let (view, request) = (node.store.view(), request.clone());
        let reserved = usize::try_from(bytes).unwrap_or(usize::MAX).min(MAX_RESERVED);
        let read = move || view.range_encoded_within(&request, &header, reserved, within);
        let read = node.reads.run(node.environment.workers, read).await?;
        match read.map_err(of_store)? {
            Some(message) => {
                admitted.shrink_to(message.len() as u64);
                return Ok(Answer::new(message, Some(admitted)));
            }
            None if max_bytes == MAX_MESSAGE_BYTES => return Err(unsendable()),
            // The pairs of this range are larger than those of the store are on average.
            None => bytes = bytes.saturating_mul(GROWTH),
        }
    }
}
