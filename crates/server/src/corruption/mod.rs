//! Comparing the members: all that have applied the same entries must have the same history.
//!
//! - `compare.rs`: what follows from what each of them has.
//! - `monitor.rs`: the leader compares all, now and then.
//! - `initial.rs`: a member that starts compares itself with the others.

mod compare;
mod initial;
mod monitor;

use std::time::Duration;

use futures::future::join_all;
use stentor_mvcc::Error;
use stentor_proto::Revision;
use tokio::time::{Instant, timeout};
use tonic::Status;

pub use self::initial::InitialCheckError;
pub(crate) use self::initial::check as check_initially;
pub(crate) use self::monitor::run;
use crate::node::Node;

/// So long a member may take to hash what it has; one that takes longer is not compared.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a member has, and its hash up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Up to here it is hashed.
    pub(crate) at: Revision,
    /// `None` if it can't be read there.
    pub(crate) hash: Option<u32>,
    /// The compacted revision with which the hash was taken.
    pub(crate) compacted: Option<Revision>,
    /// The newest revision.
    pub(crate) revision: Revision,
    /// The last entry of the log applied.
    pub(crate) applied: u64,
}

/// What this member has, hashed up to `at` (above zero), or up to its newest revision.
///
/// # Errors
/// A store that can't be read; `Timeout` and `RequestTooManyRequests` when too many hash it already.
pub(crate) async fn held(node: &Node, at: Option<Revision>) -> Result<Held, Error> {
    let (store, histogram) = (node.store.clone(), node.metrics.mvcc.hash_rev_duration.clone());
    let hash = move || {
        // Taken when it is this call's turn, so that waiting holds nothing.
        let (view, begun) = (store.view(), Instant::now());
        let at = at.unwrap_or(view.revision());
        let hash = match view.hash_kv(at.get()) {
            Ok(hash) => Some(hash.hash),
            Err(Error::Refused(_)) => None,
            Err(error) => return Err(error),
        };
        histogram.observe(begun.elapsed().as_secs_f64());
        let (compacted, revision, applied) = (view.compacted(), view.revision(), view.applied().index);
        Ok(Held { at, hash, compacted, revision, applied })
    };
    node.hashes.run(node.environment.workers, hash).await?
}

/// As [`held`], for another member that had applied an entry when it had a revision: waits until this one has
/// applied it too, for as long as a read may take.
///
/// # Errors
/// As [`held`].
pub(crate) async fn held_after(node: &Node, at: Revision, applied: u64) -> Result<Held, Error> {
    if node.store.view().applied().index < applied {
        // It may come in vain: then what is there says so.
        let _ = node.barrier().await;
    }
    held(node, Some(at)).await
}

/// What the other members have at the revision at which this one has hashed its own.
async fn ask_others(node: &Node, own: &Held) -> Vec<(u64, Result<Held, Status>)> {
    let ask = |id| async move {
        let answer = timeout(PATIENCE, node.peers().held(id, own.at, own.applied)).await;
        (id, answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))))
    };
    join_all(others(node).into_iter().map(ask)).await
}

/// All members but this one.
fn others(node: &Node) -> Vec<u64> {
    let own = node.identity().member_id;
    node.store.view().members().iter().map(|member| member.id).filter(|id| *id != own).collect()
}
