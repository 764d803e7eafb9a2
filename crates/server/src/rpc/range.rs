//! Reading a range, straight into the encoded answer.

use std::sync::Arc;

use stentor_mvcc::check;
use stentor_proto::etcdserverpb::RangeRequest;
use tonic::Status;

use super::raw::Answer;
use super::status::{of_propose, of_stopping, of_store};
use crate::node::Node;
use crate::reads::{self, SMALL_BYTES};

/// Reads a range, as the encoded `RangeResponse`.
pub(super) async fn read(node: &Arc<Node>, request: &RangeRequest) -> Result<Answer, Status> {
    check::range(request)?;
    node.metrics.mvcc.range.inc();
    let view = node.read(request.serializable).await.map_err(of_propose)?;
    let header = node.header_without_revision();
    let bytes = reads::estimate(&view, request);
    if bytes <= SMALL_BYTES {
        let message = view.range_encoded(request, &header, 512).map_err(of_store)?;
        return Ok(Answer::new(message, None));
    }
    // The view is taken anew after the wait, so that waiting holds nothing; it is only newer.
    drop(view);
    let admitted = node.reads.admit(bytes).await;
    let (view, request) = (node.store.view(), request.clone());
    let read = move || view.range_encoded(&request, &header, bytes.min(reads::ANSWER_BYTES) as usize);
    let message = node.environment.workers.blocking(read).await.map_err(of_stopping)?.map_err(of_store)?;
    Ok(Answer::new(message, Some(admitted)))
}
