//! The stop.

use tokio::sync::watch;

use super::*;

/// A server whose puts wait for a signal and whose watches never end.
fn harness() -> (Harness, watch::Sender<bool>, mpsc::UnboundedReceiver<()>) {
    let (open, opened) = watch::channel(false);
    let (arrived, arrivals) = mpsc::unbounded_channel();
    let harness = Harness::new(app(move |request: Request<Body>| {
        let mut opened = opened.clone();
        let _ = arrived.send(());
        async move {
            if request.uri().path() == WATCH {
                return grpc_response(Body::from_stream(async_stream::stream! {
                    yield Ok::<_, io::Error>(message(1));
                    std::future::pending::<()>().await;
                }));
            }
            let _ = opened.wait_for(|open| *open).await;
            unary_ok()
        }
    }));
    (harness, open, arrivals)
}

#[tokio::test]
async fn streams_end_with_unavailable_and_calls_are_finished() {
    let (harness, open, mut arrivals) = harness();
    let (mut send, _) = harness.h2().await;
    let watch = finish(send.send_request(grpc(WATCH), false).unwrap().0);
    let put = finish(send.send_request(grpc(PUT), true).unwrap().0);
    for _ in 0..2 {
        arrivals.recv().await.unwrap();
    }
    let metrics = harness.metrics.clone();
    let stopped = tokio::spawn(harness.server.shutdown(Duration::from_secs(60)));
    let (headers, data) = watch.await.unwrap();
    assert_eq!(
        (headers["grpc-status"].as_str(), headers["grpc-message"].as_str()),
        ("14", "etcdserver: server stopped")
    );
    assert_eq!(data, message(1));
    open.send(true).unwrap();
    assert_eq!(put.await.unwrap().0["grpc-status"], "0");
    drop(send);
    assert!(stopped.await.unwrap(), "nothing had to be cut");
    assert_eq!(metrics.server.connections.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_is_cut() {
    let (harness, _open, mut arrivals) = harness();
    let (mut send, _) = harness.h2().await;
    let put = finish(send.send_request(grpc(PUT), true).unwrap().0);
    arrivals.recv().await.unwrap();
    let idle = harness.pipe().await;
    let metrics = harness.metrics.clone();
    let begun = tokio::time::Instant::now();
    assert!(!harness.server.shutdown(Duration::from_secs(1)).await);
    assert!(begun.elapsed() < Duration::from_millis(1300), "{:?}", begun.elapsed());
    assert!(put.await.is_err());
    assert_eq!(metrics.server.connections.get(), 0);
    drop(idle);
}
