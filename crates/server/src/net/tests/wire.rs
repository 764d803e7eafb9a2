//! What goes over the wire, and in how many pieces.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;

use super::*;

/// Counts the writes, as a socket would see system calls.
struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Relaxed);
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Relaxed);
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

struct One(Option<Counted>);

impl Listener for One {
    type Io = Counted;

    async fn accept(&mut self) -> io::Result<(Counted, SocketAddr)> {
        match self.0.take() {
            Some(stream) => Ok((stream, self.local_addr())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

/// An event of usual size on each of 100 streams of one connection: h2 would write each frame by itself if
/// it thought the socket could write vectored.
#[tokio::test]
async fn small_frames_leave_together() {
    const STREAMS: usize = 100;
    const EVENT: usize = 345;
    let (fire, fired) = watch::channel(false);
    let app = app(move |_| {
        let mut fired = fired.clone();
        async move {
            grpc_response(Body::from_stream(async_stream::stream! {
                let _ = fired.wait_for(|fired| *fired).await;
                yield Ok::<_, io::Error>(Bytes::from(vec![1; EVENT]));
                std::future::pending::<()>().await;
            }))
        }
    });
    let harness = Harness::new(app.clone());
    let writes = Arc::new(AtomicUsize::new(0));
    let (client, stream) = tokio::io::duplex(1 << 20);
    harness.server.serve(One(Some(Counted { stream, writes: Arc::clone(&writes) })), app);

    let (mut send, connection) = h2::client::handshake(client).await.unwrap();
    tokio::spawn(connection);
    let mut bodies = Vec::new();
    for _ in 0..STREAMS {
        send = send.ready().await.unwrap();
        let (response, _) = send.send_request(grpc(WATCH), true).unwrap();
        bodies.push(response.await.unwrap().into_body());
    }
    let before = writes.load(Relaxed);
    fire.send(true).unwrap();
    for body in &mut bodies {
        let mut got = 0;
        while got < EVENT {
            got += body.data().await.unwrap().unwrap().len();
        }
    }
    let used = writes.load(Relaxed) - before;
    assert!(used <= STREAMS / 5, "{used} writes for {STREAMS} small frames");
}

#[tokio::test]
async fn both_protocols_on_one_port() {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let http = Router::new().route("/version", axum::routing::any(|| async { "it" }));
    let Ok(Command::Run { config, .. }) = load([], []) else { panic!() };
    let metrics = Metrics::new(config.metrics);
    let server = Server::new(&config, metrics, CancellationToken::new());
    let listener = TcpAcceptor::bind_to(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr();
    server.serve(listener, App::new(tonic::service::Routes::new(health), http));

    let channel = tonic::transport::Endpoint::try_from(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    assert_eq!(client.check(request).await.unwrap().into_inner().status, 1);

    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("it"), "{answer}");

    // An unknown service is gRPC's business, not HTTP's.
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let (headers, _) = finish(send.send_request(grpc("/no.such.Service/Method"), true).unwrap().0).await.unwrap();
    assert_eq!(headers["grpc-status"], "12");
    assert_eq!(headers["grpc-message"].replace("%20", " "), "unknown service no.such.Service");

    assert!(server.shutdown(Duration::from_secs(60)).await, "idle connections end by themselves");
}

/// Whatever connections there were.
#[tokio::test]
async fn a_port_is_free_at_once_after_the_stop() {
    const ATTEMPTS: usize = 5;
    let bound_again = async || {
        let Ok(Command::Run { config, .. }) = load([], []) else { panic!() };
        let server = Server::new(&config, Metrics::new(config.metrics), CancellationToken::new());
        let listener = TcpAcceptor::bind_to(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr();
        server.serve(listener, app(|_| async { unary_ok() }));
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        finish(send.send_request(grpc(PUT), true).unwrap().0).await.unwrap();
        assert!(server.shutdown(Duration::from_secs(60)).await);
        TcpAcceptor::bind_to(address)
    };
    let mut refused = Vec::new();
    while refused.len() < ATTEMPTS {
        match bound_again().await {
            Ok(_) => return,
            // The system may have given the port to somebody else.
            Err(error) => refused.push(error),
        }
    }
    panic!("{refused:?}");
}
