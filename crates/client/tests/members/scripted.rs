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

/// A message; the messages of [`frames`] to a request of a watch stream, which then stays open.
pub(crate) type Answer = Result<Vec<u8>, EtcdError>;

/// Messages as a stream carries them.
pub(crate) fn frames(messages: impl IntoIterator<Item = impl Message>) -> Vec<u8> {
    messages.into_iter().flat_map(|message| frame(&message.encode_to_vec())).collect()
}

/// A flag, the length, the message.
fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.put_u32(message.len() as u32);
    frame.extend_from_slice(message);
    frame
}

impl Asked {
    /// Its message.
    pub(crate) fn message<M: Message + Default>(&self) -> M {
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
            let response = Response::builder().header("content-type", "application/grpc");
            let token = head.headers.get("token").map(|token| token.to_str().unwrap().to_owned());
            let asked = |body| Asked { path: head.uri.path().to_owned(), token: token.clone(), body };
            let mut body = BytesMut::new();
            if head.uri.path().ends_with("/Watch") {
                let mut sender = respond.send_response(response.body(()).unwrap(), false).unwrap();
                while let Some(Ok(part)) = stream.data().await {
                    stream.flow_control().release_capacity(part.len()).unwrap();
                    body.extend_from_slice(&part);
                    while let Some(request) = split_frame(&mut body) {
                        let answered = answer(asked(request)).expect("a watch stream is not refused");
                        sender.send_data(answered.into(), false).unwrap();
                    }
                }
                return;
            }
            while let Some(Ok(part)) = stream.data().await {
                stream.flow_control().release_capacity(part.len()).unwrap();
                body.extend_from_slice(&part);
            }
            let asked = asked(body.freeze());
            match answer(asked) {
                Ok(message) => {
                    let mut sender = respond.send_response(response.body(()).unwrap(), false).unwrap();
                    sender.send_data(frame(&message).into(), false).unwrap();
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

/// The next whole message of a stream, with its frame.
fn split_frame(bytes: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().unwrap()) as usize;
    (bytes.len() >= 5 + length).then(|| bytes.split_to(5 + length).freeze())
}
