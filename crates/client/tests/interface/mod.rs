//! What holds of the public interface as a whole.

mod spans;
mod threads;

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stentor_client::{Client, ErrorKind, KeyRange, Result};

/// What a future without a runtime ends with: nothing can wake it.
#[track_caller]
fn at_once<T: std::fmt::Debug>(future: impl IntoFuture<Output = Result<T>>) -> ErrorKind {
    let mut future = pin!(future.into_future());
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result.expect_err("nothing can be reached").kind().clone(),
        Poll::Pending => panic!("it waits for what never comes"),
    }
}

#[test]
fn calls_outside_of_a_runtime_end_with_an_error_of_their_own() {
    let client = Client::builder(["a:1"]).build().unwrap();
    assert_eq!(at_once(Client::connect(["a:1"])), ErrorKind::Closed);
    assert_eq!(at_once(client.get("a")), ErrorKind::Closed);
    assert_eq!(at_once(client.put("a", "1")), ErrorKind::Closed);
    assert_eq!(at_once(client.list("a")), ErrorKind::Closed);
    assert_eq!(at_once(client.txn()), ErrorKind::Closed);
    assert_eq!(at_once(client.watch(KeyRange::all())), ErrorKind::Closed);
    assert_eq!(at_once(client.list_then_watch(KeyRange::all())), ErrorKind::Closed);
    assert_eq!(at_once(client.lease(Duration::from_secs(10))), ErrorKind::Closed);
    assert_eq!(at_once(client.lock("a")), ErrorKind::Closed);
    assert_eq!(at_once(client.election("a").campaign("me")), ErrorKind::Closed);
    assert_eq!(at_once(client.election("a").observe()), ErrorKind::Closed);
    assert_eq!(at_once(client.stm(async |t: stentor_client::Transaction| t.get("a").await)), ErrorKind::Closed);
    assert_eq!(at_once(client.sync_endpoints()), ErrorKind::Closed);

    // And in one, the same client works, as far as there is a server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let error = runtime.block_on(client.watch(KeyRange::all()).into_future()).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable);
}
