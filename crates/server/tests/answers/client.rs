//! A client that takes its answer as slowly as a test wants.

use bytes::Bytes;
use h2::RecvStream;
use h2::client::ResponseFuture;
use prost::Message;
use tokio::task::JoinHandle;

use crate::harness::Rig;

pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(super) const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
pub(super) const TXN: &str = "/etcdserverpb.KV/Txn";

/// A call on a connection of its own, which ends when it is dropped.
pub(super) struct SlowCall {
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    pub(super) taken: usize,
    connection: JoinHandle<()>,
}

impl Drop for SlowCall {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// What came of taking some.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Data,
    /// The end, with the status.
    End(String),
    Reset(h2::Reason),
}

impl SlowCall {
    /// Sends the request and takes nothing yet.
    pub(super) async fn begin(rig: &Rig, path: &str, request: &impl Message) -> SlowCall {
        let (send, connection) = h2::client::handshake(rig.pipe()).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let mut send = send.ready().await.unwrap();
        let head = http::Request::post(format!("http://test{path}")).header("content-type", "application/grpc");
        let (response, mut body) = send.send_request(head.body(()).unwrap(), false).unwrap();
        let message = request.encode_to_vec();
        let prefix = [&[0][..], &(message.len() as u32).to_be_bytes()].concat();
        body.send_data(Bytes::from([prefix, message].concat()), true).unwrap();
        SlowCall { response: Some(response), body: None, taken: 0, connection }
    }

    /// Waits until the answer begins.
    pub(super) async fn headers(&mut self) {
        if let Some(response) = self.response.take() {
            let response = response.await.unwrap();
            assert_eq!(response.headers()["content-type"], "application/grpc");
            self.body = Some(response.into_body());
        }
    }

    /// Takes what has come, or waits for the next.
    pub(super) async fn take(&mut self) -> Taken {
        self.headers().await;
        let body = self.body.as_mut().unwrap();
        match body.data().await {
            Some(Ok(data)) => {
                self.taken += data.len();
                body.flow_control().release_capacity(data.len()).unwrap();
                Taken::Data
            }
            Some(Err(error)) => Taken::Reset(error.reason().unwrap_or_else(|| panic!("{error}"))),
            None => {
                let trailers = body.trailers().await.unwrap().unwrap();
                Taken::End(trailers["grpc-status"].to_str().unwrap().to_owned())
            }
        }
    }

    /// Takes everything at once.
    pub(super) async fn finish(&mut self) -> Taken {
        loop {
            match self.take().await {
                Taken::Data => {}
                end => return end,
            }
        }
    }
}
