//! The requests of a call, out of whatever pieces its body comes in.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use futures::task::AtomicWaker;
use http_body::Body as _;
use prost::Message;
use stentor_proto::etcdserverpb::WatchRequest;
use tonic::Status;

use crate::rpc::raw::{PREFIX_BYTES, too_large};

/// Reads requests. Between them it holds no memory but the body's own.
pub(super) struct Requests {
    /// `None` once the client has half-closed.
    body: Option<Body>,
    /// What has come and is not read yet.
    rest: Bytes,
    limit: usize,
    bell: Arc<Bell>,
}

/// Rings when the body has more, so that it need not be asked each time that an event goes out: asking takes
/// a lock of the whole connection.
#[derive(Default)]
struct Bell {
    has_rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Requests {
    /// Those of `body`, each of at most `limit` bytes.
    pub(super) fn new(body: Body, limit: usize) -> Requests {
        let bell = Arc::new(Bell { has_rung: AtomicBool::new(true), task: AtomicWaker::new() });
        Requests { body: Some(body), rest: Bytes::new(), limit, bell }
    }

    /// The next request; `None` when the client has half-closed, from then on.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<WatchRequest, Status>>> {
        loop {
            match self.take_message() {
                Ok(Some(message)) => {
                    let request = WatchRequest::decode(message);
                    return Poll::Ready(Some(
                        request.map_err(|e| Status::internal(format!("the request can't be read: {e}"))),
                    ));
                }
                Err(status) => return Poll::Ready(Some(Err(status))),
                Ok(None) => {}
            }
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            self.bell.task.register(cx.waker());
            if !self.bell.has_rung.swap(false, Ordering::Acquire) {
                return Poll::Pending;
            }
            let bell = Waker::from(self.bell.clone());
            let frame = ready!(Pin::new(body).poll_frame(&mut Context::from_waker(&bell)));
            // There may be more than one frame.
            self.bell.has_rung.store(true, Ordering::Release);
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.append(data);
                    }
                }
                Some(Err(error)) => {
                    self.body = None;
                    return Poll::Ready(Some(Err(Status::cancelled(error.to_string()))));
                }
                None => {
                    self.body = None;
                    if !self.rest.is_empty() {
                        self.rest = Bytes::new();
                        let cut = Status::internal("the last request is not whole");
                        return Poll::Ready(Some(Err(cut)));
                    }
                }
            }
        }
    }

    fn append(&mut self, data: Bytes) {
        if self.rest.is_empty() {
            self.rest = data;
        } else {
            let mut joined = BytesMut::from(std::mem::take(&mut self.rest));
            joined.extend_from_slice(&data);
            self.rest = joined.freeze();
        }
    }

    /// The next message, if it has come whole. What is too long is refused by what its prefix says.
    fn take_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some([compressed, length @ ..]) = self.rest.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if *compressed != 0 {
            return Err(Status::unimplemented("grpc: compressed messages are not supported"));
        }
        if length > self.limit {
            return Err(too_large(length, self.limit));
        }
        if self.rest.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.rest.advance(PREFIX_BYTES);
        let message = self.rest.split_to(length);
        if self.rest.is_empty() {
            // An empty slice would still hold what came.
            self.rest = Bytes::new();
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use stentor_proto::etcdserverpb::watch_request::RequestUnion;
    use stentor_proto::etcdserverpb::{WatchCancelRequest, WatchProgressRequest};

    use super::*;

    fn framed(request: &WatchRequest) -> Vec<u8> {
        let message = request.encode_to_vec();
        [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat()
    }

    fn requests() -> Vec<WatchRequest> {
        let cancel = |watch_id| RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
        let unions = [
            Some(cancel(5)),
            None,
            Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
            Some(cancel(i64::MIN)),
            Some(cancel(0)),
        ];
        unions.into_iter().map(|request_union| WatchRequest { request_union }).collect()
    }

    async fn read(pieces: Vec<Vec<u8>>, limit: usize) -> Vec<Result<WatchRequest, Status>> {
        let frames = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece))));
        let mut requests = Requests::new(Body::new(StreamBody::new(stream::iter(frames))), limit);
        let all = stream::poll_fn(move |cx| requests.poll_next(cx)).take(100);
        // The first error ends a call.
        let mut ended = false;
        all.take_while(|request| {
            let goes_on = !ended;
            ended |= request.is_err();
            std::future::ready(goes_on)
        })
        .collect()
        .await
    }

    #[tokio::test]
    async fn they_are_read_however_their_bytes_are_cut() {
        let bytes: Vec<u8> = requests().iter().flat_map(framed).collect();
        for size in 1..=bytes.len() {
            let read = read(bytes.chunks(size).map(<[u8]>::to_vec).collect(), 100).await;
            let read: Vec<WatchRequest> = read.into_iter().map(Result::unwrap).collect();
            assert_eq!(read, requests(), "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn what_is_no_request_ends_the_call_with_what_is_wrong() {
        let good = framed(&requests()[0]);
        let cases = [
            (vec![1, 0, 0, 0, 0], tonic::Code::Unimplemented, "compressed"),
            (vec![0, 0, 0, 0, 101], tonic::Code::ResourceExhausted, "larger than max (101 vs. 100)"),
            (vec![0, 0, 0, 0, 3, 1], tonic::Code::Internal, "not whole"),
            (vec![0, 0, 0, 0, 1, 0xff], tonic::Code::Internal, "can't be read"),
        ];
        for (bad, code, text) in cases {
            let read = read(vec![good.clone(), bad], 100).await;
            assert!(read.len() == 2 && read[0].is_ok(), "{read:?}");
            let status = read[1].as_ref().unwrap_err();
            assert!(status.code() == code && status.message().contains(text), "{status:?}");
        }
    }

    #[tokio::test]
    async fn between_requests_nothing_is_held() {
        let bytes: Vec<u8> = requests().iter().flat_map(framed).collect();
        let frame = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from(bytes)))]);
        let body = Body::new(StreamBody::new(frame.chain(stream::pending())));
        let mut read = Requests::new(body, 100);
        for expected in requests() {
            let got = std::future::poll_fn(|cx| read.poll_next(cx)).await;
            assert_eq!(got.unwrap().unwrap(), expected);
        }
        assert!(std::future::poll_fn(|cx| Poll::Ready(read.poll_next(cx).is_pending())).await);
        assert!(read.rest.is_empty());
    }
}
