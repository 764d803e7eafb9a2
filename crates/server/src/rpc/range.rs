//! Range, served without the generated stub: the answer is encoded once, straight from history, and goes
//! to the socket in slices of that one buffer. A large list would otherwise be held three times.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Limited};
use prost::Message;
use stentor_mvcc::check;
use stentor_proto::etcdserverpb::RangeRequest;
use tonic::Status;

use super::status::{of_propose, of_stopping, of_store};
use crate::node::Node;
use crate::reads::{self, Admitted, SMALL_BYTES};

/// The method's path.
pub(crate) const PATH: &str = "/etcdserverpb.KV/Range";

/// Before each gRPC message: one byte that tells of compression, and the length.
const PREFIX_BYTES: usize = 5;

/// A large answer is handed on in slices of this size, each when the client has taken the one before.
const SLICE_BYTES: usize = 64 << 10;

/// Serves one call.
pub(crate) async fn serve(node: Arc<Node>, message_limit: usize, request: Request<Body>) -> Response<Body> {
    match answer(node, message_limit, request.into_body()).await {
        Ok(answer) => {
            let mut response = Response::new(Body::new(answer));
            let headers = response.headers_mut();
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
        Err(status) => status.into_http(),
    }
}

async fn answer(node: Arc<Node>, message_limit: usize, body: Body) -> Result<AnswerBody, Status> {
    let request = read_request(body, message_limit).await?;
    Ok(AnswerBody::new(read(&node, &request).await?))
}

/// A whole answer, and its share of the budget for large ones.
pub(super) struct Answer {
    pub(super) message: Vec<u8>,
    admitted: Option<Admitted>,
}

/// Reads a range, as the encoded `RangeResponse`.
pub(super) async fn read(node: &Arc<Node>, request: &RangeRequest) -> Result<Answer, Status> {
    check::range(request)?;
    node.metrics.mvcc.range.inc();
    let view = node.read(request.serializable).await.map_err(of_propose)?;
    let header = node.header_without_revision();
    let bytes = reads::estimate(&view, request);
    if bytes <= SMALL_BYTES {
        let message = view.range_encoded(request, &header, 512).map_err(of_store)?;
        return Ok(Answer { message, admitted: None });
    }
    // The view is taken anew after the wait, so that waiting holds nothing; it is only newer.
    drop(view);
    let admitted = node.reads.admit(bytes).await;
    let (view, request) = (node.store.view(), request.clone());
    let read = move || view.range_encoded(&request, &header, bytes.min(reads::ANSWER_BYTES) as usize);
    let message = node.environment.workers.blocking(read).await.map_err(of_stopping)?.map_err(of_store)?;
    Ok(Answer { message, admitted: Some(admitted) })
}

async fn read_request(body: Body, message_limit: usize) -> Result<RangeRequest, Status> {
    let body = Limited::new(body, message_limit + PREFIX_BYTES).collect().await;
    let mut bytes = body.map_err(|_| too_large(message_limit + 1, message_limit))?.to_bytes();
    if bytes.len() < PREFIX_BYTES {
        return Err(Status::internal("the request has no message"));
    }
    let compressed = bytes.get_u8();
    let length = bytes.get_u32() as usize;
    if compressed != 0 {
        return Err(Status::unimplemented("grpc: compressed messages are not supported"));
    }
    if length > message_limit {
        return Err(too_large(length, message_limit));
    }
    if length != bytes.len() {
        return Err(Status::internal("the request is not one whole message"));
    }
    RangeRequest::decode(bytes).map_err(|e| Status::internal(format!("the request can't be read: {e}")))
}

fn too_large(length: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!("grpc: received message larger than max ({length} vs. {limit})"))
}

/// An answer on its way: the message with its prefix, then the trailers.
struct AnswerBody {
    prefix: Option<Bytes>,
    rest: Bytes,
    trailers: bool,
    /// The budget is free again when the client has taken everything, or is gone.
    _admitted: Option<Admitted>,
}

impl AnswerBody {
    fn new(Answer { message, admitted }: Answer) -> AnswerBody {
        let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
        prefix.put_u8(0);
        // A message beyond 4 GiB can't be framed; the budget for answers is far below.
        prefix.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        AnswerBody { prefix: Some(prefix.freeze()), rest: message.into(), trailers: true, _admitted: admitted }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(prefix) = this.prefix.take() {
            if this.rest.len() <= SLICE_BYTES {
                // Small answers go as one frame.
                let mut whole = BytesMut::with_capacity(PREFIX_BYTES + this.rest.len());
                whole.extend_from_slice(&prefix);
                whole.extend_from_slice(&std::mem::take(&mut this.rest));
                return Poll::Ready(Some(Ok(Frame::data(whole.freeze()))));
            }
            return Poll::Ready(Some(Ok(Frame::data(prefix))));
        }
        if !this.rest.is_empty() {
            let slice = this.rest.split_to(this.rest.len().min(SLICE_BYTES));
            return Poll::Ready(Some(Ok(Frame::data(slice))));
        }
        if std::mem::take(&mut this.trailers) {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(None)
    }
}
