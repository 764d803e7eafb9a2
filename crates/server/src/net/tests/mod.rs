//! Connections from accept to end, on pipes in memory and on the machine's own network.

mod calls;
mod limits;
mod stopping;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, Response};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::*;
use crate::config::{Command, load};

/// A listener whose connections are pipes.
struct Pipes {
    accepted: mpsc::Receiver<DuplexStream>,
}

impl Listener for Pipes {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.accepted.recv().await {
            Some(pipe) => Ok((pipe, self.local_addr())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

/// A server whose gRPC side is a handler of the test's.
struct Harness {
    server: Server,
    metrics: Metrics,
    connect: mpsc::Sender<DuplexStream>,
}

impl Harness {
    fn new(app: App) -> Harness {
        Self::with(app, &[])
    }

    fn with(app: App, args: &[&str]) -> Harness {
        let Ok(Command::Run { config, .. }) = load(args.iter().map(Into::into), []) else { panic!("{args:?}") };
        let metrics = Metrics::new(config.metrics);
        let server = Server::new(&config, metrics.clone(), CancellationToken::new());
        let (connect, accepted) = mpsc::channel(1);
        server.serve(Pipes { accepted }, app);
        Harness { server, metrics, connect }
    }

    async fn pipe(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(1 << 20);
        self.connect.send(server).await.unwrap();
        client
    }

    /// An HTTP/2 connection, driven in the background; the handle yields its error.
    async fn h2(&self) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
        let (send, connection) = h2::client::Builder::new()
            .initial_max_send_streams(100_000)
            // The client's own tolerance of small unread answers, of which a test may leave many.
            .initial_connection_window_size(16 << 20)
            .handshake(self.pipe().await)
            .await
            .unwrap();
        (send, tokio::spawn(connection))
    }

    /// The value of a series, by name and all labels' values.
    fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics.text();
        let found: Vec<_> = text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter(|line| labels.iter().all(|label| line.contains(&format!("\"{label}\""))))
            .collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0].rsplit(' ').next().unwrap().parse().unwrap()
    }
}

/// An app that answers everything by `handler`.
fn app<F, Fut>(handler: F) -> App
where
    F: Fn(Request<Body>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    App::raw(Router::new().fallback(handler))
}

const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

fn grpc(path: &str) -> Request<()> {
    Request::post(format!("http://test{path}")).header("content-type", "application/grpc").body(()).unwrap()
}

/// A message of gRPC with so many bytes.
fn message(len: u8) -> Bytes {
    [vec![0, 0, 0, 0, len], vec![7; usize::from(len)]].concat().into()
}

fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    status::write(&mut trailers, tonic::Code::Ok, "");
    trailers
}

/// An answer of one message and success.
fn unary_ok() -> Response<Body> {
    let frames =
        [Ok::<_, io::Error>(http_body::Frame::data(message(3))), Ok(http_body::Frame::trailers(ok_trailers()))];
    grpc_response(Body::new(http_body_util::StreamBody::new(tokio_stream::iter(frames))))
}

fn grpc_response(body: Body) -> Response<Body> {
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

/// The whole answer: headers and trailers in one map, and the data.
async fn finish(response: ResponseFuture) -> Result<(HashMap<String, String>, Vec<u8>), h2::Error> {
    let (parts, mut body) = response.await?.into_parts();
    let mut data = Vec::new();
    while let Some(chunk) = body.data().await {
        data.extend_from_slice(&chunk?);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let all = parts.headers.iter().chain(trailers.iter());
    Ok((all.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect(), data))
}
