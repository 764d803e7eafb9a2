//! gRPC over bare HTTP/2: no codec, no service, bytes as they come.

use std::future::poll_fn;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use tokio::net::TcpStream;

use crate::scan::Frames;

/// How much a client takes before it must say that it wants more.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Bytes of one stream.
    pub stream: u32,
    /// Bytes of the connection.
    pub connection: u32,
}

impl Windows {
    /// So large that flow control is never what is measured.
    pub const LARGE: Windows = Windows { stream: 16 << 20, connection: 256 << 20 };
    /// What HTTP/2 begins with, and clients that set nothing have.
    pub const STANDARD: Windows = Windows { stream: 65_535, connection: 65_535 };
}

/// A connection, on the thread that made it.
#[derive(Clone)]
pub struct Connection {
    requests: SendRequest<Bytes>,
    address: SocketAddr,
}

/// A method of one connection, ready to be called.
#[derive(Clone)]
pub struct Call {
    connection: Connection,
    uri: Uri,
    headers: HeaderMap,
}

impl Connection {
    /// Connects. Must be called within a `LocalSet`.
    ///
    /// # Errors
    /// When the server cannot be reached or speaks no HTTP/2.
    pub async fn open(address: SocketAddr, windows: Windows) -> Result<Connection> {
        let socket = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(windows.stream).initial_connection_window_size(windows.connection);
        builder.max_concurrent_streams(0).enable_push(false).initial_max_send_streams(usize::MAX >> 1);
        let (requests, connection) = builder.handshake(socket).await?;
        // How it ended is seen by those that use it.
        tokio::task::spawn_local(async move { connection.await.ok() });
        Ok(Connection { requests, address })
    }

    /// Names a method: `package.Service/Method`.
    ///
    /// # Errors
    /// When that is no path.
    pub fn method(&self, name: &str) -> Result<Call> {
        let uri = format!("http://{}/{name}", self.address).parse().with_context(|| format!("{name} is no path"))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        Ok(Call { connection: self.clone(), uri, headers })
    }
}

impl Call {
    /// Opens a stream, whose sending half stays open.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn open(&self) -> Result<(ResponseFuture, SendStream<Bytes>)> {
        let mut requests = self.connection.requests.clone().ready().await?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        Ok(requests.send_request(request, false)?)
    }

    /// Calls a method with one encoded request, and hands each message of the answer to `read`.
    ///
    /// # Errors
    /// When the connection breaks; [`Refused`] when the status is not OK.
    pub async fn exchange(
        &self,
        request: Bytes,
        mut read: impl FnMut(&[u8]) -> Result<(), crate::scan::Malformed>,
    ) -> Result<()> {
        let (response, mut send) = self.open().await?;
        send.send_data(request, true)?;
        let mut body = accept(response).await?;
        let mut frames = Frames::default();
        while let Some(bytes) = body.data().await {
            let bytes = bytes?;
            body.flow_control().release_capacity(bytes.len())?;
            frames.push(&bytes, &mut read)?;
        }
        check(body.trailers().await?.as_ref().context("an answer without a status")?)
    }
}

/// The body of a response, once its head says that there is one.
///
/// # Errors
/// When the connection breaks or the server refuses the call.
pub async fn accept(response: ResponseFuture) -> Result<RecvStream> {
    let (head, body) = response.await?.into_parts();
    if head.status != StatusCode::OK {
        bail!("HTTP status {}", head.status);
    }
    if head.headers.contains_key("grpc-status") {
        check(&head.headers)?;
    }
    Ok(body)
}

/// Tests a gRPC status.
///
/// # Errors
/// [`Refused`] when it is another than OK.
pub fn check(trailers: &HeaderMap) -> Result<()> {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text("grpc-status") {
        "0" => Ok(()),
        status => Err(Refused { status: status.to_owned(), message: text("grpc-message").to_owned() }.into()),
    }
}

/// A status other than OK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gRPC status {status}: {message}")]
pub struct Refused {
    status: String,
    message: String,
}

impl Refused {
    /// RESOURCE_EXHAUSTED or UNAVAILABLE, or what etcd says of too many puts at once, with the code UNKNOWN: the
    /// server has too much to do.
    pub fn is_busy(&self) -> bool {
        matches!(self.status.as_str(), "8" | "14") || self.message.ends_with("too many requests")
    }

    /// UNIMPLEMENTED: the server has no such method.
    pub fn is_unknown_method(&self) -> bool {
        self.status == "12"
    }
}

/// Sends bytes as fast as the server takes them.
///
/// # Errors
/// When the stream or the connection is broken.
pub async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<()> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let capacity = poll_fn(|cx| stream.poll_capacity(cx)).await.context("the stream has ended")??;
        let piece = bytes.split_to(capacity.min(bytes.len()));
        stream.send_data(piece, false)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_is_told_from_a_broken_one() {
        let refused = |status: &'static str, message: &'static str| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            trailers.insert("grpc-message", HeaderValue::from_static(message));
            check(&trailers).map_err(|error| error.downcast::<Refused>().unwrap()).err()
        };
        assert_eq!(refused("0", ""), None);
        let busy = [("8", "resources"), ("14", "no leader"), ("2", "etcdserver: too many requests")];
        assert!(busy.into_iter().all(|(status, message)| refused(status, message).unwrap().is_busy()));
        assert!(!refused("2", "etcdserver: corrupt").unwrap().is_busy());
        assert!(refused("12", "unknown method").unwrap().is_unknown_method());
        assert!(check(&HeaderMap::new()).is_err(), "no status at all");
    }
}
