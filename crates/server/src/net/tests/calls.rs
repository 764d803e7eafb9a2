//! Calls: their deadlines, results and counts.

use http_body_util::BodyExt as _;

use super::*;

#[tokio::test]
async fn a_call_is_counted_with_its_result() {
    let harness = Harness::new(app(|request: Request<Body>| async move {
        request.into_body().collect().await.unwrap();
        unary_ok()
    }));
    let (mut send, _) = harness.h2().await;
    let (response, mut body) = send.send_request(grpc(PUT), false).unwrap();
    body.send_data(message(5), false).unwrap();
    body.send_data(message(0), true).unwrap();
    let (headers, data) = finish(response).await.unwrap();
    assert_eq!((headers["grpc-status"].as_str(), data.len()), ("0", 8));
    assert_eq!(harness.metric("grpc_server_started_total", &["Put"]), 1.0);
    assert_eq!(harness.metric("grpc_server_handled_total", &["Put", "OK"]), 1.0);
    assert_eq!(harness.metric("grpc_server_handled_total", &["Put", "Canceled"]), 0.0);
    assert_eq!(harness.metric("grpc_server_msg_received_total", &["Put"]), 2.0);
    assert_eq!(harness.metric("grpc_server_msg_sent_total", &["Put"]), 1.0);
    assert_eq!(harness.metric("etcd_network_client_grpc_received_bytes_total", &[]), 15.0);
    assert_eq!(harness.metric("etcd_network_client_grpc_sent_bytes_total", &[]), 8.0);
}

#[tokio::test]
async fn a_refusal_is_counted_with_its_code() {
    let harness = Harness::new(app(|_| async { tonic::Status::out_of_range("etcdserver: no").into_http::<Body>() }));
    let (mut send, _) = harness.h2().await;
    let (headers, _) = finish(send.send_request(grpc(PUT), true).unwrap().0).await.unwrap();
    assert_eq!(headers["grpc-status"], "11");
    assert_eq!(harness.metric("grpc_server_handled_total", &["Put", "OutOfRange"]), 1.0);
    // What is not served makes no series.
    finish(send.send_request(grpc("/made.up/Path"), true).unwrap().0).await.unwrap();
    assert!(!harness.metrics.text().contains("made.up"));
}

/// A client that leaves, before the answer or within it, counts as Canceled.
#[tokio::test]
async fn a_client_that_goes_away_is_counted_as_canceled() {
    let (seen, mut seen_here) = mpsc::channel::<()>(2);
    let harness = Harness::new(app(move |request: Request<Body>| {
        let seen = seen.clone();
        async move {
            if request.uri().path() == WATCH {
                return grpc_response(Body::from_stream(async_stream::stream! {
                    yield Ok::<_, io::Error>(message(1));
                    std::future::pending::<()>().await;
                }));
            }
            seen.send(()).await.unwrap();
            std::future::pending().await
        }
    }));
    let (mut send, connection) = harness.h2().await;
    let (response, body) = send.send_request(grpc(PUT), false).unwrap();
    seen_here.recv().await.unwrap();
    drop((response, body));
    let (watch, _body) = send.send_request(grpc(WATCH), false).unwrap();
    let mut events = watch.await.unwrap().into_body();
    events.data().await.unwrap().unwrap();
    connection.abort();
    let counted = async {
        while harness.metric("grpc_server_handled_total", &["Put", "Canceled"]) < 1.0
            || harness.metric("grpc_server_handled_total", &["Watch", "etcdserverpb.Watch", "Canceled"]) < 1.0
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), counted).await.unwrap();
}

/// Whatever the service answers to a request that breaks off.
#[tokio::test]
async fn a_request_that_breaks_off_is_counted_as_canceled() {
    let (seen, mut seen_here) = mpsc::channel::<()>(1);
    let harness = Harness::new(app(move |request: Request<Body>| {
        let seen = seen.clone();
        async move {
            seen.send(()).await.unwrap();
            assert!(request.into_body().collect().await.is_err());
            tonic::Status::unknown("broken off").into_http::<Body>()
        }
    }));
    let (mut send, _) = harness.h2().await;
    let (_response, mut body) = send.send_request(grpc(PUT), false).unwrap();
    body.send_data(message(9), false).unwrap();
    seen_here.recv().await.unwrap();
    body.send_reset(h2::Reason::CANCEL);
    let counted = async {
        while harness.metric("grpc_server_handled_total", &["Put", "Canceled"]) < 1.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), counted).await.unwrap();
    assert_eq!(harness.metric("grpc_server_handled_total", &["Put", "Unknown"]), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_call() {
    let harness = Harness::new(app(|request: Request<Body>| async move {
        if request.uri().path() == PUT {
            std::future::pending::<()>().await;
        }
        grpc_response(Body::from_stream(async_stream::stream! {
            yield Ok::<_, io::Error>(message(1));
            std::future::pending::<()>().await;
        }))
    }));
    let (mut send, _) = harness.h2().await;
    for (path, name) in [(PUT, "Put"), (WATCH, "etcdserverpb.Watch")] {
        let mut request = grpc(path);
        request.headers_mut().insert("grpc-timeout", "3S".parse().unwrap());
        let begun = tokio::time::Instant::now();
        let (headers, _) = finish(send.send_request(request, true).unwrap().0).await.unwrap();
        assert_eq!(
            (headers["grpc-status"].as_str(), headers["grpc-message"].as_str()),
            ("4", "etcdserver: context deadline exceeded")
        );
        assert!(begun.elapsed() >= Duration::from_secs(3) && begun.elapsed() < Duration::from_secs(4));
        assert_eq!(harness.metric("grpc_server_handled_total", &[name, "DeadlineExceeded"]), 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_version_that_is_no_text_is_refused_in_every_call() {
    let harness = Harness::new(app(|_| async { grpc_response(Body::empty()) }));
    let (mut send, _) = harness.h2().await;
    let mut call = async |path: &str, version: &[u8]| {
        let mut request = grpc(path);
        request.headers_mut().insert("client-api-version", http::HeaderValue::from_bytes(version).unwrap());
        finish(send.send_request(request, true).unwrap().0).await.unwrap().0
    };
    for (path, name) in [(PUT, "Put"), (WATCH, "etcdserverpb.Watch")] {
        let refused = call(path, b"3.\xff").await;
        assert_eq!(refused["grpc-status"], "3");
        assert_eq!(refused["grpc-message"].replace("%20", " "), "etcdserver: invalid client api version");
        assert_eq!(harness.metric("grpc_server_handled_total", &[name, "InvalidArgument"]), 1.0);
        assert_ne!(call(path, "3.7 – or so".as_bytes()).await.get("grpc-status").map(String::as_str), Some("3"));
    }
}
