//! A server that answers as a test says, over a pipe: for what a member does not do.

use std::io;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Response};
use prost::Message;
use stentor_client::{Client, ClientBuilder};
use stentor_proto::EtcdError;
use tokio::io::DuplexStream;

/// One call.
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    body: Bytes,
}

pub(crate) type Answer = Result<Vec<u8>, EtcdError>;

impl Asked {
    /// Its message.
    pub(crate) fn message<M: Message + Default>(&self) -> M {
        // One frame: a flag, the length, the message.
        M::decode(&self.body[5..]).unwrap()
    }
}

/// A client of a server that answers each call by this.
pub(crate) fn client(answer: impl Fn(Asked) -> Answer + Send + Sync + 'static) -> ClientBuilder {
    let answer = Arc::new(answer);
    connected(move |pipe| drop(tokio::spawn(serve(pipe, answer.clone()))))
}

/// A client whose connections end up there.
pub(crate) fn connected(accept: impl Fn(DuplexStream) + Send + Sync + 'static) -> ClientBuilder {
    Client::builder(["a:1"]).seed(1).connector(move |_| {
        let (client, server) = tokio::io::duplex(64 << 10);
        accept(server);
        async { Ok::<_, io::Error>(client) }
    })
}

async fn serve(pipe: DuplexStream, answer: Arc<dyn Fn(Asked) -> Answer + Send + Sync>) {
    let mut connection = h2::server::handshake(pipe).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let answer = answer.clone();
        tokio::spawn(async move {
            let (head, mut stream) = request.into_parts();
            let mut body = BytesMut::new();
            while let Some(Ok(part)) = stream.data().await {
                stream.flow_control().release_capacity(part.len()).unwrap();
                body.extend_from_slice(&part);
            }
            let token = head.headers.get("token").map(|token| token.to_str().unwrap().to_owned());
            let asked = Asked { path: head.uri.path().to_owned(), token, body: body.freeze() };
            let response = Response::builder().header("content-type", "application/grpc");
            match answer(asked) {
                Ok(message) => {
                    let mut frame = BytesMut::new();
                    frame.put_u8(0);
                    frame.put_u32(message.len() as u32);
                    frame.extend_from_slice(&message);
                    let mut sender = respond.send_response(response.body(()).unwrap(), false).unwrap();
                    sender.send_data(frame.freeze(), false).unwrap();
                    let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
                    sender.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
                }
                Err(error) => {
                    let response = response.header("grpc-status", error.code() as i32);
                    let response = response.header("grpc-message", error.text()).body(()).unwrap();
                    respond.send_response(response, true).unwrap();
                }
            }
        });
    }
}
