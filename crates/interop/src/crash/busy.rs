//! Operations that are repeated until the server is gone, so that one is always being done.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use stentor_proto::etcdserverpb::{CompactionRequest, DefragmentRequest};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::store;
use crate::client::Client;

/// Callers at a time: while one has its answer and asks anew, the other's is still being done.
const CALLERS: usize = 2;

/// What is being done at the moment of the kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum During {
    /// Writes alone.
    Load,
    /// A compaction that waits for its space (etcd issue 17780).
    Compaction,
    /// A defragmentation (etcd issue 14685).
    Defragment,
}

impl During {
    /// What a kill amid it counts as.
    pub(super) fn reached(self) -> Option<&'static str> {
        match self {
            During::Load => None,
            During::Compaction => Some("killed in compaction"),
            During::Defragment => Some("killed in defragment"),
        }
    }
}

/// An operation that is repeated until the server is gone.
pub(super) struct Busy {
    callers: Vec<JoinHandle<Unanswered>>,
    compacted: Arc<AtomicI64>,
}

/// A caller's last call, which was not answered as it should.
struct Unanswered {
    /// Whether it was a call of the operation, not one that prepares it.
    operation: bool,
    begun: Instant,
    ended: Instant,
    status: Status,
}

impl Busy {
    /// Starts it. Compactions go upwards from `revision`.
    pub(super) async fn start(endpoint: &str, during: During, revision: i64) -> Result<Busy> {
        let next = Arc::new(AtomicI64::new(revision.max(1)));
        let compacted = Arc::new(AtomicI64::new(0));
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            let client = Client::connect(endpoint).await?;
            callers.push(match during {
                During::Load => continue,
                During::Compaction => tokio::spawn(compact(client, Arc::clone(&next), Arc::clone(&compacted))),
                During::Defragment => tokio::spawn(defragment(client)),
            });
        }
        Ok(Busy { callers, compacted })
    }

    /// Whether a call of the operation was made before the kill and never answered, and the highest
    /// revision that was answered as compacted, or 0. The server must be gone.
    pub(super) async fn finish(self, killed: Instant) -> Result<(bool, i64)> {
        let mut unanswered = false;
        for caller in self.callers {
            let last = caller.await?;
            ensure!(last.ended > killed, "a call failed before the kill: {}", last.status);
            unanswered |= last.operation && last.begun < killed;
        }
        Ok((unanswered, self.compacted.load(Ordering::SeqCst)))
    }
}

/// Makes a call; its answer, or how the caller ended.
async fn call<T>(operation: bool, call: impl Future<Output = Result<T, Status>>) -> Result<T, Unanswered> {
    let begun = Instant::now();
    call.await.map_err(|status| Unanswered { operation, begun, ended: Instant::now(), status })
}

/// Compacts at ever higher revisions.
async fn compact(client: Client, next: Arc<AtomicI64>, compacted: Arc<AtomicI64>) -> Unanswered {
    match compact_on(client, &next, &compacted).await {
        Ok(never) => match never {},
        Err(last) => last,
    }
}

async fn compact_on(mut client: Client, next: &AtomicI64, compacted: &AtomicI64) -> Result<Infallible, Unanswered> {
    let mut newest = 0;
    loop {
        let revision = next.fetch_add(1, Ordering::SeqCst);
        while revision > newest {
            // The writers go on, so there will be such a revision.
            newest = call(false, store::revision(&mut client)).await?;
        }
        match call(true, client.kv.compact(CompactionRequest { revision, physical: true })).await {
            Ok(_) => {
                compacted.fetch_max(revision, Ordering::SeqCst);
            }
            // Others have compacted further, which says nothing of what is being done.
            Err(last) if last.status.code() == Code::OutOfRange => {}
            Err(last) => return Err(last),
        }
    }
}

async fn defragment(mut client: Client) -> Unanswered {
    loop {
        if let Err(last) = call(true, client.maintenance.defragment(DefragmentRequest {})).await {
            return last;
        }
    }
}
