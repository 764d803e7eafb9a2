//! A client that takes as little of a stream, and as late, as a test wants.

use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use prost::Message;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Status;

use super::ledger::Ledger;
use crate::harness::{PATIENCE, Rig};

/// Larger than anything that streams' own windows leave on their way.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// A flag and the length.
const PREFIX_BYTES: usize = 5;

/// A connection, which ends when it is dropped.
pub(crate) struct Connection {
    send: SendRequest<Bytes>,
    frozen: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Each stream may send so many bytes ahead of what is taken.
    pub(crate) async fn open(rig: &Rig, window: u32) -> Connection {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(CONNECTION_WINDOW);
        let (send, connection) = builder.handshake(rig.pipe()).await.unwrap();
        let (frozen, mut is_frozen) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            loop {
                tokio::select! {
                    _ = &mut connection => return,
                    _ = is_frozen.wait_for(|frozen| *frozen) => {}
                }
                if is_frozen.wait_for(|frozen| !*frozen).await.is_err() {
                    return;
                }
            }
        });
        Connection { send, frozen, task }
    }

    /// From now on its bytes are not even read from the socket, or are again.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// A call that is sent; its requests' side, and its answer to come.
    pub(crate) async fn call(&mut self, path: &str) -> (SendStream<Bytes>, ResponseFuture) {
        let mut send = self.send.clone().ready().await.unwrap();
        let head = http::Request::post(format!("http://test{path}")).header("content-type", "application/grpc");
        let (response, body) = send.send_request(head.body(()).unwrap(), false).unwrap();
        (body, response)
    }

    /// A watch stream.
    pub(crate) async fn watch(&mut self) -> RawWatch {
        let (requests, response) = self.call("/etcdserverpb.Watch/Watch").await;
        let ledger = Ledger::default();
        RawWatch { requests, response: Some(response), body: None, received: BytesMut::new(), taken: 0, ledger }
    }
}

/// A message as gRPC frames it.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    framed_bytes(&message.encode_to_vec())
}

fn framed_bytes(message: &[u8]) -> Bytes {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat().into()
}

/// A watch stream of which nothing is taken but what is asked for.
pub(crate) struct RawWatch {
    requests: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    received: BytesMut,
    /// Bytes that came.
    pub(crate) taken: usize,
    pub(crate) ledger: Ledger,
}

impl RawWatch {
    fn ask(&mut self, request: RequestUnion) {
        self.ledger.sent(&request);
        self.requests.send_data(framed(&WatchRequest { request_union: Some(request) }), false).unwrap();
    }

    /// Sends anything as a request.
    pub(crate) fn send(&mut self, message: &[u8]) {
        self.requests.send_data(framed_bytes(message), false).unwrap();
    }

    pub(crate) fn create(&mut self, request: WatchCreateRequest) {
        self.ask(RequestUnion::CreateRequest(request));
    }

    pub(crate) fn cancel(&mut self, watch_id: i64) {
        self.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    /// Takes the next bytes, and makes room for as many; at the stream's end the status.
    async fn take(&mut self) -> Result<(), Status> {
        if let Some(response) = self.response.take() {
            self.body = Some(timeout(PATIENCE, response).await.expect("no answer").unwrap().into_body());
        }
        let body = self.body.as_mut().unwrap();
        let Some(data) = timeout(PATIENCE, body.data()).await.expect("nothing came") else {
            let trailers = timeout(PATIENCE, body.trailers()).await.expect("no trailers").unwrap();
            return Err(Status::from_header_map(&trailers.unwrap()).unwrap());
        };
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        self.taken += data.len();
        self.received.extend_from_slice(&data);
        Ok(())
    }

    /// The next response, by no more bytes than it has.
    pub(crate) async fn response(&mut self) -> WatchResponse {
        self.response_or_end().await.expect("the stream ended")
    }

    /// As [`RawWatch::response`]; at the stream's end the status.
    pub(crate) async fn response_or_end(&mut self) -> Result<WatchResponse, Status> {
        loop {
            let length = self.received.get(1..PREFIX_BYTES).map(|mut length| length.get_u32() as usize);
            if let Some(length) = length.filter(|length| self.received.len() >= PREFIX_BYTES + length) {
                let message = self.received.split_to(PREFIX_BYTES + length).split_off(PREFIX_BYTES);
                let response = WatchResponse::decode(message.freeze()).unwrap();
                self.ledger.took(&response);
                return Ok(response);
            }
            self.take().await?;
        }
    }

    /// Creates a watcher, whose answer must be the next response; its id.
    pub(crate) async fn watch(&mut self, request: WatchCreateRequest) -> i64 {
        self.create(request);
        let created = self.response().await;
        assert!(created.created && !created.canceled, "{created:?}");
        created.watch_id
    }

    /// Reads until a condition on what came holds.
    pub(crate) async fn until(&mut self, mut condition: impl FnMut(&Ledger) -> bool) {
        while !condition(&self.ledger) {
            self.response().await;
        }
    }

    /// Ends the stream by a reset.
    pub(crate) fn reset(mut self) {
        self.requests.send_reset(h2::Reason::CANCEL);
    }
}
