//! Connections that take too long, too much or too often.

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::frames::PREFACE;
use super::*;

/// 10,000 small puts on their way on one connection, none of them read yet: usual for a pipelining client,
/// and no reason to end its connection.
#[tokio::test]
async fn many_small_unread_requests_are_borne() {
    const REQUESTS: usize = 10_000;
    let (open, opened) = watch::channel(false);
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let harness = Harness::new(app(move |request: Request<Body>| {
        let mut opened = opened.clone();
        let _ = arrived.send(());
        async move {
            let _ = opened.wait_for(|open| *open).await;
            match request.into_body().collect().await {
                Ok(_) => unary_ok(),
                Err(error) => tonic::Status::internal(error.to_string()).into_http::<Body>(),
            }
        }
    }));
    let (mut send, connection) = harness.h2().await;
    let mut responses = Vec::new();
    for _ in 0..REQUESTS {
        send = send.ready().await.unwrap();
        let (response, mut body) = send.send_request(grpc(PUT), false).unwrap();
        // Two frames: h2 does not count a stream's last one.
        body.send_data(message(100), false).unwrap();
        body.send_data(Bytes::new(), true).unwrap();
        responses.push(response);
    }
    for _ in 0..REQUESTS {
        arrivals.recv().await.unwrap();
    }
    open.send(true).unwrap();
    for response in responses {
        assert_eq!(finish(response).await.unwrap().0["grpc-status"], "0");
    }
    assert!(!connection.is_finished());
}

/// How long a pipe stays open after `sent`.
async fn lifetime(harness: &Harness, sent: &[u8]) -> Duration {
    let mut pipe = harness.pipe().await;
    pipe.write_all(sent).await.unwrap();
    let begun = Instant::now();
    let mut rest = Vec::new();
    // Until the server is done with it.
    tokio::time::timeout(Duration::from_secs(3600), pipe.read_to_end(&mut rest))
        .await
        .map_or(Duration::MAX, |_| begun.elapsed())
}

/// GHSA-6vch-q96h-7gc3: connections without bounds, here those that are slow at their begin.
#[tokio::test(start_paused = true)]
async fn slow_handshakes_and_headers_are_cut() {
    let harness = Harness::new(app(|_| async { unary_ok() }));
    let settings = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    for (sent, seconds) in
        [(&b""[..], 10), (b"PRI * HT", 10), (PREFACE, 10), (b"G", 10), (b"GET /version HTTP/1.1\r\nHost: x\r\n", 10)]
    {
        let lived = lifetime(&harness, sent).await;
        assert!(lived <= Duration::from_secs(seconds + 1), "{sent:?} lived {lived:?}");
    }
    // A client that is done with its part may be idle.
    assert_eq!(lifetime(&harness, &settings).await, Duration::MAX);
}

/// GHSA-6vch-q96h-7gc3, for bodies.
#[tokio::test(start_paused = true)]
async fn a_slow_body_is_cut_and_others_go_on() {
    let harness = Harness::new(app(|request: Request<Body>| async move {
        match request.into_body().collect().await {
            Ok(_) => unary_ok(),
            Err(_) => tonic::Status::cancelled("body").into_http::<Body>(),
        }
    }));
    let (mut send, _) = harness.h2().await;
    let (slow, mut body) = send.send_request(grpc(PUT), false).unwrap();
    body.send_data(message(1), false).unwrap();
    let begun = Instant::now();
    let (quick, _) = send.send_request(grpc(PUT), true).unwrap();
    assert_eq!(finish(quick).await.unwrap().0["grpc-status"], "0");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(finish(slow).await.unwrap().0["grpc-status"], "1");
    assert!(begun.elapsed() <= Duration::from_secs(61), "{:?}", begun.elapsed());
}

/// GHSA-6vch-q96h-7gc3, for headers.
#[tokio::test]
async fn endless_headers_are_refused() {
    let harness = Harness::new(app(|_| async { unary_ok() }));
    let mut pipe = harness.pipe().await;
    pipe.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
    // Until the server has had enough, whatever it says.
    let filler = [b'a'; 4096];
    let mut sent = 0;
    let mut answer = Vec::new();
    let (mut read, mut write) = tokio::io::split(pipe);
    let writing = async {
        while sent < 64 << 20 && write.write_all(&filler).await.is_ok() {
            sent += filler.len();
        }
        sent
    };
    let (sent, _) = tokio::join!(writing, read.read_to_end(&mut answer));
    assert!(sent <= 4 << 20, "{sent} bytes of headers were taken");
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));

    let (mut send, _) = harness.h2().await;
    let mut request = grpc(PUT);
    request.headers_mut().insert("x", "a".repeat(100 << 10).parse().unwrap());
    let outcome = finish(send.send_request(request, true).unwrap().0).await;
    assert!(outcome.is_err() || !outcome.unwrap().0.contains_key("grpc-status"));
}

#[tokio::test]
async fn streams_are_limited_as_configured() {
    let harness = Harness::with(app(|_| std::future::pending()), &["--max-concurrent-streams=2"]);
    let (send, connection) = h2::client::handshake(harness.pipe().await).await.unwrap();
    tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    // The settings come before the first answer, so after a refused call they are known.
    let mut deadline = std::pin::pin!(tokio::time::sleep(Duration::from_secs(60)));
    loop {
        if send.current_max_send_streams() == 2 {
            break;
        }
        tokio::select! {
            () = &mut deadline => panic!("the limit is {}", send.current_max_send_streams()),
            () = tokio::task::yield_now() => {}
        }
    }
    let _open = (send.send_request(grpc(PUT), true).unwrap(), send.send_request(grpc(PUT), true).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pings_too_often_is_told_and_cut() {
    let harness = Harness::new(app(|_| async { unary_ok() }));
    let (send, mut connection) = h2::client::handshake(harness.pipe().await).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let connection = tokio::spawn(connection);
    let mut answered = 0;
    while pings.ping(h2::Ping::opaque()).await.is_ok() {
        answered += 1;
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(answered < 10, "never cut");
    }
    // Without a stream even six seconds are too short; three are forgiven.
    assert_eq!(answered, 3);
    let error = connection.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error}");
    assert!(format!("{error:?}").contains("too_many_pings"), "{error:?}");
    drop(send);
}

#[tokio::test(start_paused = true)]
async fn pings_with_a_stream_open_are_fine() {
    let harness = Harness::new(app(|_| std::future::pending()));
    let (mut send, mut connection) = h2::client::handshake(harness.pipe().await).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    let _open = send.send_request(grpc(WATCH), false).unwrap();
    for _ in 0..20 {
        pings.ping(h2::Ping::opaque()).await.unwrap();
        tokio::time::advance(Duration::from_secs(6)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_and_dropped() {
    let harness = Harness::with(
        app(|_| std::future::pending()),
        &["--grpc-keepalive-interval=30s", "--grpc-keepalive-timeout=5s"],
    );
    let lived = lifetime(&harness, &[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()).await;
    assert!(lived >= Duration::from_secs(30) && lived <= Duration::from_secs(36), "{lived:?}");
}
