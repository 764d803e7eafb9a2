//! Calls that are answered without the generated stub: the answer is encoded once and goes to the
//! connection in slices of that one buffer. A large list would otherwise be held three times.
//!
//! A large answer holds its share of the budget ([`crate::reads`]) until the client has taken it. A
//! client that stops taking it is cut off after a while: the budget belongs to all.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Limited};
use parking_lot::Mutex;
use prost::Message;
use tokio::time::sleep;
use tonic::Status;

use crate::reads::Admitted;

/// Before each gRPC message: one byte that tells of compression, and the length.
pub(crate) const PREFIX_BYTES: usize = 5;

/// The largest message that the prefix can tell the length of.
pub(crate) const MAX_MESSAGE_BYTES: u64 = u32::MAX as u64;

/// A large answer is handed on in slices of this size, each when the client has taken the one before.
const SLICE_BYTES: usize = 64 << 10;

/// A client that takes nothing of a large answer for so long is cut off.
pub(crate) const STALL_TIME: Duration = Duration::from_secs(30);

/// An encoded answer, and its share of the budget for large ones.
pub(crate) struct Answer {
    pub(crate) message: Vec<u8>,
    admitted: Option<Admitted>,
}

impl Answer {
    pub(crate) fn new(message: Vec<u8>, admitted: Option<Admitted>) -> Answer {
        Answer { message, admitted: admitted.filter(Admitted::is_share) }
    }
}

/// The answers of a call that streams them; each is asked for when the one before was taken.
pub(crate) type Answers = BoxStream<'static, Result<Answer, Status>>;

/// Serves one call of a method with one request and a stream of answers.
pub(crate) async fn serve_stream<M: Message + Default>(
    message_limit: usize,
    request: Request<Body>,
    handle: impl AsyncFnOnce(M) -> Result<Answers, Status>,
) -> Response<Body> {
    let answers = async {
        let message = read_message(request.into_body(), message_limit).await?;
        handle(message).await
    };
    respond(answers.await.map(|answers| AnswerBody { current: None, answers: Some(answers), trailers: true }))
}

/// Serves one call of a method with one request and one answer.
pub(crate) async fn serve<M: Message + Default>(
    message_limit: usize,
    request: Request<Body>,
    handle: impl AsyncFnOnce(M) -> Result<Answer, Status>,
) -> Response<Body> {
    let answer = async {
        let message = read_message(request.into_body(), message_limit).await?;
        handle(message).await
    };
    respond(answer.await.and_then(AnswerBody::new))
}

fn respond(body: Result<AnswerBody, Status>) -> Response<Body> {
    match body {
        Ok(body) => {
            let mut response = Response::new(Body::new(body));
            let headers = response.headers_mut();
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
        Err(status) => status.into_http(),
    }
}

async fn read_message<M: Message + Default>(mut body: Body, limit: usize) -> Result<M, Status> {
    let first = loop {
        match body.frame().await {
            None => break Bytes::new(),
            Some(Err(error)) => return Err(Status::cancelled(error.to_string())),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    break data;
                }
            }
        }
    };
    // What is too long is refused before it is read, by the length that its prefix tells.
    if let Some([_, length @ ..]) = first.first_chunk::<PREFIX_BYTES>() {
        let length = u32::from_be_bytes(*length) as usize;
        if length > limit {
            return Err(too_large(length, limit));
        }
    }
    let rest = Limited::new(body, (limit + PREFIX_BYTES).saturating_sub(first.len())).collect().await;
    let rest = rest.map_err(|error| match error.downcast::<http_body_util::LengthLimitError>() {
        Ok(_) => too_large(limit + 1, limit),
        Err(error) => Status::cancelled(error.to_string()),
    })?;
    let mut bytes = first.chain(rest.aggregate());
    let mut bytes = bytes.copy_to_bytes(bytes.remaining());
    if bytes.len() < PREFIX_BYTES {
        return Err(Status::internal("the request has no message"));
    }
    let compressed = bytes.get_u8();
    let length = bytes.get_u32() as usize;
    if compressed != 0 {
        return Err(Status::unimplemented("grpc: compressed messages are not supported"));
    }
    if length > limit {
        return Err(too_large(length, limit));
    }
    if length != bytes.len() {
        return Err(Status::internal("the request is not one whole message"));
    }
    M::decode(bytes).map_err(|e| Status::internal(format!("the request can't be read: {e}")))
}

/// The refusal of a request of more than `limit` bytes.
pub(crate) fn too_large(length: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!("grpc: received message larger than max ({length} vs. {limit})"))
}

/// The length of an answer as its prefix tells it, which ends at [`MAX_MESSAGE_BYTES`].
fn frame_length(length: usize) -> Result<u32, Status> {
    u32::try_from(length).map_err(|_| unsendable())
}

/// The refusal of an answer that no frame can hold.
pub(crate) fn unsendable() -> Status {
    Status::resource_exhausted(format!("grpc: the answer is larger than a message can be ({MAX_MESSAGE_BYTES} bytes)"))
}

/// What a call is answered: messages, each with its prefix, then the trailers.
struct AnswerBody {
    current: Option<Outgoing>,
    /// Those that follow.
    answers: Option<Answers>,
    trailers: bool,
}

/// A message on its way.
struct Outgoing {
    prefix: Option<Bytes>,
    rest: Rest,
}

/// What is left of the message.
enum Rest {
    Small(Bytes),
    Large(Arc<Large>),
}

/// A message with a share of the budget; both are given up together, by its end or by a stall.
struct Large {
    state: Mutex<LargeState>,
}

struct LargeState {
    rest: Bytes,
    admitted: Option<Admitted>,
    /// The client has taken something since it was last looked at.
    moved: bool,
    cut: bool,
}

impl AnswerBody {
    fn new(answer: Answer) -> Result<AnswerBody, Status> {
        Ok(AnswerBody { current: Some(Outgoing::new(answer)?), answers: None, trailers: true })
    }

    /// The last frame, once: how the call went.
    fn end(&mut self, status: Option<Status>) -> Option<Frame<Bytes>> {
        self.answers = None;
        if !std::mem::take(&mut self.trailers) {
            return None;
        }
        let mut trailers = HeaderMap::new();
        match status {
            None => {
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
            }
            // A status that is no header would have to be made so by us, and none is.
            Some(status) => drop(status.add_header(&mut trailers)),
        }
        Some(Frame::trailers(trailers))
    }
}

impl Outgoing {
    fn new(Answer { message, admitted }: Answer) -> Result<Outgoing, Status> {
        let length = frame_length(message.len())?;
        let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
        prefix.put_u8(0);
        prefix.put_u32(length);
        let message = Bytes::from(message);
        let rest = match admitted {
            None => Rest::Small(message),
            Some(_) => {
                let state = LargeState { rest: message, admitted, moved: true, cut: false };
                let large = Arc::new(Large { state: Mutex::new(state) });
                tokio::spawn(cut_when_stalled(Arc::downgrade(&large)));
                Rest::Large(large)
            }
        };
        Ok(Outgoing { prefix: Some(prefix.freeze()), rest })
    }

    /// The next piece; `None` at the end.
    fn next(&mut self) -> Result<Option<Bytes>, h2::Error> {
        let prefix = self.prefix.take();
        if let (Some(prefix), Rest::Small(rest)) = (&prefix, &mut self.rest)
            && rest.len() <= SLICE_BYTES
        {
            // A small answer is one frame.
            let mut whole = BytesMut::with_capacity(PREFIX_BYTES + rest.len());
            whole.extend_from_slice(prefix);
            whole.extend_from_slice(&std::mem::take(rest));
            return Ok(Some(whole.freeze()));
        }
        if prefix.is_some() {
            return Ok(prefix);
        }
        let slice = |rest: &mut Bytes| (!rest.is_empty()).then(|| rest.split_to(rest.len().min(SLICE_BYTES)));
        match &mut self.rest {
            Rest::Small(rest) => Ok(slice(rest)),
            Rest::Large(large) => {
                let mut state = large.state.lock();
                if state.cut {
                    // gRPC's clients read this as "resource exhausted".
                    return Err(h2::Reason::ENHANCE_YOUR_CALM.into());
                }
                state.moved = true;
                // A copy: a slice that waits to be sent would keep the whole message in memory, also when it
                // was cut.
                Ok(slice(&mut state.rest).map(|slice| Bytes::copy_from_slice(&slice)))
            }
        }
    }
}

/// Gives up a large answer of which nothing was taken between two looks. Ends with the answer.
async fn cut_when_stalled(large: Weak<Large>) {
    loop {
        sleep(STALL_TIME).await;
        let Some(large) = large.upgrade() else { return };
        let mut state = large.state.lock();
        if !std::mem::take(&mut state.moved) {
            state.cut = true;
            state.rest = Bytes::new();
            state.admitted = None;
            return;
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(current) = &mut this.current {
                match current.next() {
                    Err(error) => return Poll::Ready(Some(Err(error))),
                    Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                    // Its share is given back before the next is waited for.
                    Ok(None) => this.current = None,
                }
            }
            let Some(answers) = &mut this.answers else {
                return Poll::Ready(this.end(None).map(Ok));
            };
            match ready!(answers.as_mut().poll_next(cx)) {
                Some(Ok(answer)) => match Outgoing::new(answer) {
                    Ok(outgoing) => this.current = Some(outgoing),
                    Err(status) => return Poll::Ready(this.end(Some(status)).map(Ok)),
                },
                Some(Err(status)) => return Poll::Ready(this.end(Some(status)).map(Ok)),
                None => return Poll::Ready(this.end(None).map(Ok)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reads::ReadAdmission;

    async fn large(reads: &ReadAdmission, bytes: usize) -> AnswerBody {
        AnswerBody::new(Answer::new(vec![7; bytes], Some(reads.admit(bytes as u64).await.unwrap()))).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_comes_whole_and_gives_its_share_back() {
        let reads = ReadAdmission::new(1 << 30, STALL_TIME);
        let body = large(&reads, 1 << 20).await;
        assert_eq!(reads.in_flight_bytes(), 1 << 20);
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len(), PREFIX_BYTES + (1 << 20));
        assert_eq!(reads.in_flight_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stalls_is_cut_and_one_that_is_slow_is_not() {
        let reads = ReadAdmission::new(1 << 30, STALL_TIME);
        let mut slow = large(&reads, 1 << 20).await;
        let mut stalled = large(&reads, 1 << 20).await;
        for _ in 0..4 {
            assert!(slow.frame().await.unwrap().is_ok());
            sleep(STALL_TIME / 2).await;
        }
        assert!(slow.frame().await.unwrap().is_ok());
        // Its first look finds it fresh, its second finds that nothing was taken.
        sleep(STALL_TIME).await;
        assert_eq!(reads.in_flight_bytes(), 1 << 20);
        assert!(stalled.frame().await.unwrap().is_ok(), "the prefix");
        assert!(stalled.frame().await.unwrap().is_err());
        drop(slow);
        assert_eq!(reads.in_flight_bytes(), 0);
    }

    #[test]
    fn an_answer_that_no_frame_holds_is_refused() {
        assert_eq!(frame_length(0).unwrap(), 0);
        assert_eq!(frame_length(MAX_MESSAGE_BYTES as usize).unwrap(), u32::MAX);
        let refused = frame_length(MAX_MESSAGE_BYTES as usize + 1).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn a_slice_on_its_way_does_not_hold_the_message() {
        let reads = ReadAdmission::new(1 << 30, STALL_TIME);
        let mut body = large(&reads, 1 << 20).await;
        body.frame().await.unwrap().unwrap();
        let slice = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(slice.len() == SLICE_BYTES && slice.is_unique());
    }
}
