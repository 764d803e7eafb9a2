//! More writes than can wait.

use std::sync::Arc;
use std::sync::mpsc as blocking;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use stentor_mvcc::{Commit, Observer};
use stentor_proto::EtcdError;
use stentor_server::replication::MAX_PENDING;

use crate::harness::{PATIENCE, Setup, get, put, refused};

/// Holds the task that applies writes, and its thread, until it is dropped.
struct Hold {
    open: Mutex<blocking::Receiver<()>>,
}

impl Observer for Hold {
    fn committed(&self, _: &Commit) {
        let _ = self.open.lock().recv_timeout(PATIENCE);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_the_queue_is_refused_at_once() {
    const REFUSED: usize = 500;
    let rig = Setup::new(&["--election-timeout=50000"]).on_threads().start().await;
    let (open, opened) = blocking::channel();
    let hold = Arc::new(Hold { open: Mutex::new(opened) });
    rig.member.node.store.observe(&hold);
    let kv = rig.kv();
    let write = |n: usize| {
        let mut kv = kv.clone();
        async move { kv.put(put(&format!("{n}"), "")).await }
    };
    let first = tokio::spawn(write(0));
    crate::harness::until(|| rig.revision() == 2).await;
    // The first one is being applied; then the queue fills, and the rest learns so.
    let mut writes: FuturesUnordered<_> = (1..=MAX_PENDING + REFUSED).map(write).collect();
    for _ in 0..REFUSED {
        let answer = tokio::time::timeout(PATIENCE, writes.next()).await.unwrap().unwrap();
        refused(answer, EtcdError::RequestTooManyRequests);
    }
    // Reads don't queue.
    assert_eq!(rig.kv().range(get("0")).await.unwrap().into_inner().count, 1);
    assert!(!first.is_finished());
    drop(open);
    first.await.unwrap().unwrap();
    let mut acknowledged = 1;
    while let Some(answer) = writes.next().await {
        answer.unwrap();
        acknowledged += 1;
    }
    assert_eq!(acknowledged, 1 + MAX_PENDING);
    assert_eq!(rig.revision(), 2 + MAX_PENDING as i64);
    rig.put("again", "").await;
    assert!(rig.metrics.text().contains("\netcd_server_proposals_pending 0\n"));
}
